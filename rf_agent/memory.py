"""How much memory this process holds on a device, and has held at most; and that it keeps what it will need again."""

from __future__ import annotations

import ctypes
import sys

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Settings of glibc's `mallopt`, as its `malloc.h` numbers them."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for the next time; whether the system can (glibc).

    Without this every large tensor of a training step on a CPU is memory that the system hands out anew and fills with
    zeros, page by page, which takes up to a third of the step. The process holds more meanwhile, and slowly more and
    more, as free memory gets divided: `return_freed_memory` now and then ends that.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**28}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


def return_freed_memory() -> None:
    """Give the system back what this process has freed and kept, where the system can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def reset_peak(device: torch.device) -> int:
    """Count the peak from here on, where the system can (Linux, CUDA); returns the bytes that are held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return _status("VmRSS")
    except OSError:
        return peak_memory(device)


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held on `device`; on the CPU, 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # `getrusage` would also count what the process held that started this one.
        return _status("VmHWM")
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    """A number of bytes that Linux says of this process."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(f"{name}:"))
