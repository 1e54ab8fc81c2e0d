"""What a process needs before it trains: threads, an allocator that keeps its memory, deterministic kernels."""

from __future__ import annotations

import ctypes
import os
import sys

import faiss
import torch

from search_spaces.trial_config import Compute

# glibc's mallopt parameters and their values in bytes.
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 512 * 1024**2
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 32 * 1024**2


def prepare_process(compute: Compute) -> None:
    """Set this process up for a trial; trials of one process may differ in threads.

    faiss follows torch's thread count only by chance, so both are set. On a GPU, kernels that are not deterministic
    give way to ones that are, with a warning where there is none.
    """
    torch.set_num_threads(compute.threads)
    faiss.omp_set_num_threads(compute.threads)
    _keep_freed_memory()
    if compute.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
        # torch's own defaults differ between the two: products off, convolutions on.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = compute.tf32


def _keep_freed_memory() -> None:
    """Tell glibc not to give tensors' memory back to the kernel after each use.

    Each activation above 128 KiB would otherwise be mapped and its pages cleared anew in every step: a quarter of the
    training time of a small network. The bits are the same. Where there is no mallopt, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


def autocast(compute: Compute) -> torch.autocast:
    """The context in which the network runs forward; it does nothing for float32."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return torch.autocast(compute.device, dtypes[compute.precision], enabled=compute.precision != "float32")
