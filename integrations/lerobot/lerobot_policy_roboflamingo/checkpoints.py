"""LeRobot checkpoints (`pretrained_model`) that hold an agent: where they lie, and what is in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from rf_agent import checkpoint
from rf_agent.checkpoint import CheckpointError
from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.nn.initialization import EmptyInit
from rf_agent.policy import RoboFlamingoPolicy as Agent

POLICY_TYPE = "roboflamingo"
PREFIX = "agent."
"""How the names of an agent's tensors begin in LeRobot, where the agent is a part of the policy."""
REQUIRED = (checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.TOKENIZER)
HUB_FILES = (*REQUIRED, "tokenizer_config.json", "special_tokens_map.json", "policy_*", checkpoint.CARD)
"""Files that a repository on the Hub is asked for. A pattern such as *.json would also fit those in folders, and with
them every checkpoint that --save_checkpoint_to_hub left there."""


def local_folder(name: str | Path, **options: Any) -> Path:
    """The folder of a checkpoint: the given one, or a copy of a repository on the Hugging Face Hub.

    Args:
        options: of `huggingface_hub.snapshot_download`, such as `revision`.

    Raises:
        CheckpointError: it is not there, or lacks a file that every RoboFlamingo checkpoint of LeRobot has.
    """
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError

        try:
            folder = Path(snapshot_download(str(name), allow_patterns=list(HUB_FILES), **options))
        except HFValidationError as error:
            raise CheckpointError(
                f"there is no folder {name}, and no repository on the Hub can have this name: give the folder "
                "pretrained_model of a checkpoint."
            ) from error
    for required in REQUIRED:
        if not (folder / required).is_file():
            raise CheckpointError(
                f"{name} is no complete RoboFlamingo checkpoint of LeRobot: {required} is missing; convert one with "
                "`python -m lerobot_policy_roboflamingo.convert to-lerobot`, or copy it again."
            )
    return folder


def read_agent(folder: Path, config: AgentConfig | None = None) -> Agent:
    """The agent in a LeRobot checkpoint, on the CPU.

    Args:
        config: in place of the stored one, for a network of the same shape.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape; the message names them.
    """
    weights = read_weights(folder)
    with EmptyInit():
        agent = Agent(config or read_agent_config(folder), checkpoint.read_tokenizer(folder))
    checkpoint.load_strictly(agent, weights, str(folder / checkpoint.WEIGHTS))
    return agent


def read_agent_config(folder: Path) -> AgentConfig:
    """The agent's configuration in a LeRobot checkpoint. Raises CheckpointError where there is none."""
    path = folder / checkpoint.CONFIG
    values = read_json(path)
    kind = values.get("type")
    if kind != POLICY_TYPE or not values.get("agent"):
        # our own configurations have a type, too
        own = kind is None or (kind == POLICY_TYPE and "agent" not in values)
        what = "no configuration of LeRobot" if own else f"of LeRobot's policy type {kind!r}"
        raise CheckpointError(
            f"{path} is {what}, but one of type {POLICY_TYPE!r} is expected: give the folder pretrained_model of such "
            "a policy."
        )
    return AgentConfig.from_dict(values["agent"])


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; nothing where there is no such file, which others say."""
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): save or copy the checkpoint again.") from error
    return values if isinstance(values, dict) else {}


def write_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write an agent's tensors for LeRobot, readable for whoever may read the configuration beside them."""
    target = folder / checkpoint.WEIGHTS
    save_file({PREFIX + name: tensor.contiguous().cpu() for name, tensor in weights.items()}, target)
    shutil.copymode(folder / checkpoint.CONFIG, target)  # safetensors makes a file that only its owner may read


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The agent's tensors in a LeRobot checkpoint. Raises CheckpointError where one belongs to no agent."""
    weights, source = checkpoint.read_weights(folder), folder / checkpoint.WEIGHTS
    if foreign := [name for name in weights if not name.startswith(PREFIX)]:
        raise CheckpointError(
            f"{source} holds tensors of no RoboFlamingo policy, such as {foreign[0]}: give a folder that lerobot-train "
            "or `python -m lerobot_policy_roboflamingo.convert to-lerobot` wrote."
        )
    return {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
