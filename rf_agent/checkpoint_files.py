"""What the directory of a checkpoint holds. Needs no torch, so that a name can be checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from rf_agent.errors import UserError

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be written or read; the message names the file or tensors, and the remedy."""


def is_checkpoint(directory: str | Path) -> bool:
    """Whether `directory` looks like a policy that `rf_agent.checkpoint.write` wrote."""
    return all((Path(directory) / name).is_file() for name in (CONFIG, WEIGHTS))
