"""Checkpoints of `rf-agent` to LeRobot's and back, without loss.

python -m lerobot_policy_roboflamingo.convert to-lerobot roboflamingo-tiny --output runs/lerobot
python -m lerobot_policy_roboflamingo.convert from-lerobot runs/lerobot --output runs/policy
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from lerobot_policy_roboflamingo.checkpoints import (
    HUB_FILES,
    local_folder,
    read_agent_config,
    read_json,
    read_weights,
    write_weights,
)
from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from lerobot_policy_roboflamingo.processor_roboflamingo import make_roboflamingo_pre_post_processors
from rf_agent import checkpoint
from rf_agent.checkpoint import CheckpointError
from rf_agent.cli import sentence
from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.errors import ConfigError
from rf_agent.presets import find_checkpoint


@dataclass(kw_only=True)
class ToLeRobot:
    """A checkpoint of `rf-agent` to a folder that LeRobot's commands take as --policy.path."""

    source: tyro.conf.Positional[str]
    """Directory of the policy, or the name of a bundled one."""
    output: Path
    """Folder that is made; an older checkpoint there is replaced."""


@dataclass(kw_only=True)
class FromLeRobot:
    """A checkpoint of LeRobot to a directory that `rf-agent` and `RoboFlamingoPolicy.from_pretrained` take."""

    source: tyro.conf.Positional[Path]
    """Folder with LeRobot's config.json, such as .../checkpoints/last/pretrained_model."""
    output: Path
    """Directory that is made; an older checkpoint there is replaced."""


Args = (
    Annotated[ToLeRobot, tyro.conf.subcommand("to-lerobot")]
    | Annotated[FromLeRobot, tyro.conf.subcommand("from-lerobot")]
)


def to_lerobot(source: str | Path, output: str | Path) -> Path:
    """Write an agent's checkpoint as LeRobot's: configuration, weights, tokenizer, model card and processors.

    Raises:
        CheckpointError: there is no such checkpoint, or `output` holds something else.
    """
    directory = find_checkpoint(source)
    if "agent" in read_json(directory / checkpoint.CONFIG):  # where LeRobot's has our configuration
        raise CheckpointError(f"{source} is a checkpoint of LeRobot already: it is for --policy.path as it is.")
    agent, weights = checkpoint.read_config(directory), checkpoint.read_weights(directory)
    if not isinstance(agent, AgentConfig):
        raise CheckpointError(f"{source} is of type {agent.type!r}, but LeRobot gets RoboFlamingo alone: give another.")
    config = RoboFlamingoConfig.of_agent(agent)
    pipelines = make_roboflamingo_pre_post_processors(config)
    config.device = None  # that of the machine on which it will run
    target = _check_target(output)
    with checkpoint.replaced_directory(target) as draft:
        config._save_pretrained(draft)
        write_weights(draft, weights)
        for pipeline in pipelines:
            pipeline.save_pretrained(draft)
        checkpoint.read_tokenizer(directory).save_pretrained(draft)
        (draft / checkpoint.CARD).write_text(_card(directory), encoding="utf-8")
    return target


def from_lerobot(source: str | Path, output: str | Path) -> Path:
    """Write a LeRobot checkpoint as an agent's: the inverse of `to_lerobot`.

    Raises:
        CheckpointError: there is no checkpoint of a RoboFlamingo policy, or `output` holds something else.
    """
    if not Path(source).is_dir():  # a name on the Hub is none here: a misspelt folder would be looked up there
        raise CheckpointError(
            f"there is no folder {source}: give the folder pretrained_model of a RoboFlamingo policy of LeRobot."
        )
    folder = local_folder(source)
    agent = read_agent_config(folder)
    return checkpoint.write(output, agent, read_weights(folder), checkpoint.read_tokenizer(folder), _card(folder))


def _check_target(output: str | Path) -> Path:
    """The folder to write to: it is free, or holds what this command, or `rf-agent`, has written before and no more."""
    folder = Path(output)
    try:
        read_agent_config(folder)
    except (CheckpointError, ConfigError):
        return checkpoint.check_target(folder)
    for entry in folder.iterdir():
        if not any(fnmatch(entry.name, pattern) for pattern in HUB_FILES):
            raise CheckpointError(
                f"{folder} holds {entry.name}, too, which would be lost: choose another directory or empty it."
            )
    return folder


def _card(directory: Path) -> str:
    """The model card that goes along."""
    path = directory / checkpoint.CARD
    return path.read_text(encoding="utf-8") if path.is_file() else checkpoint.DEFAULT_CARD


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 when it is done, 1 after one sentence about what is wrong."""
    args = tyro.cli(Args, prog="python -m lerobot_policy_roboflamingo.convert", args=arguments)
    convert = to_lerobot if isinstance(args, ToLeRobot) else from_lerobot
    try:
        print(f"Policy: {convert(args.source, args.output)}")
    except (CheckpointError, OSError, ValueError) as error:
        print(sentence(error), file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main()
