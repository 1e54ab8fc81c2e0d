"""Random numbers that depend on what they are for, never on what was drawn before."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, *words: str | int, device: str = "cpu") -> torch.Generator:
    """A fresh generator for the stream that `words` name, e.g. generator(seed, "order", epoch).

    Two streams of one seed, and one stream of two seeds, are independent; a training that resumes at epoch e draws what
    an unbroken one draws there, as no generator's state outlives its epoch.
    """
    key = "\x1f".join([str(seed), *(f"{type(word).__name__}:{word}" for word in words)])
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    # Signed 64 bits, and not negative: the range that every torch backend takes.
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "big") >> 1)
