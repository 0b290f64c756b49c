"""The robot of some demonstrations as part of a policy's configuration: cameras, actions, state."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rf_agent.config import ActionConfig, RoboFlamingoConfig, StateConfig
from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError
from rf_agent.demos.store import check_demos, iterate_demos
from rf_agent.errors import UserError
from rf_agent.normalization import NORMALIZATIONS, action_range, state_statistics


def check_files(paths: Sequence[Path]) -> dict[Path, Layout]:
    """The layouts of demonstration files of one robot; every demonstration is checked.

    Raises:
        DemoError: no files, a bad demonstration (file and demonstration are named), or files of different robots.
    """
    if not paths:
        raise DemoError("no demonstrations were given: name one or more HDF5 files with --demos")
    layouts = {Path(path): check_demos(Path(path)) for path in paths}
    first, expected = next(iter(layouts.items()))
    for path, layout in layouts.items():
        if layout.action_dim != expected.action_dim:
            raise DemoError(
                f"{path} has actions of shape (T, {layout.action_dim}), but {first} has (T, {expected.action_dim}): "
                "train on demonstrations of one robot"
            )
        if layout.gripper != expected.gripper and layout.gripper_known and expected.gripper_known:
            raise DemoError(
                f"{path} has its gripper at entry {layout.gripper} of the actions, but {first} at {expected.gripper}: "
                "train on demonstrations of one robot"
            )
        if None not in (layout.fps, expected.fps) and layout.fps != expected.fps:
            raise DemoError(
                f"{path} has {layout.fps:g} actions a second, but {first} has {expected.fps:g}: train on files of one "
                "frame rate"
            )
    return layouts


def fitted(
    config: RoboFlamingoConfig,
    layouts: dict[Path, Layout],
    trained: bool,
    normalization: str = "auto",
    fixed_views: bool = False,
) -> RoboFlamingoConfig:
    """A configuration for the robot of some demonstrations.

    Cameras, sizes, gripper and state that a preset names are kept where the demonstrations have the same, and else
    taken from them; a policy that is trained already must fit.

    Args:
        config: of a preset, or of the policy that training starts from.
        layouts: see `check_files`.
        trained: whether the policy has learned to act: then nothing about its robot may change.
        normalization: of actions: `none`, `min_max`, `quantiles`, or `auto`: `none` where the environment bounds them
            to [-1, 1], else `min_max`.
        fixed_views: whether the cameras must be those of `config`, too.

    Raises:
        DemoError: the demonstrations do not fit the policy; the message names the key, both shapes and the file.
    """
    if normalization not in ("auto", *NORMALIZATIONS):
        raise DemoError(f"--action-normalization is {normalization!r}: give auto, none, min_max or quantiles")
    first, layout = next(iter(layouts.items()))
    fps = next((other.fps for other in layouts.values() if other.fps is not None), None)
    if trained and None not in (fps, config.fps) and fps != config.fps:
        raise DemoError(
            f"{first} has {fps:g} actions a second, but the policy was trained at {config.fps:g}: train a new policy "
            "(without --init, or with --no-init-head)"
        )
    return dataclasses.replace(
        config,
        views=_views(config, layouts, trained or fixed_views),
        action=_action(config.action, layouts, trained, normalization),
        state=_state(config, first, layout, trained),
        fps=config.fps if fps is None else fps,
    )


def _views(config: RoboFlamingoConfig, layouts: dict[Path, Layout], fixed: bool) -> tuple[str, ...]:
    for path, layout in layouts.items():
        lacking = [view for view in config.views if view not in layout.cameras]
        if not lacking:
            continue
        if not fixed and len(layouts) == 1:
            return layout.cameras
        cameras = ", ".join(layout.cameras)
        if not fixed:
            shared = [view for view in layout.cameras if all(view in other.cameras for other in layouts.values())]
            if shared:
                return tuple(shared)
            raise DemoError(f"{path} has the cameras {cameras}, and no other file has one of them: train on one robot")
        raise DemoError(
            f"{path} has no camera {lacking[0]!r} (it has {cameras}), which the policy sees: give demonstrations with "
            f"it, or name {len(config.views)} cameras to be seen in place of the policy's: --override 'views=[...]'"
        )
    return config.views


def _action(config: ActionConfig, layouts: dict[Path, Layout], trained: bool, normalization: str) -> ActionConfig:
    first, layout = next(iter(layouts.items()))
    known = next((other for other in layouts.values() if other.gripper_known), None)
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
        return config
    if known is None and layout.action_dim == config.dim:
        gripper = config.gripper  # the file does not say, and the preset's robot has as many entries
    else:
        gripper = None if known is None else known.gripper
    if normalization == "auto":
        bounded = all(other.bounded for other in layouts.values())
        unsaid = known is None and layout.action_dim == config.dim and _widest(layouts) <= 1.0
        normalization = "none" if bounded or unsaid else "min_max"
    if normalization == "none":
        if (widest := _widest(layouts)) > 1.0 + 1e-6:
            raise DemoError(
                f"the actions of {first} reach {widest:g}, but without normalization they lie in [-1, 1]: give "
                "--action-normalization min_max or quantiles"
            )
        return ActionConfig(layout.action_dim, gripper)
    actions = (demo.actions for path in layouts for _, demo in iterate_demos(path))
    try:
        low, high = action_range(actions, normalization, gripper)
    except UserError as error:
        raise DemoError(f"{first}: {error}") from error
    return ActionConfig(layout.action_dim, gripper, normalization, tuple(low), tuple(high))


def _widest(layouts: dict[Path, Layout]) -> float:
    return max(float(np.abs(demo.actions).max()) for path in layouts for _, demo in iterate_demos(path))


def _state(config: RoboFlamingoConfig, path: Path, layout: Layout, trained: bool) -> StateConfig:
    state = config.state
    if (layout.state, layout.state_dim) == (state.key, state.dim):
        return state
    if not config.head.proprioception:
        # Nothing reads it; it is named for those who look into the configuration.
        return state if trained or layout.state is None else StateConfig(layout.state, layout.state_dim)
    has = "no state" if layout.state is None else f"the state {layout.state!r} of shape (T, {layout.state_dim})"
    if trained or layout.state is None:
        reads = f"{state.key!r} of shape (T, {state.dim})" if trained else "one"
        raise DemoError(
            f"{path} has {has}, but the policy reads {reads} (head.proprioception): give demonstrations with it, or a "
            "policy without"
        )
    states = (demo.state for _, demo in iterate_demos(path) if demo.state is not None)
    mean, std = state_statistics(states)
    entries = tuple(range(layout.state_dim))
    return StateConfig(layout.state, layout.state_dim, entries, None, tuple(mean), tuple(std))
