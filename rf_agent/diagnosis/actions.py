"""What a policy would do at every recorded step, beside what was done."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.acting.state import PolicyState
from rf_agent.config import ActionConfig, RoboFlamingoConfig
from rf_agent.diagnosis.episodes import Episode
from rf_agent.policy import RoboFlamingoPolicy

Array = NDArray[np.float32]


@dataclass
class Entry:
    """One entry of the actions, over all steps, in normalised units."""

    index: int
    is_gripper: bool
    error: float
    """Mean absolute error of the policy; of a gripper the share of steps on the wrong side."""
    constant: float
    """That of the best constant action."""
    copy_last: float
    """That of the action before the observation, repeated."""
    correlation: float
    """Of predicted and recorded values."""
    slope: float
    """Recorded values as a multiple of the predicted ones, by least squares; 0 where the policy never moves."""


@dataclass
class ActionReport:
    """The comparison of predicted with recorded actions."""

    entries: list[Entry] = field(default_factory=list)
    steps: int = 0
    predicted: list[Array] = field(default_factory=list)
    """(T, D) of each episode, in the environment's units, in the order of the episodes."""
    left_out: list[str] = field(default_factory=list)

    @property
    def relative_error(self) -> float | None:
        """Error of the motion over that of the best constant action: 0 is perfect, 1 knows nothing."""
        return _relative([entry for entry in self.entries if not entry.is_gripper])

    @property
    def gripper_error(self) -> float | None:
        """Share of the steps with the gripper on the wrong side; None without a gripper."""
        return next((entry.error for entry in self.entries if entry.is_gripper), None)

    @property
    def scale(self) -> float | None:
        """Recorded motion as a multiple of the predicted one: the median of the entries that go together."""
        moving = [entry for entry in self.entries if not entry.is_gripper and entry.constant > 0]
        slopes = [entry.slope for entry in moving if entry.correlation > 0.5]
        return float(np.median(slopes)) if slopes and 2 * len(slopes) >= len(moving) else None


def _relative(entries: Sequence[Entry]) -> float | None:
    worst = sum(entry.constant for entry in entries)
    return sum(entry.error for entry in entries) / worst if worst > 0 else None


def why_not(policy: RoboFlamingoPolicy, episodes: Sequence[Episode]) -> str:
    """Why the policy cannot be asked about these episodes; empty if it can."""
    config, stride = policy.config, episodes[0].stride
    if config.head.replan_every % stride:
        return (
            f"the policy observes every {config.head.replan_every} steps, but the data hold an image at every {stride}"
        )
    if config.head.proprioception and not config.head.state_optional and not _hold_state(episodes, config):
        return f"the policy reads the robot's state ({config.state.dim} entries), which the data do not hold"
    return ""


def _hold_state(episodes: Sequence[Episode], config: RoboFlamingoConfig) -> bool:
    """Whether all episodes hold a state of the size that the policy reads."""
    return all(episode.state is not None and episode.state.shape[1] == config.state.dim for episode in episodes)


def predict(
    policy: RoboFlamingoPolicy,
    episodes: Sequence[Episode],
    images: Sequence[Mapping[str, Any]] | None = None,
    instructions: Sequence[str] | None = None,
) -> list[Array]:
    """The actions (T, D) that the policy takes in each episode when it is shown what was recorded.

    It acts as in an environment, with its history and its observation steps; only what it does has no effect.

    Args:
        policy: see `why_not`.
        episodes: what was recorded; they are predicted side by side.
        images: by episode and camera, instead of the recorded ones.
        instructions: instead of those of the episodes.
    """
    order = sorted(range(len(episodes)), key=lambda index: -len(episodes[index].actions))
    lengths = [len(episodes[index].actions) for index in order]
    shown = [episodes[index].images if images is None else images[index] for index in order]
    texts = [episodes[index].instruction if instructions is None else instructions[index] for index in order]
    stride, dim = episodes[0].stride, policy.config.action.dim
    found = [np.zeros((len(episode.actions), dim), np.float32) for episode in episodes]
    state: PolicyState | None = None
    for step in range(lengths[0]):
        count = sum(length > step for length in lengths)
        observation: dict[str, Any] = {
            view: np.stack([shown[row][view][step // stride] for row in range(count)]) for view in policy.config.views
        }
        observation["instruction"] = texts[:count]
        if policy.config.head.proprioception and _hold_state(episodes, policy.config):
            robot = [np.asarray(episodes[order[row]].state)[step] for row in range(count)]
            observation[policy.config.state.key] = np.stack(robot)
        if state is not None:
            state = PolicyState(*(values[:count] for values in state))
        actions, state = policy.predict(observation, state)
        for row in range(count):
            found[order[row]][step] = actions[row]
    return found


def compare(
    predicted: Sequence[Array], episodes: Sequence[Episode], config: ActionConfig, observed_every: int
) -> ActionReport:
    """Predicted actions beside recorded ones.

    Args:
        predicted: (T, D) of each episode, see `predict`.
        episodes: what was recorded.
        config: of the actions.
        observed_every: steps from one observation to the next.
    """
    recorded = [in_normal_units(episode.actions, config) for episode in episodes]
    copied = [_copied(actions, observed_every) for actions in recorded]
    p, r, c = (np.concatenate(x) for x in ([in_normal_units(x, config) for x in predicted], recorded, copied))
    report = ActionReport(steps=len(r), predicted=list(predicted))
    for index in range(r.shape[1]):
        gripper = index == config.gripper
        own, true, last = p[:, index], r[:, index], c[:, index]
        if gripper:
            middle = 0.0 if config.normalization != "none" or true.min() < 0 else 0.5
            opened = true > middle
            errors = [float(((x > middle) != opened).mean()) for x in (own, last)]
            constant = float(min(opened.mean(), 1 - opened.mean()))
        else:
            errors = [float(np.abs(x - true).mean()) for x in (own, last)]
            constant = float(np.abs(true - np.median(true)).mean())
        varies = own.std() > 1e-9 and true.std() > 1e-12
        correlation = float(np.corrcoef(own, true)[0, 1]) if varies else 0.0
        energy = float((own.astype(np.float64) ** 2).sum())
        slope = float((own.astype(np.float64) * true).sum()) / energy if energy > 1e-12 else 0.0
        report.entries.append(Entry(index, gripper, errors[0], constant, errors[1], correlation, slope))
    return report


def in_normal_units(actions: Array, config: ActionConfig) -> Array:
    """Actions in the numbers around zero that the network works with, but nothing is cut off."""
    if config.normalization == "none":
        return actions
    low, high = (np.array(values, np.float32) for values in (config.low, config.high))
    return 2 * (actions - low) / (high - low) - 1


def relative_error(predicted: Sequence[Array], episodes: Sequence[Episode], config: ActionConfig) -> float:
    """See `ActionReport.relative_error`; 1 where the recorded motion never changes."""
    found = compare(predicted, episodes, config, 1).relative_error
    return 1.0 if found is None else found


def shortened(episodes: Sequence[Episode], frames: int) -> list[Episode]:
    """The beginnings of episodes, of so many frames each at most."""
    return [
        dataclasses.replace(
            episode,
            images={camera: values[:frames] for camera, values in episode.images.items()},
            actions=episode.actions[: frames * episode.stride],
            executed=episode.executed[: frames * episode.stride],
            state=None if episode.state is None else episode.state[: frames * episode.stride],
        )
        for episode in episodes
    ]


def beginnings(predicted: Sequence[Array], episodes: Sequence[Episode]) -> list[Array]:
    """What was predicted for the beginnings of some episodes: what follows has no effect on it.

    Args:
        predicted: of the whole ones, and perhaps of more.
        episodes: see `shortened`.
    """
    return [actions[: len(episode.actions)] for actions, episode in zip(predicted, episodes, strict=False)]


def _copied(actions: Array, every: int) -> Array:
    """At each step the action before the last observation; nothing is known at the first one, so the first is used."""
    rows = np.arange(len(actions)) // every * every - 1
    return actions[np.maximum(rows, 0)]
