"""A policy on disk: a directory of configuration, weights, tokenizer and model card.

Written whole or not at all; read strictly.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rf_agent.checkpoint_files import (
    CARD,
    CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    CheckpointError,
    is_checkpoint,
    of_run,
)
from rf_agent.errors import ConfigError
from rf_agent.policy_config import PolicyConfig

DEFAULT_CARD = """# A policy

Load it with `rf_agent.load_policy(<this directory>)`.
"""
"""The card of a checkpoint that is saved without one."""


def check_target(directory: str | Path) -> Path:
    """`directory` as a path: it is free or holds a policy. Raises CheckpointError when it holds something else, such
    as another library's model."""
    directory = Path(directory)
    if directory.exists() and not _is_policy(directory) and (directory.is_file() or any(directory.iterdir())):
        raise CheckpointError(f"{directory} exists and is no checkpoint of ours; choose another directory or empty it.")
    return directory


def _is_policy(directory: Path) -> bool:
    """Whether a directory holds a policy of ours, and not just files of the same names."""
    if not is_checkpoint(directory):
        return False
    try:
        PolicyConfig.load(directory / CONFIG)
    except ConfigError:
        return False
    return True


def write(
    directory: str | Path,
    config: PolicyConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Any,
    card: str | None = None,
) -> Path:
    """Write a checkpoint directory. It takes the place of an older checkpoint there, whose other files stay; other
    directories are left alone.

    Args:
        directory: where; its parents are made.
        weights: tensors without aliases (see `unique_tensors`).
        tokenizer: a `transformers` tokenizer.
        card: text of the model card; if not given, an older one stays, and a new checkpoint gets one of a line.

    Raises:
        CheckpointError: `directory` holds something that is no checkpoint.
    """
    directory = check_target(directory)
    with replaced_directory(directory.resolve()) as draft:  # a link stays one
        config.save(draft / CONFIG)
        save_file({name: tensor.contiguous().cpu() for name, tensor in weights.items()}, draft / WEIGHTS)
        shutil.copymode(draft / CONFIG, draft / WEIGHTS)  # safetensors makes a file that only its owner may read
        tokenizer.save_pretrained(draft)
        if card is not None or not (directory / CARD).exists():
            (draft / CARD).write_text(card or DEFAULT_CARD, encoding="utf-8")
        _keep_others(directory, draft)
    return directory


def _keep_others(old: Path, new: Path) -> None:
    """Copy what a user has put beside a checkpoint, such as notes or a `.git`, to the one that takes its place."""
    written = {entry.name for entry in new.iterdir()}
    for entry in old.iterdir() if old.is_dir() else ():
        if entry.name in written:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, new / entry.name, follow_symlinks=False)


@contextmanager
def replaced_directory(directory: Path) -> Iterator[Path]:
    """A draft that takes the place of `directory` when the block ends well, and vanishes when it does not."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{os.getpid()}-{secrets.token_hex(3)}"
    draft, old = (directory.parent / f".{directory.name}.{kind}-{unique}" for kind in ("new", "old"))
    draft.mkdir()
    try:
        yield draft
        if directory.exists():
            directory.rename(old)
        try:
            draft.rename(directory)
        except OSError:
            if old.exists():
                old.rename(directory)
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_config(directory: str | Path) -> PolicyConfig:
    """Configuration of a checkpoint. Raises CheckpointError when the directory is none."""
    directory = Path(directory)
    for name in (CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG):
        if not (directory / name).is_file():
            raise CheckpointError(
                f"{directory} is no complete policy checkpoint: {name} is missing; "
                f"{of_run(directory) or 'save or copy it again.'}"
            )
    return PolicyConfig.load(directory / CONFIG)


def read_tokenizer(directory: str | Path) -> Any:
    """Tokenizer of a checkpoint; from its own files only. Raises CheckpointError when they are damaged."""
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise what a damaged file leads them to
        raise CheckpointError(
            f"the tokenizer in {directory} ({TOKENIZER}, {TOKENIZER_CONFIG}) is damaged ({error}); save or copy the "
            "checkpoint again."
        ) from error
    if tokenizer.pad_token_id is None:
        raise CheckpointError(
            f"{directory}/{TOKENIZER_CONFIG} names no padding token; save or copy the checkpoint again."
        )
    return tokenizer


def read_weights(directory: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint. Raises CheckpointError when the file is damaged."""
    path = Path(directory) / WEIGHTS
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); save or copy the checkpoint again.") from error


def unique_tensors(module: nn.Module) -> dict[str, Tensor]:
    """State dict without aliases: of tied weights only the first name is kept."""
    unique: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor.detach()
    return unique


@torch.no_grad()
def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy `weights` into `module`, converting number formats.

    Raises:
        CheckpointError: names every tensor that is missing, unexpected, of another shape or of whole numbers where
            fractions belong. Nothing is copied then.
    """
    own = unique_tensors(module)
    problems = []
    if missing := [name for name in own if name not in weights]:
        problems.append(f"missing: {', '.join(missing)}")
    if unexpected := [name for name in weights if name not in own]:
        problems.append(f"unexpected: {', '.join(unexpected)}")
    if misshaped := [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]:
        problems.append(f"of another shape: {', '.join(misshaped)}")
    if mistyped := [
        f"{name} {str(weights[name].dtype).removeprefix('torch.')}"
        for name in own
        if name in weights and own[name].is_floating_point() and not weights[name].is_floating_point()
    ]:
        problems.append(f"of no floating point: {', '.join(mistyped)}")
    if problems:
        raise CheckpointError(
            f"{source} does not fit its configuration; tensors {'; '.join(problems)}. "
            "Use the config.json that was saved with these weights, or save the policy again."
        )
    for name, tensor in own.items():
        tensor.copy_(weights[name])
