"""Random changes of light and colour; no shifts, which would move objects away from the positions that are learned."""

from __future__ import annotations

import torch
from torch import Tensor


def jitter_colors(pixels: Tensor, strength: float) -> Tensor:
    """Change contrast, brightness and tint of each image.

    Args:
        pixels: (N, V, 3, H, W) normalised (zero mean, unit variance); not changed.
        strength: standard deviation of contrast (a factor) and brightness; tints are a third of it. 0 changes
            nothing.

    Returns:
        The same shape. Randomness comes from torch's global generator.
    """
    if strength == 0:
        return pixels
    shape = (*pixels.shape[:2], 1, 1, 1)
    contrast = 1 + strength * torch.randn(shape, device=pixels.device)
    brightness = strength * torch.randn(shape, device=pixels.device)
    tint = strength / 3 * torch.randn((*pixels.shape[:3], 1, 1), device=pixels.device)
    return pixels * contrast + (brightness + tint)
