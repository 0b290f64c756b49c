"""Random changes of images in training: light and colour, and shifts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COLOR_NUMBERS = 5
"""Random numbers of a change of colour: contrast, brightness, and a tint of three channels."""


def jitter_colors(pixels: Tensor, strength: float, numbers: Tensor | None = None) -> Tensor:
    """Change contrast, brightness and tint of each image.

    Args:
        pixels: (N, V, 3, H, W) normalised (zero mean, unit variance); not changed.
        strength: standard deviation of contrast (a factor) and brightness; tints are a third of it. 0 changes
            nothing.
        numbers: (N, V, 5) of a standard normal distribution; drawn from torch's global generator if not given.

    Returns:
        The same shape.
    """
    if strength == 0:
        return pixels
    if numbers is None:
        numbers = torch.randn((*pixels.shape[:2], COLOR_NUMBERS), device=pixels.device)
    contrast, brightness, tint = numbers[..., None, None].split([1, 1, 3], dim=2)
    return pixels * (1 + strength * contrast) + (strength * brightness + strength / 3 * tint)


def shift(pixels: Tensor, offsets: Tensor) -> Tensor:
    """Move images by whole pixels; what comes in from outside repeats the border.

    Args:
        pixels: (N, V, 3, H, W).
        offsets: (N, V, 2) integers: the image of pixel (y, x) comes from (y + dy, x + dx).

    Returns:
        The same shape. Like DrQ's random shift (arXiv:2004.13649), without its interpolation.
    """
    n, views, channels, height, width = pixels.shape
    ys = (torch.arange(height, device=pixels.device) + offsets[..., :1]).clamp(0, height - 1)  # (N, V, H)
    xs = (torch.arange(width, device=pixels.device) + offsets[..., 1:]).clamp(0, width - 1)  # (N, V, W)
    rows = pixels.gather(3, ys[:, :, None, :, None].expand(n, views, channels, height, width))
    return rows.gather(4, xs[:, :, None, None, :].expand(n, views, channels, height, width))


def draw_offsets(counts: Sequence[int], limits: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Shifts (N, V, 2), one for all frames of a sequence, so that a window moves as one.

    Args:
        counts: frames of each sequence, N in all. Sequences of one frame shift every frame by itself.
        limits: V, the largest shift of each view in pixels.
        rng: of the randomness.
    """
    largest = np.asarray(limits)[:, None]
    drawn = rng.integers(-largest, largest + 1, (len(counts), len(limits), 2))
    return drawn.repeat(counts, axis=0)


def draw_colors(counts: Sequence[int], views: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Numbers (N, V, 5) for `jitter_colors`, the same for all frames of a sequence; arguments as above."""
    return rng.standard_normal((len(counts), views, COLOR_NUMBERS), np.float32).repeat(counts, axis=0)
