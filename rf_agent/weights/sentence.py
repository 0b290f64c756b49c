"""Sentence encoders (DistilBERT and its kin) from their folders, and baselines filled from files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from rf_agent.base_policy import BasePolicy
from rf_agent.policy_config import PolicyConfig
from rf_agent.tokenizer import add_flamingo_tokens, load_tokenizer
from rf_agent.weights.files import ConversionError, Tensors
from rf_agent.weights.language import read_config, read_model, resized_rows
from rf_agent.weights.report import Report, Source, fill

SENTENCE = "sentence_encoder.model."


def read_sentence_encoder(folder: str | Path) -> tuple[dict[str, Any], Any, Source]:
    """A sentence encoder with its tokenizer, from files alone; code in the folder is never run.

    Args:
        folder: as `save_pretrained` of `transformers` writes it. Heads for other tasks, such as that of masked words,
            are left out.

    Returns:
        `language.model` of a policy's configuration with the special tokens in its vocabulary, the tokenizer, and the
        tensors, to which the rows of the special tokens are added.

    Raises:
        ConversionError: no such folder, or weights that do not fit its config.json.
    """
    folder = Path(folder)
    values = read_config(folder)
    model, found = read_model(folder, AutoModel, "model")
    problems = [f"{name} is {tuple(a)}, but {tuple(b)} is expected" for name, a, b in found["mismatched_keys"]]
    # poolers of sentences are used by nothing here, and many folders lack theirs
    problems += [f"{name} is missing" for name in sorted(found["missing_keys"]) if not name.startswith("pooler.")]
    if problems:
        raise ConversionError(
            f"the weights of {folder} do not fit its config.json: {', '.join(problems[:3])}; copy the folder again."
        )
    source = Source(str(folder), ignored={name: "a head for another task" for name in found["unexpected_keys"]})
    for name, tensor in model.state_dict().items():
        source.add(SENTENCE + name, tensor, name)
    table = model.get_input_embeddings().weight
    name = next(name for name, parameter in model.named_parameters() if parameter is table)
    tokenizer = read_tokenizer(folder, source, name)
    return values | {"vocab_size": len(tokenizer)}, tokenizer, source


def read_tokenizer(folder: str | Path, source: Source, table: str) -> Any:
    """The tokenizer of a folder, with the special tokens that every policy's has.

    Args:
        folder: with tokenizer.json, or what `transformers` makes one of.
        source: holds the sentence encoder; its word embeddings get random rows for the special tokens, which nothing
            reads, since these tokens stand in no bare instruction.
        table: name of the word embeddings in the sentence encoder.

    Raises:
        ConversionError: there is none, or it has more words than the embeddings.
    """
    try:
        tokenizer = load_tokenizer(folder)
    except ValueError as error:
        raise ConversionError(str(error)) from error
    if tokenizer.cls_token is None:
        raise ConversionError(
            f"the tokenizer of {folder} has no token that begins a text, as BERT's [CLS]; give that of a sentence "
            "encoder such as DistilBERT."
        )
    words, rows = len(tokenizer), source.tensors[SENTENCE + table]
    if rows.dim() != 2 or len(rows) < words:
        raise ConversionError(
            f"{source.names[SENTENCE + table]} of {source.path} is {tuple(rows.shape)}, but the tokenizer of {folder} "
            f"has {words} words, so at least as many rows are expected; model and tokenizer must belong together."
        )
    add_flamingo_tokens(tokenizer)
    source.tensors[SENTENCE + table] = resized_rows(rows, len(tokenizer))
    return tokenizer


def filled(
    policy_class: type[BasePolicy],
    config: PolicyConfig,
    tokenizer: Any,
    sources: list[Source],
    random: tuple[str, ...],
    seed: int,
) -> tuple[BasePolicy, Report]:
    """A policy with the tensors of `sources`, ready to be trained or to act.

    Args:
        random: beginnings of the names of tensors that no file needs to have.
        seed: of these; the global random state is left as it was.

    Raises:
        ConversionError: tensors that are missing, left over or mis-shaped; they are named.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = policy_class(config, tokenizer)  # type: ignore[arg-type]
    return policy.eval(), fill(policy, sources, random)


def numbered(names: Iterable[str], pattern: str) -> int:
    """How many things are numbered in names: one more than the largest number that `pattern` finds, or 0."""
    found = [int(match[1]) for match in map(re.compile(pattern).match, names) if match]
    return 1 + max(found, default=-1)


def matrices(tensors: Tensors, path: str | Path, wanted: dict[str, int]) -> list[torch.Size]:
    """Shapes of the tensors that tell a model's size.

    Args:
        wanted: name to number of dimensions.

    Raises:
        ConversionError: one is missing or has another number of dimensions.
    """
    for name, dims in wanted.items():
        if name not in tensors:
            raise ConversionError(f"{path} lacks {name}; the file is cut short or of another kind.")
        if tensors[name].dim() != dims:
            raise ConversionError(
                f"{name} of {path} is {tuple(tensors[name].shape)}, but {dims} dimensions are expected."
            )
    return [tensors[name].shape for name in wanted]
