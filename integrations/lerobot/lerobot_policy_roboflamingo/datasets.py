"""The robot of a LeRobot data set, read as `rf-agent train` reads it: cameras, state, actions and their range."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.lerobot import LeRobotReader
from rf_agent.errors import UserError
from rf_agent.training.robot import check_overrides, fitted

logger = logging.getLogger(__name__)

OPTIONS = {
    "--override 'views=[...]'": "--policy.cameras='[...]'",
    "--override ": "--policy.override ",
    "--no-init-head": "--policy.init_head=false",
    "--init": "--policy.path",
    "--action-normalization": "--policy.action_normalization",
    "--trainable": "--policy.trainable",
}
"""Options of `rf-agent train` that its errors name, and what they are called here; the first that fits is taken."""


@dataclass(frozen=True)
class DatasetRobot:
    """What a policy needs to know of a data set."""

    config: AgentConfig
    """The agent's configuration for its robot."""
    instructions: tuple[str, ...]
    """All instructions in it, from which a new tokenizer is learned."""
    ends: Tensor | None
    """Where episodes change their task: the frames, counted over the whole data set, before which its demonstrations
    end. None where each episode is one demonstration."""


def robot_of(meta: Any, config: RoboFlamingoConfig, trained: bool) -> DatasetRobot:
    """The agent's configuration for the robot of a data set, whose numbers are read from its files.

    The videos are left to LeRobot, which reads them when it trains.

    Args:
        meta: LeRobot's metadata of the data set.
        config: the policy's.
        trained: whether the policy has learned to act and keeps its head, so that the data set must fit it.

    Raises:
        DemoError: the data set is damaged or incomplete, has an episode without instruction, or does not fit the
            policy; one sentence names what was found, what was expected and the option that helps.
    """
    root, agent = Path(meta.root), config.agent_config
    if config.cameras and not trained:
        agent = replace(agent, views=tuple(config.cameras))
    with lerobots_options():
        reader = _open(root, agent.head.proprioception)
        reader.layout = _layout(reader.layout, config, agent, trained, root)
        seen = agent
        if trained:
            # which camera is which only LeRobot can compare, as it knows its --rename_map
            seen = replace(agent, views=_enough(reader.layout.cameras, agent.views, root))
        of_state = [change for change in config.override if change.startswith("state.")]
        fixed = bool(config.cameras) or any(change.startswith("views=") for change in config.override)
        fit = fitted(seen, [reader], trained, config.action_normalization, fixed, of_state)
        check_overrides(fit, config.override)
    if failures := sum(not record.success for record in reader.records):
        logger.warning(
            f"{failures} of the {len(reader.records)} demonstrations in {root} did not succeed, but lerobot-train "
            "learns from them, too: choose the others with --dataset.episodes"
        )
    tasks = tuple(sorted({record.task for record in reader.records}))
    agent = replace(fit, tasks=tasks, views=agent.views if trained else fit.views, trained=trained)
    ends = None
    if len(reader.records) > meta.total_episodes:
        ends = torch.tensor([record.first_frame + len(record.actions) for record in reader.records])
    return DatasetRobot(agent, tuple(sorted({record.instruction for record in reader.records})), ends)


def _open(root: Path, reads_state: bool) -> LeRobotReader:
    """The reader of a data set whose tables were checked, for a policy that reads the state or does not."""
    try:
        reader = LeRobotReader(root)
    except DemoError as error:
        if "is missing" not in str(error):
            raise
        raise DemoError(
            f"{error}; LeRobot copies only the files of --dataset.episodes, but the robot is read from all of them"
        ) from error
    for key, known, read in ((reader.action_key, ACTION, True), (reader.state_key, OBS_STATE, reads_state)):
        if read and key not in (known, None):
            raise DemoError(
                f"{root} calls {known!r} {key!r}, which LeRobot does not know: rename that feature, or train with "
                "`rf-agent train`"
            )
    if (found := next(reader.table_problems(), None)) is not None:
        raise DemoError(f"{root}: {found}; delete that episode or record it again")
    return reader


def _enough(cameras: tuple[str, ...], views: tuple[str, ...], root: Path) -> tuple[str, ...]:
    """The cameras of a data set, for a trained policy with these views."""
    if len(cameras) < len(views):
        raise DemoError(
            f"{root} has the cameras {', '.join(cameras)}, but the policy sees {', '.join(views)}: give a data set "
            "with as many, or train a new policy (without --policy.path)"
        )
    return cameras


def _layout(layout: Layout, config: RoboFlamingoConfig, agent: AgentConfig, trained: bool, root: Path) -> Layout:
    """What the data set holds, with what LeRobot's format cannot say."""
    gripper = config.gripper
    if gripper is not None and not 0 <= gripper < layout.action_dim:
        raise DemoError(
            f"--policy.gripper is {gripper}, but the actions of {root} have {layout.action_dim} entries, counted from 0"
        )
    if gripper is not None and layout.gripper_known and gripper != layout.gripper:
        raise DemoError(
            f"--policy.gripper is {gripper}, but {root} says that its gripper is at entry {layout.gripper} of the "
            "actions: leave it out"
        )
    if not layout.gripper_known and (gripper is not None or not trained):
        # without --policy.gripper there is none, whatever robot the preset was made for
        layout = replace(layout, gripper=gripper, gripper_known=True)
    if trained and layout.state is not None:
        layout = replace(layout, state=agent.state.key)  # LeRobot calls every state `observation.state`
    return layout


@contextmanager
def lerobots_options() -> Iterator[None]:
    """Errors of `rf-agent train`, with the names that its options have here."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for ours, theirs in OPTIONS.items():
            text = text.replace(ours, theirs)
        raise type(error)(text) from error
