"""Where to compute, and in which number format: the one place that knows what "auto" means and what there is."""

from __future__ import annotations

import torch

from rf_agent.errors import UserError


class DeviceError(UserError, ValueError):
    """A device or number format that there is not; the message says what to give instead."""


def resolve_device(name: str | torch.device) -> torch.device:
    """The device called `name`; "auto" is a GPU of CUDA where there is one, else the CPU.

    Raises:
        DeviceError: torch knows no such device, or there is none here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"there is no device {str(name)!r}: give auto, cpu, cuda, cuda:1, ...") from error
    if device.type == "cuda":
        here = [f"cuda:{index}" for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
        if (device.index or 0) >= len(here):
            raise DeviceError(f"device {str(name)!r} was given, but there is only {', '.join(['cpu', *here])} here")
    elif device.type != "cpu":
        try:
            torch.empty(0, device=device)
        except (AssertionError, NotImplementedError, RuntimeError) as error:
            raise DeviceError(f"device {str(name)!r} was given, but torch cannot use it here: use cpu") from error
    return device


def resolve_dtype(name: str | torch.dtype) -> torch.dtype:
    """The floating-point format called `name`, such as "bfloat16". Raises DeviceError when there is none."""
    dtype = getattr(torch, name, None) if isinstance(name, str) else name
    if dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise DeviceError(f"there is no number format {str(name)!r}: give float32, bfloat16 or float16")
    return dtype
