"""The robot of a LeRobot data set, read as `rf-agent train` reads it: cameras, state, actions and their range."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError
from rf_agent.training.robot import fitted, open_all

FLAGS = {
    "--override 'views=[...]'": "--policy.cameras='[...]'",
    "--no-init-head": "--policy.init_head=false",
    "--init": "--policy.path",
    "--action-normalization": "--policy.action_normalization",
}
"""Options of `rf-agent train` that its errors name, and what they are called here; the first that fits is taken."""


@dataclass(frozen=True)
class DatasetRobot:
    """What a policy needs to know of a data set."""

    config: AgentConfig
    """The agent's configuration for its robot."""
    instructions: tuple[str, ...]
    """All instructions in it, from which a new tokenizer is learned."""


def robot_of(root: str | Path, config: RoboFlamingoConfig, trained: bool) -> DatasetRobot:
    """The agent's configuration for the robot of a data set, whose numbers are read from its files.

    Args:
        root: folder of the data set.
        config: the policy's.
        trained: whether the policy has learned to act, so that the data set must fit it.

    Raises:
        DemoError: the data set is damaged or incomplete, has an episode without instruction, or does not fit the
            policy; one sentence names what was found, what was expected and the option that helps.
    """
    agent = config.agent_config
    if config.cameras and not trained:
        agent = replace(agent, views=tuple(config.cameras))
    with _flags_of_lerobot():
        readers = open_all([root])
        reader = readers[0]
        reader.layout = _layout(reader.layout, config, agent, trained, root)
        # LeRobot compares the cameras of a policy that it has loaded, as it knows its --rename_map
        seen = replace(agent, views=reader.layout.cameras) if trained else agent
        fit = fitted(seen, readers, trained, config.action_normalization, bool(config.cameras))
    tasks = tuple(sorted({record.task for record in reader.records}))
    agent = replace(fit, tasks=tasks, views=agent.views if trained else fit.views)
    return DatasetRobot(agent, tuple(sorted({record.instruction for record in reader.records})))


def _layout(layout: Layout, config: RoboFlamingoConfig, agent: AgentConfig, trained: bool, root: str | Path) -> Layout:
    """What the data set holds, with what LeRobot's format cannot say."""
    if config.gripper is not None and not layout.gripper_known:
        if not 0 <= config.gripper < layout.action_dim:
            raise DemoError(
                f"--policy.gripper is {config.gripper}, but the actions of {root} have {layout.action_dim} entries, "
                "counted from 0"
            )
        layout = replace(layout, gripper=config.gripper, gripper_known=True)
    if trained and layout.state is not None:
        layout = replace(layout, state=agent.state.key)  # LeRobot calls every state `observation.state`
    return layout


@contextmanager
def _flags_of_lerobot() -> Iterator[None]:
    """Errors of `rf-agent train`, with the names that its options have here."""
    try:
        yield
    except DemoError as error:
        text: Any = str(error)
        for ours, theirs in FLAGS.items():
            text = text.replace(ours, theirs)
        raise DemoError(text) from error
