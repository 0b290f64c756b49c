"""How much memory this process holds on a device, and has held at most."""

from __future__ import annotations

import sys

import torch


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
