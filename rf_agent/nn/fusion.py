"""Fusion: how the vision tokens of several views become media tokens, and how often the text is read.

To add one: subclass `Fusion` and add it to `FUSIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rf_agent.config import ConfigError


class Fusion:
    """Each view resampled alone by one resampler, all of it read in one pass ("post", the paper's choice).

    V views, n tokens of a view, G groups of l latents. `resample` also takes fewer views, such as the one of a photo;
    the latents are then those of fewer groups. A fusion holds no parameters: `rf_agent.nn.flamingo.Flamingo`
    does.

    Args:
        views: V.

    Attributes:
        views: V.
        resamplers: how many of them there are.
        groups: G.
        passes: how often the language model reads the text for one step; its media are cut into as many parts.
    """

    def __init__(self, views: int) -> None:
        self.views, self.resamplers, self.groups, self.passes = views, 1, views, 1

    def resample(self, resamplers: Sequence[nn.Module], tokens: Tensor) -> Tensor:
        """Vision tokens (N, V, n, dv) -> latents (N, G, l, dv)."""
        return resamplers[0](tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])


class PreFusion(Fusion):
    """The tokens of all views go through the resampler together, into the latents of one view."""

    def __init__(self, views: int) -> None:
        super().__init__(views)
        self.groups = 1

    def resample(self, resamplers: Sequence[nn.Module], tokens: Tensor) -> Tensor:
        """Vision tokens (N, V, n, dv) -> latents (N, 1, l, dv)."""
        return resamplers[0](tokens.flatten(1, 2))[:, None]


class SeparateFusion(Fusion):
    """As "post", but each view has a resampler of its own."""

    def __init__(self, views: int) -> None:
        super().__init__(views)
        self.resamplers = views

    def resample(self, resamplers: Sequence[nn.Module], tokens: Tensor) -> Tensor:
        """Vision tokens (N, V, n, dv) -> latents (N, V, l, dv)."""
        pairs = zip(resamplers, tokens.unbind(1), strict=False)  # a photo is one view: the first resampler's
        return torch.stack([resampler(view) for resampler, view in pairs], dim=1)


class TwoWayFusion(Fusion):
    """As "post", but the text is read once for each view, and the hidden states are joined."""

    def __init__(self, views: int) -> None:
        super().__init__(views)
        self.passes = views


FUSIONS: dict[str, type[Fusion]] = {
    "post": Fusion,
    "pre": PreFusion,
    "separate": SeparateFusion,
    "two_way": TwoWayFusion,
}


def build_fusion(name: str, views: int) -> Fusion:
    """The fusion called `name` for so many views. Raises ConfigError with the known ones."""
    if name not in FUSIONS:
        raise ConfigError(f"fusion is {name!r}, but known ones are {', '.join(FUSIONS)}.")
    return FUSIONS[name](views)


def arrange(latents: Tensor) -> Tensor:
    """Media tokens of a step: a group (view) after the other; in a group, latent by latent through all frames.

    Args:
        latents: (N, F, G, l, dv) of F frames, oldest first.

    Returns:
        (N, G * l * F, dv).
    """
    return latents.permute(0, 2, 3, 1, 4).flatten(1, 3)


def with_other_resamplers(weights: Mapping[str, Tensor], resamplers: int) -> dict[str, Tensor]:
    """Tensors of a `Flamingo` with one resampler as those of one with several, which begin as copies of it.

    Args:
        weights: by name; those of further resamplers are kept where they are there.
        resamplers: how many there shall be.
    """
    first, further = "perceiver.", "other_perceivers."
    shared = {name[len(first) :]: tensor for name, tensor in weights.items() if name.startswith(first)}
    copies = {f"{further}{i}.{name}": tensor for i in range(resamplers - 1) for name, tensor in shared.items()}
    return {**copies, **weights}
