"""What is wrong with a demonstration in our own HDF5 files."""

from __future__ import annotations

import h5py
import numpy as np

from rf_agent.demos.clips import image_shape
from rf_agent.demos.demonstration import Layout, wrong_instruction
from rf_agent.demos.files import text_of

NUMBERS = "fiu"
"""Kinds of dtypes that actions and states may have: others (complex numbers, texts) would be read as something else."""


def problems(file: h5py.File, name: str, layout: Layout) -> list[str]:
    """What is wrong with a demonstration, without the file's name; empty when it can be trained on."""
    try:
        return _problems(file, name, layout)
    except Exception:  # h5py's errors for damaged files are of many kinds
        return ["it cannot be read, because the file is damaged"]


def _problems(file: h5py.File, name: str, layout: Layout) -> list[str]:
    group, found = file["data"][name], []
    for key in ("num_samples", "instruction", "task"):
        if key not in group.attrs:
            # files of robomimic, which say nothing of a gripper either, have none of these
            remedy = "" if layout.gripper_known or key != "instruction" else " (`rf-agent convert robomimic` gives one)"
            found.append(f"attribute {key} is missing{remedy}")
    expected_keys = ["actions", *(f"obs/{key}" for key in (layout.state, *layout.cameras) if key is not None)]
    for key in expected_keys:
        if key not in group:
            found.append(f"{key} is missing")
    if found:
        return found
    if wrong := wrong_instruction(text_of(group.attrs["instruction"])):
        found.append(wrong)
    samples = int(group.attrs["num_samples"])
    frames = -(-samples // layout.frame_stride)
    expected = {"actions": (samples, layout.action_dim)}
    if layout.state is not None:
        expected[f"obs/{layout.state}"] = (samples, layout.state_dim)
    for key, shape in expected.items():
        if group[key].shape != shape:
            found.append(f"{key} has shape {group[key].shape}, expected {shape}")
    for camera in layout.cameras:
        size, dtype = image_shape(group[f"obs/{camera}"])
        if dtype != np.uint8 or len(size) != 4 or (size[0], size[3]) != (frames, 3):
            found.append(f"obs/{camera} is {dtype} {size}, expected uint8 ({frames}, H, W, 3)")
    for key in expected:
        kind = group[key].dtype
        if kind.kind not in NUMBERS:
            found.append(f"{key} is {kind}, expected float32")
            continue
        with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
            values = np.asarray(group[key][:], np.float32)
        if not np.isfinite(values).all():
            found.append(f"{key} has NaN or infinite values")
        elif key == "actions" and layout.bounded and values.size and np.abs(values).max() > 1.0 + 1e-6:
            found.append("actions lie outside [-1, 1]")
    if samples == 0:
        found.append("it is empty")
    return found
