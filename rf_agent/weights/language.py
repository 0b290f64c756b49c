"""Folders of language models (configuration, weights, tokenizer) to the language model of a policy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from rf_agent.config import ConfigError, LanguageConfig
from rf_agent.nn.language import OWN_MODELS, build_language_model, decoder_layers
from rf_agent.nn.model_config import unknown_keys
from rf_agent.nn.mosaic_gpt import MosaicGPTConfig
from rf_agent.tokenizer import add_flamingo_tokens, load_tokenizer
from rf_agent.weights.files import ConversionError, Tensors, expect_family, read_tensors
from rf_agent.weights.report import Source

LANGUAGE = "vlm.lang_encoder."
NOT_OF_THE_MODEL = ("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
"""Keys of a config.json that say where a model comes from rather than what it is."""
UNUSED = {
    *("tie_weights_", "init_config", "tokenizer_name", "verbose", "max_sequence_length", "gradient_checkpointing"),
    *("prefix", "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers"),
    *("pooler_size_per_head", "pooler_type", "output_past"),
}
"""Keys in published folders (DistilBERT, BERT, MPT, LLaMA, OPT) that say nothing of what a model computes. Others that
the installed `transformers` does not know are refused, as without them it might be another model."""
ABSOLUTE = ("position_embedding_type", "absolute")
"""How BERT always counted positions; another value is another model."""

FIXED_IN_MOSAIC_GPT: dict[str, tuple[Any, ...]] = {
    "alibi": (True,),
    "no_bias": (True,),
    "prefix_lm": (False,),
    "attn_clip_qkv": (None,),
    "softmax_scale": (None,),
    "logit_scale": (None,),
    "embedding_fraction": (1,),
    "attn_uses_sequence_id": (False,),
}
"""Options of MosaicGPT that are built in one way here, which is MPT-1B's."""


@dataclass
class LanguageModel:
    """A language model as read from its folder."""

    model: dict[str, Any]
    """`language.model` of a policy's configuration, its vocabulary with the special tokens."""
    tokenizer: Any
    """With `<image>`, `<|endofchunk|>` and a padding token."""
    source: Source
    notes: list[str]
    """What was done to the vocabulary."""
    names: frozenset[str]
    """Names of all its tensors, tied ones too."""
    embedding: str
    """Name of its token table."""
    layers_name: str
    """Name of the list of its decoder layers."""
    layers: int
    width: int


def read_language_model(folder: str | Path, weights: str | Path | None = None) -> LanguageModel:
    """A causal language model with its tokenizer, from files alone; code in the folder is never run.

    Args:
        folder: as `save_pretrained` of `transformers` writes it; or MosaicGPT (MPT-1B) as published.
        weights: another file with the weights of a MosaicGPT, such as its raw state dict.

    Raises:
        ConversionError: no such folder, a model of another kind or of an unknown type, tensors that are missing,
            left over or mis-shaped, or a vocabulary smaller than the tokenizer's.
    """
    folder = Path(folder)
    values = read_config(folder)
    if values["model_type"] in OWN_MODELS:
        values = mosaic_gpt_values(values, folder)
        skeleton = built_without_memory(values, folder)
        tensors = _mosaic_gpt_tensors(skeleton, Path(weights or folder))
    elif weights is None:
        skeleton = built_without_memory(values, folder)
        tensors = _transformers_tensors(folder)
    else:
        kind = values["model_type"]
        raise ConversionError(f"{weights} was given, but {folder} is a {kind}: its weights are read from the folder.")
    tokenizer = load_tokenizer(folder)
    if tokenizer.eos_token is None:
        raise ConversionError(
            f"the tokenizer of {folder} names no token that ends a text (eos_token), which every prompt has; name it "
            'in tokenizer_config.json, such as {"eos_token": "<|endoftext|>"}.'
        )
    plain, rows = len(tokenizer), skeleton.get_input_embeddings().weight.shape[0]
    add_flamingo_tokens(tokenizer)
    tables = [skeleton.get_input_embeddings().weight, skeleton.get_output_embeddings().weight]
    names = [n for n, p in skeleton.named_parameters(remove_duplicate=False) if any(p is table for table in tables)]
    if rows < plain:
        raise ConversionError(
            f"the vocabulary of {folder} is too small: {names[0]} is {tuple(tensors[names[0]].shape)}, but its "
            f"tokenizer has {plain} tokens, so at least {(plain, tensors[names[0]].shape[1])} is expected; tokenizer "
            "and model must belong together."
        )
    source, notes = Source(str(weights or folder)), []
    for name, tensor in tensors.items():
        if name in names and rows != len(tokenizer):
            new = f", the last {len(tokenizer) - rows} of them random" if rows < len(tokenizer) else ""
            notes.append(f"{name} of {source.path}: {rows} rows made {len(tokenizer)}, one for each token{new}")
            tensor = resized_rows(tensor, len(tokenizer))
        source.add(LANGUAGE + name, tensor, name)
    return described(with_vocabulary(values, len(tokenizer)), skeleton, tokenizer, source, notes)


def described(values: dict[str, Any], skeleton: Any, tokenizer: Any, source: Source, notes: list[str]) -> LanguageModel:
    """A language model with what the names of its tensors depend on; `skeleton` is the model of `values`."""
    layers, table = decoder_layers(skeleton), skeleton.get_input_embeddings().weight
    return LanguageModel(
        model=values,
        tokenizer=tokenizer,
        source=source,
        notes=notes,
        names=frozenset(skeleton.state_dict()),
        embedding=next(name for name, p in skeleton.named_parameters() if p is table),
        layers_name=next(name for name, module in skeleton.named_modules() if module is layers),
        layers=len(layers),
        width=table.shape[1],
    )


def resized_rows(table: Tensor, rows: int, seed: int = 0) -> Tensor:
    """Token table (V, d) with another number of rows: cut, or with random rows about as large as the others.

    The new rows are the same for the same `seed`.
    """
    if rows <= len(table):
        return table[:rows]
    generator = torch.Generator().manual_seed(seed)
    new = torch.randn(rows - len(table), table.shape[1], generator=generator)
    return torch.cat((table, (new * table.float().std()).to(table.dtype)))


def _without_unused(values: dict[str, Any]) -> dict[str, Any]:
    """Without keys that the installed `transformers` has no more, or never had, and that change nothing."""
    kind = str(values["model_type"])
    if kind in OWN_MODELS:
        return values
    rest = {key: value for key, value in values.items() if key != "model_type"}
    unused = {
        key for key in unknown_keys(kind, rest) if not values[key] or key in UNUSED or (key, values[key]) == ABSOLUTE
    }
    return {key: value for key, value in values.items() if key not in unused}


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder, without what does not describe the model or is unknown and changes nothing."""
    file = folder / "config.json"
    if not folder.is_dir() or not file.is_file():
        found = "is a file" if folder.is_file() else "has no config.json" if folder.is_dir() else "does not exist"
        raise ConversionError(
            f"the language-model folder {folder} {found}; give a folder with config.json, weights and tokenizer."
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConversionError(f"{file} is not valid JSON ({error}); download the folder again.") from error
    if not isinstance(values, Mapping) or "model_type" not in values:
        raise ConversionError(f"{file} names no model_type; give the folder of a causal language model.")
    return _without_unused({key: value for key, value in values.items() if key not in NOT_OF_THE_MODEL})


def with_vocabulary(values: dict[str, Any], tokens: int) -> dict[str, Any]:
    """A configuration with so many tokens.

    Its own padding token is left out, because its embedding would not learn: OpenFlamingo's <PAD> is one like all.
    """
    padding = {} if values["model_type"] in OWN_MODELS else {"pad_token_id": None}
    return values | {"vocab_size": tokens} | padding


def built_without_memory(values: dict[str, Any], folder: Path | str) -> Any:
    """The model of a configuration without memory for its tensors."""
    try:
        with torch.device("meta"), quiet():
            return build_language_model(LanguageConfig(model=values))
    except ConfigError as error:
        raise ConversionError(
            f"{folder} is no causal language model that can be built ({error}); code that comes with a model is never "
            "run, so its model_type must be known to transformers, or be mosaic_gpt."
        ) from error


def read_model(folder: Path, kind: Any, what: str) -> tuple[Any, dict[str, Any]]:
    """A model of a folder by one of the automatic classes of `transformers`, and which tensors did not fit.

    Raises:
        ConversionError: it is no model of that class, which is called `what`.
    """
    try:
        with quiet():
            return kind.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they can be named
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConversionError(f"{folder} is no {what} that transformers can read ({reason}).") from error


def _transformers_tensors(folder: Path) -> Tensors:
    """State dict of a model that `transformers` knows, under the names of the installed version."""
    model, found = read_model(folder, AutoModelForCausalLM, "causal language model")
    shapes = [f"{name} is {tuple(a)}, but {tuple(b)} is expected" for name, a, b in found["mismatched_keys"]]
    _refuse(folder, shapes, sorted(found["missing_keys"]), sorted(found["unexpected_keys"]))
    return model.state_dict()


def mosaic_gpt_values(values: dict[str, Any], folder: Path | str) -> dict[str, Any]:
    """What is needed of a MosaicGPT's config.json."""
    for key, allowed in FIXED_IN_MOSAIC_GPT.items():
        if key in values and values[key] not in allowed:
            raise ConversionError(
                f"config.json of {folder} has {key} = {values[key]!r}, but MosaicGPT is built with {allowed[0]!r} only."
            )
    fields = MosaicGPTConfig.__dataclass_fields__
    return {key: value for key, value in values.items() if key in fields or key == "model_type"}


def _mosaic_gpt_tensors(skeleton: Any, path: Path) -> Tensors:
    """Tensors of a MosaicGPT, which must be exactly those of the model."""
    tensors = read_tensors(path)
    expect_family(tensors, path, "a language model", "give the weights of a language model")
    wanted = {name: tensor.shape for name, tensor in skeleton.state_dict().items()}
    tied = "lm_head.weight"
    shapes = [
        f"{name} is {tuple(tensor.shape)}, but {tuple(wanted[name])} is expected"
        for name, tensor in tensors.items()
        if name in wanted and tensor.shape != wanted[name]
    ]
    missing = [name for name in wanted if name not in tensors and name != tied]
    _refuse(path, shapes, missing, [name for name in tensors if name not in wanted])
    return tensors


def _refuse(path: Path, shapes: list[str], missing: list[str], unexpected: list[str]) -> None:
    """Raises ConversionError unless all three lists are empty."""
    problems = [f"{', '.join(shapes[:3])}"] if shapes else []
    problems += [f"missing: {', '.join(missing[:3])}"] if missing else []
    problems += [f"unknown to the model: {', '.join(unexpected[:3])}"] if unexpected else []
    if problems:
        count = len(shapes) + len(missing) + len(unexpected)
        raise ConversionError(
            f"the weights of {path} do not fit its config.json ({count} tensors): {'; '.join(problems)}."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the messages and progress bars of `transformers`: what it would say is checked and reported here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
