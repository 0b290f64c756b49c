"""Published weight files as dictionaries of tensors, and what kind of model they hold."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from rf_agent.errors import UserError

Tensors = dict[str, Tensor]

FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")
"""What data-parallel training and `torch.compile` put before names."""
WRAPPERS = ("model_state_dict", "state_dict", "model", "r3m")
"""Keys under which training scripts keep the tensors, beside those of their optimiser."""

FAMILIES = {
    "a RoboFlamingo checkpoint": ("lm_head.actions.", "lm_head.rnn.", "action_head.", "lang_encoder.lm_head.actions."),
    "an OpenFlamingo checkpoint": ("perceiver.",),
    "an R3M checkpoint": ("convnet.",),
    "a Voltron checkpoint": ("patch2embed.", "encoder_blocks.", "lang2encoder."),
    "a CLIP model": ("visual.", "vision_model.", "class_embedding", "embeddings.class_embedding"),
    "a language model": ("transformer.", "gpt_neox.", "model.", "embed_out."),
}
"""How names of tensors begin in each kind of file; the first that fits counts."""


class ConversionError(UserError, ValueError):
    """Weights that cannot be converted; the message names the file or tensor, and what was expected."""


def read_tensors(path: str | Path) -> Tensors:
    """The tensors of a file (.safetensors, or torch's .pt, .pth, .bin), or of a `transformers` folder.

    Tensors within a training checkpoint are found, and the prefixes of data-parallel training and `torch.compile` are
    taken off their names. Nothing in the file is executed.

    Raises:
        ConversionError: there is no such file, or it holds something else.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ConversionError(f"there is no file {path}; give the file (or folder) that holds the weights.")
    try:
        content = load_file(path) if path.suffix == ".safetensors" or _is_safetensors(path) else _load(path)
    except Exception as error:  # of many kinds: torch takes a damaged file for one of its older formats
        if _is_torchscript(path):
            raise ConversionError(
                f"{path} is a TorchScript archive, as OpenAI's CLIP files are, which holds code, too; write its "
                f"tensors to another file: torch.save(torch.jit.load({path.name!r}, map_location='cpu').state_dict(), "
                f"{path.stem + '-tensors.pt'!r})"
            ) from error
        raise ConversionError(
            f"{path} cannot be read as tensors ({_first_line(error)}); give a .safetensors file, or a dictionary of "
            "tensors that torch.save wrote."
        ) from error
    tensors = _unwrapped(content)
    if not tensors:
        raise ConversionError(f"{path} holds no dictionary of tensors; give the file with the weights.")
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        short = PREFIXES.sub("", name)
        if short in found:
            raise ConversionError(f"{path} holds {short} twice, with and without a prefix; give the weights alone.")
        found[short] = tensor
    return found


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do, whatever it is called: with the length of a header of JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _first_line(error: Exception) -> str:
    if isinstance(error, UnpicklingError) or "weights_only" in str(error):  # torch advises to execute what is in it
        return "it holds other things than tensors, or is no file of torch.save"
    if isinstance(error, KeyError):  # a number that means nothing to anybody
        return "it is no file of torch.save"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on TorchScript archives, which are refused
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # the format of before torch 1.6


def _unwrapped(content: Any) -> Tensors:
    if isinstance(content, (tuple, list)) and content:
        content = content[0]  # Voltron's files: model and optimiser
    if not isinstance(content, Mapping):
        return {}
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _read_folder(folder: Path) -> Tensors:
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            return read_tensors(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise ConversionError(f"{index} is damaged ({error}); copy the folder again.") from error
            return {key: tensor for shard in shards for key, tensor in read_tensors(folder / shard).items()}
    raise ConversionError(f"{folder} has no weights: expected is {' or '.join(FOLDER_FILES)} (or its parts).")


def family(names: Iterable[str]) -> tuple[str, str]:
    """What kind of model has tensors of these names, and one of the names that tell so."""
    names = list(names)
    for kind, beginnings in FAMILIES.items():
        for name in names:
            if name.startswith(beginnings):
                return kind, name
    return "no model known here", names[0] if names else "no tensor"


def expect_family(tensors: Tensors, path: str | Path, wanted: str, remedy: str) -> None:
    """Raises ConversionError when the tensors of `path` are not of the family `wanted`."""
    found, name = family(tensors)
    if found != wanted:
        raise ConversionError(f"{path} is {found} (it holds {name}), but {wanted} is expected here; {remedy}.")
