"""What an error says, as a message of ours quotes it."""

from __future__ import annotations


def in_one_line(error: BaseException, most: int = 300) -> str:
    """`error` as one line of at most `most` characters; its type where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."
