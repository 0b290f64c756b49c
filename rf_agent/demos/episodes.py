"""One episode of a demonstrator, cut into demonstrations: one for a single task, one for every sub-task of a chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.noise import ActionNoise
from rf_agent.environments import instructed
from rf_agent.errors import UserError

Act = Callable[[dict[str, Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class EpisodeSettings:
    """How an episode is demonstrated."""

    frame_stride: int = 3
    """Images are stored at every n-th step of a task."""
    image_size: int | None = None
    """Side of the stored images; those of the environment if None."""
    noise: float = 1.0
    """Strength of the disturbances, see `rf_agent.demos.noise`."""
    patience: int = 120
    """Steps of a task after which the expert takes over from a policy."""


def env_layout(env: Any, frame_stride: int) -> Layout:
    """What demonstrations in an environment look like, by its spaces.

    Cameras are its observation's spaces of colour images, uint8 (H, W, 3). A single vector of floats is the state.

    Raises:
        UserError: its observations have no camera, or its actions do not lie in [-1, 1].
    """
    spaces = dict(getattr(env.observation_space, "spaces", {}))
    cameras = tuple(key for key, space in spaces.items() if space.dtype == np.uint8 and (space.shape or ())[2:] == (3,))
    if not cameras:
        raise UserError(f"the observations of {env.spec.id} hold no camera image: give an environment that has some")
    states = [key for key, space in spaces.items() if len(space.shape or ()) == 1 and space.dtype.kind == "f"]
    state = states[0] if len(states) == 1 else None
    actions = env.action_space
    if not (np.all(actions.low == -1) and np.all(actions.high == 1)):
        raise UserError(
            f"the actions of {env.spec.id} lie in other bounds than [-1, 1]: wrap it in Gymnasium's RescaleAction"
        )
    return Layout(
        cameras=cameras,
        action_dim=int(actions.shape[0]),
        gripper=getattr(env.unwrapped, "gripper_index", None),
        state=state,
        state_dim=int(spaces[state].shape[0]) if state else 0,
        fps=env.metadata.get("render_fps"),
        frame_stride=frame_stride,
        bounded=True,
        paraphrased=getattr(env.unwrapped, "paraphrased", False),
    )


@dataclass
class _Recording:
    """What has been seen and done since the present task was given."""

    task: str
    instruction: str
    noise: ActionNoise
    start: dict[str, NDArray[np.float64]]
    labels: list[Any] = field(default_factory=list)
    executed: list[Any] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    images: dict[str, list[Any]] = field(default_factory=dict)
    takeover: int | None = None


class Demonstrator:
    """Plays episodes of one environment; the labels are always the undisturbed actions of its expert.

    Args:
        env: an environment with an `expert()`, of single tasks or of chains.
        settings: how.
        policy: acts in place of the expert until a task has taken `settings.patience` steps. The expert then takes
            over, so that the demonstration ends in success and shows the way out of where the policy got stuck.
    """

    def __init__(self, env: Any, settings: EpisodeSettings, policy: Act | None = None) -> None:
        self.env, self.settings, self.policy = env, settings, policy
        self.layout = env_layout(env, settings.frame_stride)
        ones = [float(index != self.layout.gripper) for index in range(self.layout.action_dim)]
        self.weights = getattr(env.unwrapped, "noise_weights", ones)

    def play(self, seed: int, options: dict[str, Any]) -> tuple[list[Demonstration], str | None]:
        """One episode.

        Args:
            seed: fixes everything about it, noise included.
            options: for `env.reset`.

        Returns:
            A demonstration of every (sub-)task that succeeded, and the task at which the episode ended without
            success.
        """
        env, demos = self.env, list[Demonstration]()
        observation, info = env.reset(seed=seed, options=options)
        expert = env.unwrapped.expert()
        facts = {"seed": seed, "actor": "expert" if self.policy is None else "policy"}
        facts |= {key: info[key] for key in ("chain",) if key in info}
        facts |= {"scene": env.unwrapped.scene} if hasattr(env.unwrapped, "scene") else {}
        previous, over = "", False
        while not over:
            subtask = int(info.get("subtask", 0))
            noise = ActionNoise(self.settings.noise, np.random.default_rng([seed, 1 + subtask]), self.weights)
            recording = _Recording(info["task"], info["instruction"], noise, self._start(info, observation))
            completed, success = info.get("completed"), False
            while not over and not success:
                action = self._act(instructed(observation, info), recording, expert)
                observation, _, terminated, truncated, info = env.step(action)
                over = terminated or truncated
                # `is_success` of a chain waits for its last task.
                success = bool(info["is_success"]) if completed is None else info["completed"] > completed
            if not success:
                return demos, recording.task
            demos.append(self._demonstration(recording, {**facts, "subtask": subtask, "previous_task": previous}))
            if completed is None:
                break
            previous = recording.task
        return demos, None

    def _start(self, info: dict[str, Any], observation: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
        """What brings the start of a chain's sub-task back, where the environment's reset takes it: its seed is that of
        the whole chain."""
        bare, state = self.env.unwrapped, self.layout.state
        takes_it = state in getattr(bare, "reset_options", ()) and hasattr(bare, "scene_obs")
        if "chain" not in info or state is None or not takes_it:
            return {}
        values = {state: observation[state], "scene_obs": bare.scene_obs}
        return {key: np.array(value, np.float64) for key, value in values.items()}

    def _act(self, observation: dict[str, Any], recording: _Recording, expert: Any) -> NDArray[np.float32]:
        """Record this step and its label; the action to carry out."""
        from rf_agent.preprocess import resize

        settings, steps = self.settings, len(recording.labels)
        if steps % settings.frame_stride == 0:
            for camera in self.layout.cameras:
                image = observation[camera]
                kept = image if settings.image_size is None else resize(image, settings.image_size)
                # a copy: an environment may use the arrays of its observations again
                recording.images.setdefault(camera, []).append(np.array(kept, np.uint8))
        label = np.clip(np.asarray(expert.act(), np.float32), -1.0, 1.0)
        if self.policy is not None and steps < settings.patience:
            action = self.policy(observation)
        else:
            if self.policy is not None and recording.takeover is None:
                recording.takeover = steps
            action = recording.noise(label)
        if self.layout.state is not None:
            recording.states.append(np.array(observation[self.layout.state]))
        recording.labels.append(label)
        recording.executed.append(action)
        return action

    def _demonstration(self, recording: _Recording, facts: dict[str, Any]) -> Demonstration:
        if recording.takeover is not None:
            facts["takeover"] = recording.takeover
        return Demonstration(
            images={camera: np.stack(images) for camera, images in recording.images.items()},
            actions=np.stack(recording.labels),
            instruction=recording.instruction,
            task=recording.task,
            state=np.stack(recording.states) if recording.states else None,
            actions_executed=np.stack(recording.executed).astype(np.float32),
            attributes={"noise_level": recording.noise.level, **facts},
            start=recording.start,
        )
