"""What the directory of a checkpoint holds. Needs no torch, so that a name can be checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from rf_agent.errors import UserError

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
RESULTS = {"train": "policy", "pretrain": "vlm"}
"""Folders of a run in which these commands leave a checkpoint."""
CHECKPOINT = "checkpoint.pt"
"""File of a run from which it is continued."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be written or read; the message names the file or tensors, and the remedy."""


def of_run(directory: Path) -> str:
    """What to do instead where a run of `rf-agent train` or `pretrain` is given in place of its result; empty where
    `directory` is no run."""
    results = [directory / name for name in RESULTS.values() if is_checkpoint(directory / name)]
    if results:
        return f"it is the folder of a run, whose result is {results[0]}: give that."
    if (directory / CHECKPOINT).is_file():
        return f"it is the folder of a run that has not finished: continue it with --resume --output {directory}."
    return ""


def is_checkpoint(directory: str | Path) -> bool:
    """Whether `directory` looks like a policy that `rf_agent.checkpoint.write` wrote."""
    return all((Path(directory) / name).is_file() for name in (CONFIG, WEIGHTS))
