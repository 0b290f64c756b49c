"""What a demonstration file holds, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError, open_hdf5, reading
from rf_agent.demos.store import demo_names, read_env_args, read_layout


def problems(file: h5py.File, name: str, layout: Layout) -> list[str]:
    """What is wrong with a demonstration, without the file's name; empty when it can be trained on."""
    try:
        return _problems(file, name, layout)
    except Exception:  # h5py's errors for damaged files are of many kinds
        return ["it cannot be read, because the file is damaged"]


def _problems(file: h5py.File, name: str, layout: Layout) -> list[str]:
    group, found = file["data"][name], []
    for key in ("num_samples", "task", "instruction"):
        if key not in group.attrs:
            found.append(f"attribute {key} is missing")
    expected_keys = ["actions", *(f"obs/{key}" for key in (layout.state, *layout.cameras) if key is not None)]
    for key in expected_keys:
        if key not in group:
            found.append(f"{key} is missing")
    if found:
        return found
    samples = int(group.attrs["num_samples"])
    frames = -(-samples // layout.frame_stride)
    expected = {"actions": (samples, layout.action_dim)}
    if layout.state is not None:
        expected[f"obs/{layout.state}"] = (samples, layout.state_dim)
    for key, shape in expected.items():
        if group[key].shape != shape:
            found.append(f"{key} has shape {group[key].shape}, expected {shape}")
    for camera in layout.cameras:
        images = group[f"obs/{camera}"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != frames or images.shape[3] != 3:
            found.append(f"obs/{camera} is {images.dtype} {images.shape}, expected uint8 ({frames}, H, W, 3)")
    for key in expected:
        values = group[key][:]
        if not np.isfinite(values).all():
            found.append(f"{key} has NaN or infinite values")
        elif key == "actions" and layout.bounded and values.size and np.abs(values).max() > 1.0 + 1e-6:
            found.append("actions lie outside [-1, 1]")
    if samples == 0:
        found.append("it is empty")
    return found


def check_demos(path: Path) -> Layout:
    """The layout of a file with nothing wrong in it.

    Raises:
        DemoError: naming the file, the demonstration and the remedy.
        FileNotFoundError: if there is none.
    """
    with open_hdf5(path) as file:
        layout = read_layout(file)
        for name in demo_names(file):
            if found := problems(file, name, layout):
                raise DemoError(f"{path}: {name}: {found[0]}; delete that demonstration or collect the file again")
    return layout


@dataclass
class Summary:
    """What `inspect` found in a demonstration file."""

    path: Path
    env_args: dict[str, Any]
    layout: Layout | None
    """The robot; None where no demonstration is complete."""
    demos: int
    samples: int
    incomplete: int
    tasks: dict[str, dict[str, Any]]
    """Per task: `demos`, `samples`, `instructions` (how many different ones)."""
    problems: list[str]
    """What stands in the way of training, each naming its demonstration."""


def inspect(path: Path) -> Summary:
    """Summarise a demonstration file and list everything wrong with it.

    Raises:
        FileNotFoundError, ValueError: if it cannot be read at all.
    """
    with open_hdf5(path) as file:
        arguments = read_env_args(file)
        names = demo_names(file)
        with reading(path):
            total = len(file["data"])
        layout = read_layout(file) if names else None
        found: list[str] = []
        tasks: dict[str, dict[str, Any]] = {}
        for name in names:
            assert layout is not None
            wrong = problems(file, name, layout)
            found += [f"{name}: {text}" for text in wrong]
            with reading(path, name):
                attributes = dict(file["data"][name].attrs)
            entry = tasks.setdefault(str(attributes.get("task", "?")), {"demos": 0, "samples": 0, "texts": set()})
            entry["demos"] += 1
            entry["samples"] += int(attributes.get("num_samples", 0))
            entry["texts"].add(str(attributes.get("instruction", "")))
        for entry in tasks.values():
            entry["instructions"] = len(entry.pop("texts"))
        if not names:
            found.append("no complete demonstration")
        return Summary(
            path=Path(path),
            env_args=arguments,
            layout=layout,
            demos=len(names),
            samples=sum(entry["samples"] for entry in tasks.values()),
            incomplete=total - len(names),
            tasks=dict(sorted(tasks.items())),
            problems=found,
        )
