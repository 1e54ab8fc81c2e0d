"""What this machine computes with: two machines that differ in it give other last bits."""

from __future__ import annotations


def cpu_capability() -> str:
    """The instructions that torch's kernels use here, as torch names them."""
    import torch  # takes seconds, which a command that trains nothing need not wait for

    return str(torch.backends.cpu.get_cpu_capability())


def gpu_name() -> str:
    """The first GPU's name, empty where torch finds none."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def gpu_count() -> int:
    """GPUs that torch finds here."""
    import torch

    return torch.cuda.device_count()
