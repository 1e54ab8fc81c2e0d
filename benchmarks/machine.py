"""What a benchmark says of the machine and the releases that it ran on."""

from __future__ import annotations

from study.tuning.session import machine, versions


def describe_machine() -> str:
    """Processor, cores, system and releases, in lines."""
    here = {name: text for name, text in machine().items() if name != "host"}
    return (
        f"{', '.join(here.values())} (cores last)\n{', '.join(f'{name} {text}' for name, text in versions().items())}"
    )
