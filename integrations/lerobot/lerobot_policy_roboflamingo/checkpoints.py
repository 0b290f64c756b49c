"""LeRobot checkpoints (`pretrained_model`) that hold an agent: where they lie, and the names of the tensors in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from rf_agent import checkpoint
from rf_agent.checkpoint import CheckpointError

PREFIX = "agent."
"""How the names of an agent's tensors begin in LeRobot, where the agent is a part of the policy."""
HUB_FILES = ("*.json", "*.safetensors", "README.md")
REQUIRED = (checkpoint.CONFIG, checkpoint.WEIGHTS, checkpoint.TOKENIZER)


def local_folder(name: str | Path, **options: Any) -> Path:
    """The folder of a checkpoint: the given one, or a copy of a repository on the Hugging Face Hub.

    Args:
        options: of `huggingface_hub.snapshot_download`, such as `revision`.

    Raises:
        CheckpointError: it lacks a file that every RoboFlamingo checkpoint of LeRobot has.
    """
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(str(name), allow_patterns=list(HUB_FILES), **options))
    for required in REQUIRED:
        if not (folder / required).is_file():
            raise CheckpointError(
                f"{name} is no complete RoboFlamingo checkpoint of LeRobot: {required} is missing; convert one with "
                "`python -m lerobot_policy_roboflamingo.convert to-lerobot`, or copy it again."
            )
    return folder


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
