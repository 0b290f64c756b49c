"""One episode of a demonstrator, cut into demonstrations: one for a single task, one for every sub-task of a chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.noise import ActionNoise
from rf_agent.demos.store import VIEWS, Demo

Act = Callable[[dict[str, Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class EpisodeSettings:
    """How an episode is demonstrated."""

    frame_stride: int = 3
    """Frames are stored at every n-th step of a task."""
    image_size: int | None = None
    """Side of the stored frames; those of the environment if None."""
    noise: float = 1.0
    """Strength of the disturbances, see `rf_agent.demos.noise`."""
    patience: int = 120
    """Steps of a task after which the expert takes over from a policy."""


@dataclass
class _Recording:
    """What has been seen and done since the present task was given."""

    task: str
    instruction: str
    subtask: int
    noise: ActionNoise
    labels: list[Any] = field(default_factory=list)
    executed: list[Any] = field(default_factory=list)
    robot_obs: list[Any] = field(default_factory=list)
    frames: dict[str, list[Any]] = field(default_factory=lambda: {view: [] for view in VIEWS})
    takeover: int | None = None


def demonstrate(
    env: Any, seed: int, options: dict[str, Any], settings: EpisodeSettings, policy: Act | None = None
) -> tuple[list[Demo], str | None]:
    """Play an episode; the labels are always the undisturbed actions of the expert.

    Args:
        env: an environment with an `expert()`, of a single task or of a chain.
        seed: of the episode; it fixes everything, noise included.
        options: for `env.reset`.
        settings: how.
        policy: acts in place of the expert until a task has taken `settings.patience` steps. The expert then takes
            over, so that the demonstration ends in success and shows the way out of where the policy got stuck.

    Returns:
        A demonstration of every (sub-)task that succeeded, and the task at which the episode ended without success.
    """
    observation, info = env.reset(seed=seed, options=options)
    expert, demos = env.unwrapped.expert(), []
    facts = {"seed": seed, "scene": env.unwrapped.scene, "actor": "expert" if policy is None else "policy"}
    if "chain" in info:
        facts["chain"] = info["chain"]
    previous, over = "", False
    while not over:
        subtask = int(info.get("subtask", 0))
        noise = ActionNoise(settings.noise, np.random.default_rng([seed, 1 + subtask]))
        recording = _Recording(info["task"], info["instruction"], subtask, noise)
        reward = 0.0
        while not over and reward == 0.0:
            action = _act(observation, recording, expert, settings, policy)
            observation, reward, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        # The reward is that of the task in hand; `is_success` of a chain waits for its last one.
        success = reward > 0 if "chain" in info else bool(info["is_success"])
        if not success:
            return demos, recording.task
        demos.append(_demo(recording, {**facts, "subtask": subtask, "previous_task": previous}))
        previous = recording.task
    return demos, None


def _act(
    observation: dict[str, Any], recording: _Recording, expert: Any, settings: EpisodeSettings, policy: Act | None
) -> NDArray[np.float32]:
    """Note this step and its label; the action to carry out."""
    from rf_agent.preprocess import resize

    steps = len(recording.labels)
    if steps % settings.frame_stride == 0:
        for view in VIEWS:
            image = observation[view]
            recording.frames[view].append(
                image if settings.image_size is None else resize(image, settings.image_size)
            )
    label = np.clip(np.asarray(expert.act(), np.float32), -1.0, 1.0)
    if policy is not None and steps < settings.patience:
        action = policy(observation)
    else:
        if policy is not None and recording.takeover is None:
            recording.takeover = steps
        action = recording.noise(label)
    recording.robot_obs.append(observation["robot_obs"])
    recording.labels.append(label)
    recording.executed.append(action)
    return action


def _demo(recording: _Recording, facts: dict[str, Any]) -> Demo:
    if recording.takeover is not None:
        facts["takeover"] = recording.takeover
    return Demo(
        actions=np.stack(recording.labels),
        actions_executed=np.stack(recording.executed).astype(np.float32),
        robot_obs=np.stack(recording.robot_obs).astype(np.float32),
        frames={view: np.stack([np.asarray(i, np.uint8) for i in images]) for view, images in recording.frames.items()},
        attributes={
            "task": recording.task,
            "instruction": recording.instruction,
            "success": True,
            "noise_level": recording.noise.level,
            **facts,
        },
    )
