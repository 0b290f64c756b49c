"""Demonstrations in one HDF5 file, in robomimic's schema.

    data                          attribute env_args (JSON): env_id, scene, renderer, frame_stride, version
    data/demo_N                   attributes: num_samples, task, instruction, seed, scene, success, complete
    data/demo_N/actions           (num_samples, 7) float32: what the demonstrator wanted (the labels)
    data/demo_N/actions_executed  (num_samples, 7) float32: what was carried out, disturbances included
    data/demo_N/obs/robot_obs     (num_samples, 15) float32
    data/demo_N/obs/rgb_static    (num_frames, H, W, 3) uint8, one chunk per frame; rgb_gripper likewise

With `frame_stride` k, frame i belongs to sample i * k; k = 1 is plain robomimic. Observations precede their
action.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.files import DemoFileError, open_hdf5, reading

VIEWS = ("rgb_static", "rgb_gripper")
SPARE_BYTES = 16 * 2**20
"""Free space that a write leaves on the disk: HDF5 damages a file that it cannot finish."""


@dataclass
class Demo:
    """One demonstration: arrays as in the module's docstring, and its attributes."""

    actions: NDArray[np.float32]
    actions_executed: NDArray[np.float32]
    robot_obs: NDArray[np.float32]
    frames: dict[str, NDArray[np.uint8]]
    attributes: dict[str, Any] = field(default_factory=dict)


def create_store(path: Path, env_args: dict[str, Any]) -> None:
    """Make an empty store, or check that an existing one was begun with the same `env_args`.

    Demonstrations that a crash left incomplete are dropped.

    Raises:
        ValueError: if the file is damaged or was begun with other settings.
    """
    with open_hdf5(path, "a") as file:
        with reading(path):
            is_new, is_empty = "data" not in file, not len(file)
        if is_new:
            if not is_empty:
                raise DemoFileError(f"{path} holds something other than demonstrations: give another --output")
            file.create_group("data").attrs["env_args"] = json.dumps(env_args)
            return
        stored = read_env_args(file)
        changed = [key for key in env_args if stored.get(key) != env_args[key]]
        if changed:
            key = changed[0]
            raise DemoFileError(
                f"{path} was begun with {key} {stored.get(key)!r}, not {env_args[key]!r}: give the same "
                "settings to continue, or another --output"
            )
        with reading(path):
            data = file["data"]
            incomplete = [name for name in data if not data[name].attrs.get("complete", False)]
        for name in incomplete:
            del data[name]


def append_demos(path: Path, demos: Sequence[Demo]) -> list[str]:
    """Write some demonstrations, all or none of them, under the next free names, which are returned.

    The attribute `complete` is set last, and the file is opened for this one write: an interruption (Ctrl-C) in the
    middle of it leaves groups that readers skip, and a process killed at any other time a closed file. A kill within
    the milliseconds of the write itself can damage the file: HDF5 has no journal.

    Raises:
        OSError: the disk has no room for them; the file is as it was.
    """
    needed = sum(array.nbytes for demo in demos for array in (demo.actions, demo.robot_obs, *demo.frames.values()))
    if (free := shutil.disk_usage(path.parent).free) < needed + SPARE_BYTES:
        raise OSError(
            f"the disk of {path} is full ({free / 2**20:.0f} MiB are free): what was collected is kept; make room and "
            "start the same command again to go on"
        )
    with open_hdf5(path, "r+") as file:
        data = file["data"]
        first = 1 + max((int(other.split("_")[1]) for other in data), default=-1)
        names = [f"demo_{first + index}" for index in range(len(demos))]
        for name, demo in zip(names, demos, strict=True):
            _write(data.create_group(name), demo)
        file.flush()
        for name in names:
            data[name].attrs["complete"] = True
        samples = sum(len(demo.actions) for demo in demos)
        data.attrs["total"] = int(data.attrs.get("total", 0)) + samples  # robomimic's count of samples
    return names


def _write(group: h5py.Group, demo: Demo) -> None:
    group.attrs["complete"] = False
    group.create_dataset("actions", data=demo.actions, dtype=np.float32)
    group.create_dataset("actions_executed", data=demo.actions_executed, dtype=np.float32)
    group.create_dataset("obs/robot_obs", data=demo.robot_obs, dtype=np.float32)
    for view, frames in demo.frames.items():
        chunks = (1, *frames.shape[1:])
        group.create_dataset(f"obs/{view}", data=frames, chunks=chunks, compression="gzip", compression_opts=1)
    for key, value in demo.attributes.items():
        group.attrs[key] = value
    group.attrs["num_samples"] = len(demo.actions)


def read_env_args(file: h5py.File) -> dict[str, Any]:
    """The settings of an open store. Raises DemoFileError if it is none, or damaged."""
    with reading(file.filename):
        text = file["data"].attrs["env_args"] if "data" in file and "env_args" in file["data"].attrs else None
    if text is None:
        raise DemoFileError(
            f"{file.filename} holds no demonstrations (no data/env_args): give a file of `rf-agent collect`"
        )
    with reading(file.filename):
        return dict(json.loads(text))


def demo_names(file: h5py.File) -> list[str]:
    """Complete demonstrations by task and seed: the order in which workers finished is of no account."""
    keys = []
    with reading(file.filename):
        data = file["data"]
        every = list(data)
    for name in every:
        with reading(file.filename, name):
            attributes = data[name].attrs
            # Files written by robomimic itself have no `complete`: they are closed when whole.
            if isinstance(data[name], h5py.Group) and attributes.get("complete", True):
                keys.append((str(attributes.get("task", "")), int(attributes.get("seed", 0)), name))
    return [name for _, _, name in sorted(keys)]


def problems(file: h5py.File, name: str, frame_stride: int) -> list[str]:
    """What is wrong with a demonstration, without the file's name; empty when it can be trained on."""
    try:
        return _problems(file, name, frame_stride)
    except Exception:  # h5py's errors for damaged files are of many kinds
        return ["it cannot be read, because the file is damaged"]


def _problems(file: h5py.File, name: str, frame_stride: int) -> list[str]:
    group, found = file["data"][name], []
    for key in ("num_samples", "task", "instruction"):
        if key not in group.attrs:
            found.append(f"attribute {key} is missing")
    for key in ("actions", "obs/robot_obs", *(f"obs/{view}" for view in VIEWS)):
        if key not in group:
            found.append(f"{key} is missing")
    if found:
        return found
    samples = int(group.attrs["num_samples"])
    frames = -(-samples // frame_stride)
    expected = {"actions": (samples, 7), "obs/robot_obs": (samples, 15)}
    for key, shape in expected.items():
        if group[key].shape != shape:
            found.append(f"{key} has shape {group[key].shape}, expected {shape}")
    for view in VIEWS:
        images = group[f"obs/{view}"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != frames or images.shape[3] != 3:
            expected_shape = f"({frames}, H, W, 3)"
            found.append(f"obs/{view} is {images.dtype} {images.shape}, expected uint8 {expected_shape}")
    for key in expected:
        values = group[key][:]
        if not np.isfinite(values).all():
            found.append(f"{key} has NaN or infinite values")
        elif key == "actions" and values.size and np.abs(values).max() > 1.0 + 1e-6:
            found.append("actions lie outside [-1, 1]")
    if samples == 0:
        found.append("it is empty")
    if not group.attrs.get("success", True):
        found.append("the oracle did not accept it")
    return found


def check_demos(path: Path) -> None:
    """Refuse a file with anything wrong in it.

    Raises:
        ValueError: naming the file, the demonstration and the remedy.
        FileNotFoundError: if there is none.
    """
    with open_hdf5(path) as file:
        stride = int(read_env_args(file).get("frame_stride", 1))
        names = demo_names(file)
        if not names:
            raise DemoFileError(f"{path} holds no complete demonstration: collect some first")
        for name in names:
            if found := problems(file, name, stride):
                raise DemoFileError(f"{path}: {name}: {found[0]}; delete that demonstration or collect the file again")


def iterate_demos(path: Path) -> Iterator[tuple[str, Demo]]:
    """Every complete demonstration of a store with its name, in `demo_names` order."""
    with open_hdf5(path) as file:
        read_env_args(file)
        for name in demo_names(file):
            with reading(path, name):
                group = file["data"][name]
                demo = Demo(
                    actions=group["actions"][:],
                    actions_executed=group["actions_executed" if "actions_executed" in group else "actions"][:],
                    robot_obs=group["obs/robot_obs"][:],
                    frames={view: group[f"obs/{view}"][:] for view in VIEWS},
                    attributes=dict(group.attrs),
                )
            yield name, demo


@dataclass
class Summary:
    """What `inspect` found in a demonstration file."""

    path: Path
    env_args: dict[str, Any]
    demos: int
    samples: int
    incomplete: int
    tasks: dict[str, dict[str, Any]]
    """Per task: `demos`, `samples`, `instructions` (different wordings)."""
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
        found: list[str] = []
        tasks: dict[str, dict[str, Any]] = {}
        for name in names:
            wrong = problems(file, name, int(arguments.get("frame_stride", 1)))
            found += [f"{name}: {text}" for text in wrong]
            with reading(path, name):
                attributes = dict(file["data"][name].attrs)
            entry = tasks.setdefault(str(attributes.get("task", "?")), {"demos": 0, "samples": 0, "wordings": set()})
            entry["demos"] += 1
            entry["samples"] += int(attributes.get("num_samples", 0))
            entry["wordings"].add(str(attributes.get("instruction", "")))
        for entry in tasks.values():
            entry["instructions"] = len(entry.pop("wordings"))
        if not names:
            found.append("no complete demonstration")
        return Summary(
            path=Path(path),
            env_args=arguments,
            demos=len(names),
            samples=sum(entry["samples"] for entry in tasks.values()),
            incomplete=total - len(names),
            tasks=dict(sorted(tasks.items())),
            problems=found,
        )
