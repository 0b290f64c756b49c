"""Looks: what the head remembers of frames that were seen with a text in mind.

A look sees one frame, or with some heads (`PolicyHead.frames`) several. What was computed of a frame is kept, so that
later looks that see it again do not encode it anew.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rf_agent.nn.flamingo import Flamingo
from rf_agent.nn.fusion import arrange
from rf_agent.nn.heads import History, PolicyHead, append


class Told(NamedTuple):
    """What a policy knows at N looks besides the frames."""

    tokens: Tensor
    """(N, L) ids of the prompts, right-padded."""
    mask: Tensor
    """(N, L) true for real tokens."""
    robot: Tensor | None = None
    """(N, 15) robot_obs, for heads with proprioception."""
    padding: bool = False
    """Whether to pool over padding too."""

    def at(self, rows: Tensor) -> Told:
        """That of some of the looks."""
        robot = None if self.robot is None else self.robot[rows]
        return self._replace(tokens=self.tokens[rows], mask=self.mask[rows], robot=robot)


def keep(vlm: Flamingo, head: PolicyHead, vision_tokens: Tensor) -> Tensor:
    """What is kept of frames: vision tokens (N, V, n, dv) -> latents (N, G, l, dv).

    Or the vision tokens, where the place of a frame in its window is marked before they are resampled.
    """
    return vision_tokens if head.position is not None else vlm.resample(vision_tokens)


def kept_shape(vlm: Flamingo, head: PolicyHead) -> tuple[int, ...]:
    """Shape of what is kept of one frame."""
    if head.position is not None:
        return vlm.fusion.views, vlm.vision_encoder.tokens, vlm.vision_encoder.dim
    return vlm.fusion.groups, *vlm.perceiver.latents.shape


def read(vlm: Flamingo, head: PolicyHead, kept: Tensor, told: Told) -> Tensor:
    """Features (N, f) of looks at as many frames each, oldest first: kept (N, F, ...)."""
    if head.position is not None:
        marked = kept + head.position[: kept.shape[1], None, None]  # (N, F, V, n, dv)
        kept = vlm.resample(marked.flatten(0, 1)).unflatten(0, kept.shape[:2])
    # hidden states of real tokens do not depend on padding; those of padding depend on what it may attend to
    hidden = vlm.hidden(arrange(kept), told.tokens, told.mask if told.padding else None)  # (N, L, P * d)
    return head.feature(hidden, torch.ones_like(told.mask) if told.padding else told.mask, told.robot)


def read_last(vlm: Flamingo, head: PolicyHead, kept: Tensor, ends: Tensor, seen: Tensor, told: Told) -> Tensor:
    """Features (N, f) of looks at different numbers of frames.

    Args:
        kept: (M, ...) of all frames.
        ends: (N,) which of them is the last of a look; the others stand before it.
        seen: (N,) how many a look sees; looks that see the same number are read together.
    """
    rows, parts = [], []
    for count in seen.unique().tolist():
        (same,) = torch.nonzero(seen == count, as_tuple=True)
        frames = ends[same, None] + torch.arange(1 - count, 1, device=ends.device)  # (r, F)
        rows.append(same)
        parts.append(read(vlm, head, kept[frames], told.at(same)))
    return torch.cat(parts)[torch.cat(rows).argsort()]


def step(
    vlm: Flamingo, head: PolicyHead, pixels: Tensor, told: Told, history: History
) -> tuple[Tensor, Tensor, History]:
    """One look of N environments, from pixels to actions.

    Args:
        pixels: (N, V, 3, S, S) normalised.
        told: of the N looks.
        history: not changed.

    Returns:
        pose (N, K, 6), gripper logits (N, K), and the history with this look.
    """
    kept = keep(vlm, head, vlm.encode_vision(pixels))
    if head.frames == 1:
        return head.step(read(vlm, head, kept[:, None], told), history)
    history = append(history, kept)  # of frames
    n, window = history.memory.shape[:2]
    ends = torch.arange(n, device=kept.device) * window + history.length - 1
    frames = history.memory.flatten(0, 1).to(kept.dtype)
    return *head.act(read_last(vlm, head, frames, ends, history.length, told)), history


def read_runs(vlm: Flamingo, head: PolicyHead, vision_tokens: Tensor, valid: Tensor, told: Told) -> Tensor:
    """Features of every look of some runs; each frame is resampled once where that is possible.

    A head that sees several frames sees those of the same run, as if an episode began with it.

    Args:
        vision_tokens: (M, V, n, dv), one for each valid look, run by run.
        valid: (B, T) true for the looks there are, M of them, at the beginning of each run.
        told: of the M looks.

    Returns:
        (B, T, f), zero where there is no look.
    """
    kept = keep(vlm, head, vision_tokens)
    if head.frames == 1:
        features = read(vlm, head, kept[:, None], told)
    else:
        seen = valid.cumsum(dim=1)[valid].clamp(max=head.frames)
        features = read_last(vlm, head, kept, torch.arange(len(kept), device=kept.device), seen, told)
    return features.new_zeros(*valid.shape, features.shape[-1]).masked_scatter(valid[..., None], features)
