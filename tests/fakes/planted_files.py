"""Demonstrations and checkpoints with a fault planted in them: what `rf-agent diagnose` must find."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from planted_envs import STEP
from safetensors.torch import load_file, save_file

CAMERAS = ("rgb_static", "rgb_gripper")


def replaced(group: h5py.Group, key: str, values: np.ndarray) -> None:
    del group[key]
    group[key] = values


def on_images(change: Callable[[np.ndarray], np.ndarray], *cameras: str) -> Callable[[h5py.Group], None]:
    def changed(demo: h5py.Group) -> None:
        for camera in cameras:
            replaced(demo, f"obs/{camera}", change(demo[f"obs/{camera}"][:]))

    return changed


def swap_cameras(demo: h5py.Group) -> None:
    static, gripper = (demo[f"obs/{camera}"][:] for camera in CAMERAS)
    replaced(demo, "obs/rgb_static", gripper)
    replaced(demo, "obs/rgb_gripper", static)


def on_actions(factors: np.ndarray, *keys: str) -> Callable[[h5py.Group], None]:
    def changed(demo: h5py.Group) -> None:
        for key in keys:
            replaced(demo, key, (demo[key][:] * factors).astype(np.float32))

    return changed


def without_seed(demo: h5py.Group) -> None:
    del demo.attrs["seed"]


FLIP = np.array([1, 1, 1, 1, 1, 1, -1], np.float32)
ACTIONS = ("actions", "actions_executed")
DATA_FAULTS: dict[str, Callable[[h5py.Group], None]] = {
    "swapped": swap_cameras,
    "mirrored": on_images(lambda images: images[:, :, ::-1], "rgb_gripper"),
    "bgr": on_images(lambda images: images[..., ::-1], *CAMERAS),
    "unit": on_images(lambda images: (images / 255).astype(np.float32), *CAMERAS),
    "dark": on_images(lambda images: (images / 255).astype(np.uint8), *CAMERAS),
    "metres": on_actions(STEP, *ACTIONS),
    "metres_of_labels": on_actions(STEP, "actions"),
    "gripper": on_actions(FLIP, *ACTIONS),
    "gripper_of_labels": on_actions(FLIP, "actions"),
    "seedless": without_seed,
}


def plant_in_data(source: Path, target: Path, fault: str) -> Path:
    """A copy of a file of demonstrations with a fault in each."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        for demo in file["data"].values():
            DATA_FAULTS[fault](demo)
    return target


def change_config(directory: Path, **changes: Any) -> None:
    """Other values in a checkpoint's configuration, `head__window=2`."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        (config[part] if part else config)[name] = value
    path.write_text(json.dumps(config))


def other_language_model(directory: Path) -> None:
    """Other weights of the same shapes and sizes: those of a language model that was never trained with the rest."""
    path = directory / "model.safetensors"
    weights, draw = load_file(path), torch.Generator().manual_seed(0)
    for name, tensor in weights.items():
        if "lang_encoder" in name and tensor.ndim == 2:
            noise = torch.randn(tensor.shape, generator=draw)
            weights[name] = (noise * tensor.float().std()).to(tensor.dtype)
    save_file(weights, path)


def other_language_layers(directory: Path) -> None:
    """Other decoder layers under the same embeddings, which training saved."""
    path = directory / "model.safetensors"
    weights, draw = load_file(path), torch.Generator().manual_seed(0)
    for name, tensor in weights.items():
        if "lang_encoder" in name and tensor.ndim == 2 and "embed" not in name and "lm_head" not in name:
            weights[name] = (0.02 * torch.randn(tensor.shape, generator=draw)).to(tensor.dtype)
    save_file(weights, path)


def other_tokenizer(directory: Path) -> None:
    """The same words under other numbers."""
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text())
    special = {token["content"] for token in content["added_tokens"]}
    vocabulary = content["model"]["vocab"]
    names = [name for name in vocabulary if name not in special]
    numbers = [vocabulary[name] for name in names]
    random.Random(0).shuffle(numbers)
    content["model"]["vocab"] = vocabulary | dict(zip(names, numbers, strict=True))
    path.write_text(json.dumps(content))


def smaller_language_model(directory: Path) -> None:
    """A configuration of a language model of another size than the weights."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["language"]["model"] |= {"hidden_size": 128, "intermediate_size": 256}
    path.write_text(json.dumps(config))


CHECKPOINT_FAULTS: dict[str, Callable[[Path], None]] = {
    "window_2": lambda directory: change_config(directory, head__window=2),
    "other_language_model": other_language_model,
    "other_language_layers": other_language_layers,
    "other_tokenizer": other_tokenizer,
    "smaller_language_model": smaller_language_model,
    "lm_feature": lambda directory: change_config(directory, language__lm_feature="last_block_input"),
    "normalisation": lambda directory: change_config(directory, image__mean=[0.0] * 3, image__std=[1.0] * 3),
    "views": lambda directory: change_config(directory, views=["rgb_gripper", "rgb_static"]),
}


def plant_in_checkpoint(source: Path, target: Path, fault: str) -> Path:
    """A copy of a checkpoint directory with a fault."""
    shutil.copytree(source, target)
    CHECKPOINT_FAULTS[fault](target)
    return target
