"""Observations to tensors: one way for acting, collecting and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from rf_agent.config import ImageConfig, StateConfig


def resize(images: np.ndarray, size: int, resample: str = "bilinear") -> np.ndarray:
    """Camera images at the policy's size, by area-weighted (antialiased) interpolation.

    The only resize there is: a demonstration stored at the policy's size is bit for bit what the policy sees.

    Args:
        images: uint8 (..., H, W, 3).
        size: side of the result in pixels.
        resample: `bilinear`, or `bicubic`, which is Pillow's to the last bit, of the middle of images that are not
            square: a published model must see what it saw in training.

    Returns:
        uint8 (..., size, size, 3); the input itself when it has that size already.

    Raises:
        ValueError: the images are no uint8 RGB.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] != 3 or not all(images.shape[-3:]):
        raise ValueError(
            f"images of dtype {images.dtype} and shape {images.shape} were given; give uint8 (..., H, W, 3)."
        )
    if images.shape[-3:-1] == (size, size):
        return images
    # (N, H, W, 3); torch warns of arrays that must not be written, such as those of an image file
    flat = np.require(images.reshape(-1, *images.shape[-3:]), requirements=("C", "W"))
    shape = (*images.shape[:-3], size, size, 3)
    if resample == "bicubic":
        height, width = flat.shape[1:3]
        side = min(height, width)  # CLIP's preprocessing crops what is not square
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        resized = (Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box) for image in flat)
        return np.stack([np.asarray(image) for image in resized]).reshape(shape)
    channels_last = torch.from_numpy(flat).permute(0, 3, 1, 2)
    out = F.interpolate(channels_last, size=(size, size), mode="bilinear", antialias=True)
    return np.ascontiguousarray(out.permute(0, 2, 3, 1).numpy()).reshape(shape)


def normalise(images: Tensor, config: ImageConfig) -> Tensor:
    """uint8 images (..., S, S, 3) on any device -> float32 pixels (..., 3, S, S), zero mean and unit variance."""
    mean, std = (torch.tensor(values, device=images.device) for values in (config.mean, config.std))
    scaled = images.float() * (1 / (255 * std)) - mean / std
    return scaled.movedim(-1, -3)


def pixels(
    observation: Mapping[str, Any],
    views: Sequence[str],
    config: ImageConfig,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The camera images of a batch of observations.

    Args:
        observation: for each view uint8 (N, H, W, 3); sizes may differ between views.
        views: names of the camera images, in the policy's order.

    Returns:
        float32 (N, V, 3, S, S), normalised, on `device`.
    """
    resized = [resize(observation[view], config.size, config.resample) for view in views]
    return normalise(torch.from_numpy(np.stack(resized, axis=1)).to(device), config)  # from (N, V, S, S, 3)


def check_state(observation: Mapping[str, Any], config: StateConfig, n: int, single: bool) -> None:
    """Raise ValueError unless an observation has a finite state of the robot (n, S), or (S,) for a single one."""
    key = config.key
    if key not in observation:
        raise ValueError(f"the observation has no {key!r}, which the head reads (head.proprioception); add it.")
    values, expected = np.asarray(observation[key], dtype=np.float64), (config.dim,) if single else (n, config.dim)
    if values.shape != expected:
        raise ValueError(f"{key} has shape {values.shape}; the head (head.proprioception) reads {expected}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{key} has values that are not finite, and the head (head.proprioception) reads them.")


def batch_size(observation: Mapping[str, Any], views: Sequence[str]) -> tuple[int, bool]:
    """Number of observations in `observation`, and whether it is a single one (without a batch axis).

    Raises:
        ValueError: a camera image or the instruction is missing, or the shapes do not fit together.
    """
    if not isinstance(observation, Mapping):
        raise ValueError(
            f"the observation is of type {type(observation).__name__}; give a dictionary with {', '.join(views)} and "
            "instruction (env.reset() returns it and info: give the first of them)."
        )
    for key in (*views, "instruction"):
        if key not in observation:
            raise ValueError(
                f"the observation has no {key!r} (it has {', '.join(sorted(observation))}); "
                f"the policy needs {', '.join(views)} and instruction."
            )
    shapes = {view: np.shape(observation[view]) for view in views}
    ranks, sizes = {len(shape) for shape in shapes.values()}, {shape[0] for shape in shapes.values() if shape}
    if ranks == {3}:
        return 1, True
    if ranks == {4} and len(sizes) == 1:
        return sizes.pop(), False
    raise ValueError(f"camera images of shapes {shapes} were given; give (H, W, 3) each, or (n, H, W, 3) each.")
