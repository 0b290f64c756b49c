"""Recorded actions carried out again in the environment: do they still succeed, and does the same happen?"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Layout
from rf_agent.diagnosis.episodes import Episode
from rf_agent.diagnosis.gains import unit_ratios

SAME = 0.03
"""Mean difference of the state's entries, as a share of how much they vary, up to which two states are the same."""
TRACKED = 0.01
"""The same for the states in which images are compared, where a small motion shows."""
REVERSED = -0.5
"""A ratio below which an entry moves the robot the other way."""
METRES, RADIANS = 0.02, 0.05
"""What 1 stands for in CALVIN's actions: motion of the end effector a step."""

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass
class Replay:
    """What came of an episode's actions."""

    name: str
    task: str
    steps: int
    success: bool | None
    """None where the environment does not say whether the task was done."""
    images: dict[str, list[Any]]
    """By camera: what the environment showed at the frames of the data, as it gave it."""
    state: NDArray[np.float32] | None
    """(steps, S) before each action; None where data or environment have none, or of other sizes."""
    deviation: NDArray[np.float64] | None
    """(steps,) difference of the state from the recorded one, see `SAME`."""
    instruction: str
    """What the environment asked for."""
    renderer: str = ""

    @property
    def same_start(self) -> bool | None:
        """Whether it began in the recorded state; None if there is no state to tell by."""
        return None if self.deviation is None else bool(self.deviation[0] <= SAME)

    @property
    def tracked(self) -> int:
        """Steps, from the first on, in which the environment was in the recorded state, or in what passes for it."""
        if self.deviation is None:
            return 1 if self.success is False else self.steps
        (lost,) = np.nonzero(self.deviation > (TRACKED if self.same_start else SAME))
        return int(lost[0]) if len(lost) else self.steps


@dataclass
class Trial:
    """A change of the recorded actions, and whether they do better with it."""

    kind: str
    """What it undoes: `action_scale`, `action_axis` or `gripper_sign`."""
    label: str
    factors: NDArray[np.float64]
    """(D,) by which the actions were multiplied; NaN for an entry whose two values were exchanged."""
    successes: int = 0
    episodes: int = 0
    deviation: float | None = None

    def explains(self, plain: Trial) -> float:
        """Share of what went wrong without the change that does not with it, from 0 to 1."""
        if self.deviation is not None and plain.deviation:
            return float(np.clip(1 - self.deviation / plain.deviation, 0, 1))
        return max(0.0, (self.successes - plain.successes) / max(1, self.episodes))


@dataclass
class ReplayReport:
    """All replays."""

    replays: list[Replay] = field(default_factory=list)
    plain: Trial | None = None
    """Those of the episodes that went wrong, as they are."""
    trials: list[Trial] = field(default_factory=list)
    """The same with changed actions."""
    ratios: NDArray[np.float64] | None = None
    """See `rf_agent.diagnosis.gains.unit_ratios`."""
    left_out: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """The median of `ratios` without their signs; None where the state does not tell."""
        return None if self.ratios is None else float(np.nanmedian(np.abs(self.ratios)))

    @property
    def reversed(self) -> list[int]:
        """Entries of the actions that move the robot the other way than in the data."""
        return [] if self.ratios is None else np.flatnonzero(self.ratios < REVERSED).tolist()

    @property
    def judged(self) -> int:
        """Replays of which the environment says how they went."""
        return sum(replay.success is not None for replay in self.replays)

    @property
    def successes(self) -> int:
        return sum(replay.success is True for replay in self.replays)

    @property
    def reproduced(self) -> bool | None:
        """Whether most episodes began in their recorded states; None if that cannot be told."""
        if self.left_out:
            return False  # the robot may begin in the same pose, but among other things
        told = [replay.same_start for replay in self.replays if replay.same_start is not None]
        return None if not told else sum(told) * 2 > len(told)


def begin(env: Any, episode: Episode) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reset an environment to the start of an episode, as nearly as it takes the options."""
    seed = zlib.crc32(episode.name.encode()) if episode.seed is None else episode.seed
    known = {"task": episode.task}
    if "scene" in getattr(env.unwrapped, "reset_options", ()) and "scene" in episode.attributes:
        known["scene"] = str(episode.attributes["scene"])
    options = {key: value for key, value in episode.start.items() if value is not None} | known
    attempts: list[dict[str, Any] | None] = [options, known, None]
    for choice in attempts[:-1]:
        try:
            return env.reset(seed=seed, options=choice)
        except (ValueError, KeyError, TypeError):  # no such task or option there, or a state that rules the task out
            continue
    return env.reset(seed=seed)


def replay(
    env: Any, episode: Episode, layout: Layout, scale: NDArray[np.float64] | None, change: Change | None = None
) -> Replay:
    """Carry out the actions of an episode that were carried out when it was recorded.

    Args:
        env: of single tasks, or any whose reset takes a seed.
        episode: what was recorded.
        layout: of the data.
        scale: see `rf_agent.diagnosis.episodes.state_scale`.
        change: made to all actions.
    """
    observation, info = begin(env, episode)
    instruction, renderer = str(info.get("instruction", "")), str(info.get("renderer", ""))
    actions = episode.executed if change is None else change(episode.executed)
    images: dict[str, list[Any]] = {camera: [] for camera in layout.cameras if camera in observation}
    states: list[Any] = []
    success: bool | None = None
    steps = 0
    for step, action in enumerate(actions):
        if step % episode.stride == 0:
            for camera, kept in images.items():
                kept.append(np.array(observation[camera]))
        if layout.state is not None and layout.state in observation:
            states.append(np.array(observation[layout.state], np.float32))
        observation, reward, terminated, truncated, info = env.step(action)
        # a reward alone may be dense; where `info` names a task it says whether that is done
        said = info.get("is_success", info.get("success", float(reward) > 0 if "task" in info else None))
        if said is not None:
            success = bool(success or said)
        steps = step + 1
        if terminated or truncated:
            break
    state, deviation = None, None
    if states and scale is not None and episode.state is not None and states[0].shape == scale.shape:
        state = np.stack(states)
        difference = np.abs(state.astype(np.float64) - episode.state[: len(state)])
        if (layout.state, layout.state_dim) == ("robot_obs", 15):  # CALVIN's Euler angles begin again at pi
            difference[:, 3:6] = np.minimum(difference[:, 3:6], np.abs(2 * np.pi - difference[:, 3:6]))
        deviation = np.minimum(difference / scale, 1.0).mean(axis=1)
    return Replay(episode.name, episode.task, steps, success, images, state, deviation, instruction, renderer)


def replay_all(
    env: Any,
    make_trial_env: Callable[[], Any],
    episodes: Sequence[Episode],
    layout: Layout,
    scale: NDArray[np.float64] | None,
    trial_episodes: int = 3,
) -> ReplayReport:
    """Replay episodes, and those that go wrong again with changed actions.

    Args:
        env: shows an image at every frame of the data.
        make_trial_env: makes the same, whose images do not matter, when `env` is not needed any more: it may close it.
        episodes: what was recorded.
        layout: of the data.
        scale: see `rf_agent.diagnosis.episodes.state_scale`.
        trial_episodes: how many of them are tried with changes, the shortest.
    """
    report = ReplayReport()
    if not any(episode.begins_again for episode in episodes):
        report.left_out.append(
            "the data say neither the seeds nor the states that their episodes began with, so replays begin elsewhere "
            "and their outcome says little"
        )
    for episode in episodes:
        report.replays.append(replay(env, episode, layout, scale))
    report.ratios = unit_ratios(episodes, [done.state for done in report.replays], layout.gripper)
    wrong = [
        episode
        for episode, done in zip(episodes, report.replays, strict=True)
        if episode.begins_again
        and done.same_start is not False
        and (done.success is False or done.tracked < done.steps)
    ]
    if report.reproduced is None and report.successes * 2 > report.judged:
        wrong = []  # chance may decide about the others
    if not wrong or report.left_out:
        return report
    chosen = sorted(wrong, key=lambda episode: len(episode.actions))[:trial_episodes]
    trial_env = make_trial_env()
    report.plain = _trial(trial_env, chosen, layout, scale, Trial("", "as recorded", np.ones(layout.action_dim)))
    for trial in changes(layout, trial_env.action_space, report.ratios):
        report.trials.append(_trial(trial_env, chosen, layout, scale, trial))
        if report.trials[-1].explains(report.plain) > 0.95:
            break
    return report


def changes(layout: Layout, space: Any, ratios: NDArray[np.float64] | None = None) -> list[Trial]:
    """What may be wrong with the actions between data and environment.

    Args:
        layout: of the data.
        space: of the environment's actions.
        ratios: see `rf_agent.diagnosis.gains.unit_ratios`.
    """
    dim, gripper = layout.action_dim, layout.gripper
    found: list[Trial] = []

    def add(kind: str, label: str, factors: Sequence[float] | NDArray[np.float64]) -> None:
        values = np.asarray(factors, np.float64).copy()
        if gripper is not None and kind != "gripper_sign":
            values[gripper] = 1.0
        if not np.allclose(values, 1.0):
            found.append(Trial(kind, label, values))

    if gripper is not None:
        exchanged = np.ones(dim)
        exchanged[gripper] = np.nan
        add("gripper_sign", "the gripper's two values exchanged", exchanged)
    if dim == 7 and gripper == 6:
        units = np.array([METRES] * 3 + [RADIANS] * 3 + [1.0])
        add("action_scale", "from metres and radians to shares of a step (0.02 m, 0.05 rad)", 1 / units)
        add("action_scale", "from shares of a step (0.02 m, 0.05 rad) to metres and radians", units)
    low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
    if np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all():
        span = (high - low) / 2
        add("action_scale", "from [-1, 1] to the environment's bounds", span)
        add("action_scale", "from the environment's bounds to [-1, 1]", 1 / span)
    if ratios is not None and (ratios < REVERSED).any():
        reversed_axes = ratios < REVERSED
        listed = ", ".join(map(str, np.flatnonzero(reversed_axes)))
        add("action_axis", f"the sign of entry {listed} changed", np.where(reversed_axes, -1.0, 1.0))
    elif ratios is not None and not 0.8 < np.nanmedian(ratios) < 1.25:
        filled = np.where(np.isnan(ratios), np.nanmedian(ratios), ratios)
        add("action_scale", f"times {np.nanmedian(ratios):.3g}, as far as the robot moved", filled)
    for factor in (0.5, 2.0, 0.1, 10.0):
        add("action_scale", f"times {factor:g}", np.full(dim, factor))
    return found


def changed(actions: NDArray[np.float32], factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Actions times factors; where a factor is NaN, the entry's two values are exchanged."""
    exchanged = np.isnan(factors)
    out = actions * np.where(exchanged, 1.0, factors)
    entries = actions[:, exchanged]
    # -1 and 1, or 0 and 1: an entry that never changes is one of the first two
    zero_based = entries.min(initial=0.0) >= 0 and bool((entries == 0).any())
    out[:, exchanged] = 1 - entries if zero_based else -entries
    return out.astype(np.float32)


def _trial(
    env: Any, episodes: Sequence[Episode], layout: Layout, scale: NDArray[np.float64] | None, trial: Trial
) -> Trial:
    deviations = []
    for episode in episodes:
        try:
            done = replay(env, episode, layout, scale, lambda actions: changed(actions, trial.factors))
        except (ValueError, AssertionError):  # an environment may refuse actions beyond its bounds
            trial.episodes += 1
            continue
        trial.episodes += 1
        trial.successes += done.success is True
        if done.deviation is not None:
            # after the end of a replay that broke off, nothing is as it was recorded
            missing = [] if done.success is not False else [1.0] * (len(episode.actions) - done.steps)
            deviations.append(float(np.mean([*done.deviation, *missing])))
    if deviations:
        trial.deviation = float(np.mean(deviations))
    return trial
