"""LeRobot's batches to what the agent takes: observations to act upon, and sequences to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from lerobot_policy_roboflamingo.configuration_roboflamingo import camera_feature
from lerobot_policy_roboflamingo.processor_roboflamingo import at_size
from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.demos.windows import ChunkBatch

TASK, PADDED, INDEX = "task", "action_is_pad", "index"


def observation(batch: Mapping[str, Any], config: AgentConfig) -> dict[str, Any]:
    """The observation of n environments, as the agent's `act` takes it.

    Args:
        batch: the cameras (n, 3, H, W), `task` (n texts, or one for all) and, for heads with proprioception,
            `observation.state` (n, S), which may be missing with `head.state_dropout`.
        config: of the agent.

    Returns:
        Each view uint8 (n, H, W, 3), `instruction`, and the state under the agent's name.

    Raises:
        ValueError: something is missing; the message names it.
    """
    found: dict[str, Any] = {"instruction": _task(batch)}
    for view, images in _images(batch, config).items():
        found[view] = at_size(images, config.image.size, config.image.resample).movedim(-3, -1).cpu().numpy()
    if config.head.proprioception and not (config.head.state_optional and batch.get(OBS_STATE) is None):
        found[config.state.key] = _given(batch, OBS_STATE, "the head reads it (head.proprioception)").cpu().numpy()
    return found


def sequences(batch: Mapping[str, Any], config: AgentConfig, ends: Tensor | None = None) -> tuple[ChunkBatch, Tensor]:
    """B sequences of T observation steps, for the loss of our own trainer.

    LeRobot repeats the last frame of an episode where a sequence reaches beyond it, and says so in `action_is_pad`.
    Such steps are left out, and such actions do not count. So it is with what comes after a change of the task within
    an episode, of which LeRobot knows nothing.

    Args:
        batch: the cameras (B, T, 3, H, W), `action` (B, (T - 1) * E + K, D), `action_is_pad` (B, (T - 1) * E + K) and,
            for heads with proprioception, `observation.state` (B, T, S): what a policy's `observation_delta_indices`
            and `action_delta_indices` ask for. E is `head.n_action_steps`.
        config: of the agent.
        ends: the frames before which demonstrations end, ascending, where episodes change their task: the batch then
            has the frame at which each sequence begins, `index` (B,). None where only episodes end.

    Returns:
        The sequences, and the images of their M valid steps: uint8 (M, V, S, S, 3).

    Raises:
        ValueError: something is missing or of another shape.
    """
    images = _images(batch, config, learns=not config.trained)
    actions = _given(batch, ACTION, "it is what is learned").cpu()
    count, length = next(iter(images.values())).shape[:2]
    first = torch.arange(length) * config.head.n_action_steps  # (T,)
    targets = first[:, None] + torch.arange(config.head.chunk_size)  # (T, K)
    expected = (count, int(targets[-1, -1]) + 1, config.action.dim)
    if tuple(actions.shape) != expected:
        raise ValueError(
            f"the batch has actions of shape {tuple(actions.shape)}, but its {length} observation steps need "
            f"{expected}: load the data set with the policy's action_delta_indices."
        )
    padded = batch.get(PADDED)
    inside = torch.ones(actions.shape[:2], dtype=torch.bool) if padded is None else ~padded.cpu().bool()
    if ends is not None:
        begins = _given(batch, INDEX, "episodes of the data set change their task").cpu().reshape(-1)
        end = ends[torch.searchsorted(ends, begins, right=True)]  # (B,)
        inside &= begins[:, None] + torch.arange(inside.shape[1]) < end[:, None]
    valid = inside[:, first]  # (B, T): the step's frame lies within the episode
    image, size = config.image, config.image.size
    chosen = [at_size(frames[valid.to(frames.device)], size, image.resample) for frames in images.values()]
    state = torch.zeros(int(valid.sum()), 0)
    if config.head.state_optional and batch.get(OBS_STATE) is None:
        state = torch.full((int(valid.sum()), config.state.dim), torch.nan)
    elif config.head.proprioception:
        state = _given(batch, OBS_STATE, "the head reads it (head.proprioception)").cpu().float()[valid]
    tasks = _task(batch)
    chunks = ChunkBatch(
        frames=torch.arange(int(valid.sum())),
        state=state,
        valid=valid,
        actions=actions.float()[:, targets],
        mask=inside[:, targets],
        instructions=[tasks] * count if isinstance(tasks, str) else list(tasks),
    )
    return chunks, torch.stack(chosen, dim=1).movedim(-3, -1)  # (M, V, S, S, 3)


def _images(batch: Mapping[str, Any], config: AgentConfig, learns: bool = False) -> dict[str, Tensor]:
    """The camera images of a batch, by view; `learns` says whether the head is a new one that begins to learn."""
    found = {}
    for view in config.views:
        key = camera_feature(view, batch)
        if key is None:
            cameras = ", ".join(name for name in batch if "image" in name and "_is_pad" not in name) or "none"
            remedy = "name it with --rename_map"
            if learns:
                remedy = "a new head takes the names of the data set's cameras, so leave out --rename_map"
            raise ValueError(
                f"the batch has no image of the camera {view!r} (its images: {cameras}), which the policy sees: "
                f"{remedy}."
            )
        found[view] = batch[key]
    return found


def _task(batch: Mapping[str, Any]) -> Any:
    return _given(batch, TASK, "the policy follows instructions: give the task in words")


def _given(batch: Mapping[str, Any], key: str, why: str) -> Any:
    if batch.get(key) is None:
        raise ValueError(f"the batch has no {key!r}, but {why}.")
    return batch[key]
