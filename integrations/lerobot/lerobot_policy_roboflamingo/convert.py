"""Checkpoints of `rf-agent` to LeRobot's and back, without loss.

python -m lerobot_policy_roboflamingo.convert to-lerobot roboflamingo-tiny --output runs/lerobot
python -m lerobot_policy_roboflamingo.convert from-lerobot runs/lerobot --output runs/policy
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from lerobot_policy_roboflamingo.checkpoints import local_folder, read_weights, write_weights
from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from lerobot_policy_roboflamingo.processor_roboflamingo import make_roboflamingo_pre_post_processors
from rf_agent import checkpoint
from rf_agent.checkpoint import CheckpointError
from rf_agent.cli import sentence
from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.policy import DEFAULT_CARD
from rf_agent.presets import find_checkpoint

POLICY_TYPE = "roboflamingo"


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
    if "type" in _read_json(directory / checkpoint.CONFIG):
        raise CheckpointError(f"{source} is a checkpoint of LeRobot already: it is for --policy.path as it is.")
    agent, weights = checkpoint.read_config(directory), checkpoint.read_weights(directory)
    config = RoboFlamingoConfig.of_agent(agent)
    pipelines = make_roboflamingo_pre_post_processors(config)
    config.device = None  # that of the machine on which it will run
    target = checkpoint.check_target(output)
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
        CheckpointError: it is no checkpoint of a RoboFlamingo policy, or `output` holds something else.
    """
    folder = local_folder(source)
    agent = AgentConfig.from_dict(_agent_values(folder / checkpoint.CONFIG))
    return checkpoint.write(output, agent, read_weights(folder), checkpoint.read_tokenizer(folder), _card(folder))


def _agent_values(path: Path) -> dict[str, Any]:
    """The agent's configuration in LeRobot's config.json."""
    values = _read_json(path)
    kind = values.get("type")
    if kind != POLICY_TYPE or not values.get("agent"):
        what = "no configuration of LeRobot" if kind is None else f"of LeRobot's policy type {kind!r}"
        raise CheckpointError(
            f"{path} is {what}, but one of type {POLICY_TYPE!r} is expected: give the folder pretrained_model of such "
            "a policy."
        )
    return values["agent"]


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; nothing where there is no such file, which others say."""
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): save or copy the checkpoint again.") from error
    return values if isinstance(values, dict) else {}


def _card(directory: Path) -> str:
    """The model card that goes along."""
    path = directory / checkpoint.CARD
    return path.read_text(encoding="utf-8") if path.is_file() else DEFAULT_CARD


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
