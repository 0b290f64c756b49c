"""The robot of some demonstrations as part of a policy's configuration: cameras, actions, state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rf_agent.config import ActionConfig, PolicyConfig, StateConfig
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import DemoReader, Record, open_demos
from rf_agent.errors import ConfigError, UserError
from rf_agent.normalization import NORMALIZATIONS, action_range, state_statistics
from rf_agent.progress import Reporter

Readers = Sequence[DemoReader]
UNIT_REACH = 0.9
"""Largest motion from which on actions in [-1, 1] are taken for commands whose range that is."""


def open_all(paths: Sequence[str | Path], reporter: Reporter | None = None) -> list[DemoReader]:
    """The readers of demonstrations of one robot; every demonstration is checked.

    Raises:
        DemoError: no files, a bad demonstration (file and demonstration are named), or files of different robots.
        FileNotFoundError: one of them is not there.
    """
    if not paths:
        raise DemoError("no demonstrations were given: name one or more files or folders with --demos")
    seen: set[Path] = set()
    readers = []
    for path in paths:
        if (real := Path(path).resolve()) in seen:  # episodes that are held out would be trained on, too
            raise DemoError(f"{path} is given twice: name every file once")
        seen.add(real)
        readers.append(open_demos(path, reporter))
        if (found := next(readers[-1].problems(), None)) is not None:
            raise DemoError(f"{path}: {found}; delete that demonstration or collect the file again")
    for name, said, text in (
        ("action_dim", lambda layout: True, "actions of shape (T, {})"),
        ("gripper", lambda layout: layout.gripper_known, "its gripper at entry {} of the actions"),
        ("fps", lambda layout: layout.fps is not None, "{} actions a second"),
    ):
        known = [(reader.path, getattr(reader.layout, name)) for reader in readers if said(reader.layout)]
        for path, value in known:
            if value != known[0][1]:
                raise DemoError(
                    f"{path} has {text.format(value)}, but {known[0][0]} has {text.format(known[0][1])}: train on "
                    "demonstrations of one robot at one rate"
                )
    return readers


def fitted(
    config: PolicyConfig,
    readers: Readers,
    trained: bool,
    normalization: str = "auto",
    fixed_views: bool = False,
    state_changes: Sequence[str] = (),
) -> PolicyConfig:
    """A configuration for the robot of some demonstrations.

    Cameras, sizes, gripper and state that a preset names are kept where the demonstrations have the same. Else they are
    taken from the demonstrations. A policy that has learned to act must fit them as it is.

    Args:
        config: of a preset, or of the policy that training starts from.
        readers: see `open_all`.
        trained: whether the policy has learned to act.
        normalization: of actions: `none`, `min_max`, `quantiles`, or `auto`: `none` where the environment bounds them
            to [-1, 1], else `min_max`.
        fixed_views: whether the cameras must be those of `config`, too.
        state_changes: what is to be read of the state, as `PolicyConfig.changed` takes it (`state.entries=[0,1]`); the
            rest is as the demonstrations have it.

    Raises:
        DemoError: the demonstrations do not fit the policy; the message names the key, both shapes and the file.
    """
    if normalization not in ("auto", *NORMALIZATIONS):
        raise DemoError(f"--action-normalization is {normalization!r}: give auto, none, min_max or quantiles")
    first = readers[0].path
    fps = next((reader.layout.fps for reader in readers if reader.layout.fps is not None), None)
    if trained and fps is not None and config.fps is not None and fps != config.fps:
        raise DemoError(
            f"{first} has {fps:g} actions a second, but the policy was trained at {config.fps:g}: train a new policy "
            "(without --init, or with --no-init-head)"
        )
    views = _views(config, readers, trained or fixed_views)
    action = _action(config.action, readers, trained, normalization)
    if fps is None and (trained or (views, action) == (config.views, config.action)):
        fps = config.fps  # the same robot, whose files do not say it
    stateless = all(reader.layout.state is None for reader in readers)
    if config.trained and not trained and config.head.state_optional and stateless:
        # a new head on a policy that has also learned without the state: there is none to learn to read
        config = dataclasses.replace(
            config, head=dataclasses.replace(config.head, proprioception=False, state_dropout=0.0)
        )
    state = _state(config, readers, trained, state_changes)
    return dataclasses.replace(config, views=views, action=action, state=state, fps=fps)


def described(config: PolicyConfig) -> str:
    """The robot of a configuration in a line."""
    action, reads = config.action, config.head.proprioception
    gripper = "no gripper" if action.gripper is None else f"gripper at entry {action.gripper}"
    return (
        f"robot: cameras {', '.join(config.views)}; {action.dim} action entries, {gripper}, normalization "
        f"{action.normalization}; {f'state {config.state.key} ({config.state.dim})' if reads else 'no state is read'}"
    )


def check_overrides(shape: PolicyConfig, changes: Sequence[str]) -> None:
    """Refuse changes that the demonstrations do not allow, as they say what the robot is.

    Args:
        shape: what `fitted` made.
        changes: all that were asked for, as `PolicyConfig.changed` takes them.

    Raises:
        UserError: one of them did not last.
    """
    for change in changes:
        try:
            kept = shape.changed([change]) == shape
        except ConfigError:
            kept = False
        if not kept:
            key = change.partition("=")[0]
            value: Any = shape.to_dict()
            for name in key.split("."):
                value = value[name]
            hint = ", or give --action-normalization" if key == "action.normalization" else ""
            raise UserError(
                f"--override {change}: the demonstrations say what {key} is, {value!r} with the other settings: leave "
                f"it out{hint}"
            )


def _views(config: PolicyConfig, readers: Readers, fixed: bool) -> tuple[str, ...]:
    lacking = [(reader, view) for reader in readers for view in config.views if view not in reader.layout.cameras]
    if not lacking:
        return config.views
    reader, view = lacking[0]
    path, cameras = reader.path, reader.layout.cameras
    if fixed:
        raise DemoError(
            f"{path} has no camera {view!r} (it has {', '.join(cameras)}), which the policy sees: give demonstrations "
            f"with it, or name {len(config.views)} other cameras for the policy: --override 'views=[...]'"
        )
    for other in readers:
        if set(other.layout.cameras) != set(cameras):
            raise DemoError(
                f"{other.path} has the cameras {', '.join(other.layout.cameras)}, but {path} has {', '.join(cameras)}: "
                "name those that the policy shall see, which all files have: --override 'views=[...]'"
            )
    return cameras


def _action(config: ActionConfig, readers: Readers, trained: bool, normalization: str) -> ActionConfig:
    first, layout = readers[0].path, readers[0].layout
    known = next((reader.layout for reader in readers if reader.layout.gripper_known), None)
    if trained:
        if layout.action_dim != config.dim:
            raise DemoError(
                f"{first} has actions of shape (T, {layout.action_dim}), but the policy acts with (T, {config.dim}): "
                "start from a policy of this robot, or give --no-init-head to learn other actions"
            )
        if known is not None and known.gripper != config.gripper:
            raise DemoError(
                f"{first} has its gripper at entry {known.gripper} of the actions, but the policy at {config.gripper}: "
                "start from a policy of this robot, or give --no-init-head"
            )
        for reader in readers:
            if not reader.layout.gripper_known and not _is_gripper_of(config, _learned(reader)):
                raise DemoError(
                    f"entry {config.gripper} of the actions of {reader.path} has more than two values, but the policy "
                    "has its gripper there: start from a policy of this robot, or give --no-init-head"
                )
        if normalization not in ("auto", config.normalization):
            raise DemoError(
                f"--action-normalization is {normalization}, but the policy has learned with {config.normalization}: "
                "leave it out, or give --no-init-head"
            )
        for reader in readers:
            if config.normalization == "none" and not reader.layout.bounded and _learned(reader):
                every = np.concatenate([record.actions for record in _learned(reader)])
                _check_unit_actions(reader.path, every, config.gripper, "give --no-init-head to learn other actions")
        return config
    presets = known is None and layout.action_dim == config.dim
    gripper = config.gripper if presets else None if known is None else known.gripper
    if presets and not all(_is_gripper(_learned(reader), gripper) for reader in readers):
        gripper = None  # such as the seventh joint of an arm
    if layout.action_dim == 1 and gripper is not None:
        raise DemoError(f"the only entry of the actions of {first} is its gripper: there is no motion to learn")
    bounded = all(reader.layout.bounded for reader in readers)
    every = np.zeros((0, layout.action_dim), np.float32)
    if not bounded or normalization in ("min_max", "quantiles"):
        every = np.concatenate([record.actions for reader in readers for record in _learned(reader)])
    if normalization == "auto":
        # Files of robomimic do not say it: taken for the preset's robot where everything speaks for it.
        is_unit = bounded or presets and _fills_unit_range(every, gripper)
        normalization = "none" if is_unit else "min_max"
    if normalization == "none":
        _check_unit_actions(first, every, gripper)
        return ActionConfig(layout.action_dim, gripper)
    try:
        low, high = action_range(every, normalization, gripper)
    except UserError as error:
        raise DemoError(f"{first}: {error}") from error
    return ActionConfig(layout.action_dim, gripper, normalization, tuple(low), tuple(high))


def _learned(reader: DemoReader) -> list[Record]:
    """The demonstrations that are trained on, which alone say what actions and states are like."""
    return [record for record in reader.records if record.success] or list(reader.records)


def _fills_unit_range(actions: Any, gripper: int | None) -> bool:
    """Whether actions (N, D) look like commands that were cut off at -1 and 1, a gripper's like these two values.
    Others, such as motions in metres, may lie within [-1, 1] by chance."""
    motion = np.abs(actions if gripper is None else np.delete(actions, gripper, axis=1))
    opens = gripper is None or np.isin(actions[:, gripper], (-1.0, 1.0)).all()
    return bool(UNIT_REACH <= motion.max() <= 1.0 and opens)


def _is_gripper(records: Sequence[Record], entry: int | None) -> bool:
    """Whether an entry of the actions has no more than the two values of a gripper, in all of a file."""
    if entry is None or not records:
        return True
    return len(np.unique(np.concatenate([record.actions[:, entry] for record in records]))) <= 2


def _is_gripper_of(config: ActionConfig, records: Sequence[Record]) -> bool:
    """Whether an entry of the actions may be the gripper of a policy: it has two values, or just the range that the
    policy has learned, as when it goes on with demonstrations whose gripper stops anywhere."""
    if _is_gripper(records, config.gripper) or config.gripper is None:
        return True
    if not config.low:
        return False
    values = np.concatenate([record.actions[:, config.gripper] for record in records])
    low, high = config.low[config.gripper], config.high[config.gripper]
    return bool(np.allclose((values.min(), values.max()), (low, high), rtol=1e-5))


def _check_unit_actions(
    path: Path,
    every: Any,
    gripper: int | None,
    remedy: str = "give --action-normalization min_max or quantiles",
) -> None:
    """Refuse actions that cannot be used without normalization."""
    if every.size and (widest := float(np.abs(every).max())) > 1.0 + 1e-6:
        raise DemoError(
            f"the actions of {path} reach {widest:g}, but without normalization they lie in [-1, 1]: {remedy}"
        )
    if every.size and gripper is not None and not np.isin(every[:, gripper], (-1.0, 1.0)).all():
        values = ", ".join(f"{value:g}" for value in np.unique(every[:, gripper])[:3])
        raise DemoError(
            f"the gripper's entry {gripper} of the actions of {path} has values such as {values}, but without "
            f"normalization it is -1 or 1: {remedy}"
        )


def _state(config: PolicyConfig, readers: Readers, trained: bool, changes: Sequence[str]) -> StateConfig:
    state, reads = config.state, config.head.proprioception
    if not trained and state.normalization == "mean_std":  # of another robot, or of other demonstrations
        state = dataclasses.replace(state, mean=(), std=())
    layouts = [reader.layout for reader in readers]
    if config.head.state_optional:
        layouts = [layout for layout in layouts if layout.state is not None] or layouts
    first = layouts[0]
    same = all((layout.state, layout.state_dim) == (state.key, state.dim) for layout in layouts)
    described = bool(state.entries or state.binary is not None)
    if not trained and first.state is not None and not (same and (described or not reads)):
        state = StateConfig(first.state, first.state_dim)
        if reads:
            state = dataclasses.replace(state, entries=tuple(range(first.state_dim)), normalization="mean_std")
    state = dataclasses.replace(config, state=state).changed(changes).state
    if not reads:
        return state  # nothing reads it; it is named for those who look into the configuration
    for reader in readers:
        path, layout = reader.path, reader.layout
        if layout.state is None and config.head.state_optional and (trained or first.state is not None):
            continue  # it learns from these without
        if layout.state is None or (layout.state, layout.state_dim) != (state.key, state.dim):
            has = "no state" if layout.state is None else f"the state {layout.state!r} of shape (T, {layout.state_dim})"
            one = "one" if first.state is None and not trained else f"{state.key!r} of shape (T, {state.dim})"
            raise DemoError(
                f"{path} has {has}, but the policy reads {one} (head.proprioception): give demonstrations with it, or "
                "train a policy without"
            )
    if state.normalization != "mean_std" or state.mean:
        return state  # a trained policy's, or one that is read as it is
    states = (record.state for reader in readers for record in _learned(reader) if record.state is not None)
    mean, std = state_statistics(states, state.entries, state.angles)
    return dataclasses.replace(state, mean=tuple(mean), std=tuple(std))
