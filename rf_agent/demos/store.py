"""Demonstrations in one HDF5 file, in robomimic's schema.

    data                          attribute env_args (JSON): what `Layout.described` says, and where they come from
    data/demo_N                   attributes: num_samples, task, instruction, success, complete, seed, scene, ...
    data/demo_N/actions           (num_samples, D) float32: what the demonstrator wanted (the labels)
    data/demo_N/actions_executed  (num_samples, D) float32: what was carried out, where that differs
    data/demo_N/obs/<state>       (num_samples, S) float32, if there is a state
    data/demo_N/obs/<camera>      (num_frames, H, W, 3) uint8, one chunk per frame; or, packed, (bytes,) uint8: an H.264
                                  clip, with the attributes codec, shape and crc32 (`rf_agent.demos.clips`)
    data/demo_N/start/<option>    float64: what the environment's reset takes to begin in the same state, if known

With `frame_stride` k, frame i belongs to sample i * k; k = 1 is plain robomimic. Observations precede their
action.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.clips import encode_clip, image_shape, is_color, read_all, write_clip
from rf_agent.demos.demonstration import Demonstration, Layout, is_storable, layout_of
from rf_agent.demos.files import DemoError, DiskFullError, open_hdf5, reading, text_of
from rf_agent.demos.rollback import replace_file

SPARE_BYTES = 16 * 2**20
"""Free space that a write leaves on the disk."""
NUMBERED = re.compile(r"demo_(\d+)")
"""Names of demonstrations; what else a file holds in their place is left as it is."""
OWN = ("num_samples", "task", "instruction", "success", "complete")
"""Attributes of a demonstration that are fields of `Demonstration`, or the store's own."""


def write_demonstrations(
    path: str | Path,
    demos: Sequence[Demonstration],
    fps: float | None = None,
    gripper: int | None = None,
    state: str = "state",
    overwrite: bool = False,
) -> Path:
    """Write demonstrations of one robot to a new file, all or none of them.

    Args:
        path: HDF5 file.
        demos: of the same cameras and the same sizes of actions and states.
        fps: actions a second.
        gripper: entry of an action that opens (its larger value) or closes a gripper, or None.
        state: name of the state in the observations that a policy will get.
        overwrite: replace a file that exists.

    Returns:
        The path.

    Raises:
        UserError: demonstrations that cannot be used or do not fit together; nothing is written then.
        FileExistsError: the file exists.
    """
    path, demos = Path(path), list(demos)
    layout = layout_of(demos, fps, gripper, state)
    if path.is_dir():
        raise DemoError(f"{path} is a directory: give the name of an HDF5 file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: give another name, or overwrite=True to replace it")
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}")
    try:
        create_store(draft, layout, {})
        append_demos(draft, demos, layout)
        replace_file(draft, path)
    except DiskFullError as error:
        raise DiskFullError(f"the disk has no room for {path}: nothing was kept; make room and start again") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def read_demonstrations(path: str | Path) -> list[Demonstration]:
    """All complete demonstrations of a file, sorted by task and seed; `iterate_demos` reads large files one by one.

    Raises:
        FileNotFoundError, DemoError: if there is no such file, or it is damaged.
    """
    return [demo for _, demo in iterate_demos(Path(path))]


def create_store(path: Path, layout: Layout, origin: dict[str, Any]) -> None:
    """Make an empty store, or check that an existing one was begun with the same settings.

    Demonstrations that a crash of an earlier version left incomplete are dropped.

    Args:
        path: the file.
        layout: of the demonstrations.
        origin: where they come from, as stored in `env_args`.

    Raises:
        DemoError: if the file is damaged or was begun with other settings.
    """
    env_args = layout.described() | origin
    with open_hdf5(path, "a") as file:
        with reading(path):
            is_new, is_empty = "data" not in file, not len(file)
        if is_new:
            if not is_empty:
                raise DemoError(f"{path} holds something other than demonstrations: give another --output")
            file.create_group("data").attrs["env_args"] = json.dumps(env_args)
            return
        stored = read_env_args(file)
        changed = [key for key in ("version", *env_args, *stored) if stored.get(key) != env_args.get(key)]
        if changed:
            key = changed[0]
            raise DemoError(
                f"{path} was begun with {key} {stored.get(key)!r}, not {env_args.get(key)!r}: give the same "
                "settings to continue, or another --output"
            )
        with reading(path):
            data = file["data"]
            incomplete = [name for name in data if not data[name].attrs.get("complete", False)]
        for name in incomplete:
            del data[name]


def append_demos(
    path: Path,
    demos: Sequence[Demonstration],
    layout: Layout,
    quality: int | None = None,
    held: int | None = None,
    patience: float = 0.0,
) -> list[str]:
    """Write some demonstrations, all or none of them, under the next free names, which are returned.

    Whenever the process is killed, they are all in the file or the file is as it was (`rf_agent.demos.atomic_file`).

    Args:
        path: a store.
        demos: the demonstrations.
        layout: theirs and the store's.
        quality: of the clips that their images are packed into, 0 (best) to 51; None stores images as they are.
        held: samples that the store held when the caller last looked, if nobody else may have written to it since.
        patience: seconds to wait for others who use the file.

    Raises:
        DemoError: somebody has, or uses it still; the file is as it was.
        DiskFullError: the disk has no room for them; the file is as it was.
        MissingPackageError: PyAV, which packs images, is not installed.
    """
    clips: list[dict[str, NDArray[np.uint8]]] = [{} for _ in demos]  # by camera, (bytes,)
    if quality is not None:
        clips = [{camera: encode_clip(images, quality) for camera, images in demo.images.items()} for demo in demos]
    stored = [demo.images if quality is None else own for demo, own in zip(demos, clips, strict=True)]
    needed = sum(images.nbytes for own in stored for images in own.values())
    if (free := shutil.disk_usage(path.parent).free) < needed + SPARE_BYTES:
        raise DiskFullError(
            f"the disk of {path} has no room for {len(demos)} more demonstrations ({free / 2**20:.0f} MiB are free): "
            "what was written before is kept; make room and start again"
        )
    with open_hdf5(path, "r+", patience) as file:
        data = file["data"]
        if held is not None and int(data.attrs.get("total", 0)) != held:
            raise DemoError(
                f"{path} was written by another process since this one began: when that one has ended, start the same "
                "command again, which goes on with what is missing"
            )
        numbers = (int(found[1]) for other in data if (found := NUMBERED.fullmatch(other)))
        first = 1 + max(numbers, default=-1)
        names = [f"demo_{first + index}" for index in range(len(demos))]
        for name, demo, own in zip(names, demos, clips, strict=True):
            _write(data.create_group(name), demo, layout, own)
        samples = sum(len(demo.actions) for demo in demos)
        data.attrs["total"] = int(data.attrs.get("total", 0)) + samples  # robomimic's count of samples
    return names


def _write(group: h5py.Group, demo: Demonstration, layout: Layout, clips: dict[str, NDArray[np.uint8]]) -> None:
    group.create_dataset("actions", data=demo.actions, dtype=np.float32)
    if demo.actions_executed is not None:
        group.create_dataset("actions_executed", data=demo.actions_executed, dtype=np.float32)
    if layout.state is not None:
        group.create_dataset(f"obs/{layout.state}", data=demo.state, dtype=np.float32)
    for camera, images in demo.images.items():
        if camera in clips:
            write_clip(group, f"obs/{camera}", clips[camera], images.shape)
            continue
        chunks = (1, *images.shape[1:])
        group.create_dataset(f"obs/{camera}", data=images, chunks=chunks, compression="gzip", compression_opts=1)
    for option, numbers in demo.start.items():
        group.create_dataset(f"start/{option}", data=numbers, dtype=np.float64)
    for key, value in demo.attributes.items():
        group.attrs[key] = str(value) if isinstance(value, str) else value  # numpy's str has no type in HDF5
    group.attrs["num_samples"] = len(demo.actions)
    group.attrs["task"], group.attrs["instruction"] = demo.task, demo.instruction
    group.attrs["success"] = bool(demo.success)
    group.attrs["complete"] = True


def read_env_args(file: h5py.File) -> dict[str, Any]:
    """The settings of an open store. Raises DemoError if it is none, or damaged."""
    with reading(file.filename):
        text = file["data"].attrs["env_args"] if "data" in file and "env_args" in file["data"].attrs else None
    if text is None:
        raise DemoError(
            f"{file.filename} holds no demonstrations (no data/env_args): give a file of `rf-agent collect` or "
            "write_demonstrations"
        )
    with reading(file.filename):
        return dict(json.loads(text))


def read_layout(file: h5py.File) -> Layout:
    """The layout of an open store: what it says, and else what its first demonstration shows.

    Files of robomimic do not say which observations are cameras: those of images are. They may hold several low-level
    observations: only a single one is taken for the state.

    Raises:
        DemoError: there is no complete demonstration, or the first one has no images or no actions.
    """
    said = read_env_args(file)
    names = demo_names(file)
    if not names:
        raise DemoError(f"{file.filename} holds no complete demonstration: collect some first")
    failed: DemoError | None = None
    for name in names:
        try:
            return _shown(file, name, said)
        except DemoError as error:  # another one may still show it, so that the damaged one can be named
            failed = failed or error
    assert failed is not None
    raise failed


def _shown(file: h5py.File, name: str, said: dict[str, Any]) -> Layout:
    """The layout that a demonstration shows, as far as the file does not say it."""
    with reading(file.filename, name):
        group = file["data"][name]
        found = group.get("obs", {}).items()
        shapes = {key: image_shape(value) for key, value in found if isinstance(value, h5py.Dataset)}
        actions = group["actions"].shape if "actions" in group else None
    if actions is None or len(actions) != 2:
        what = "is missing" if actions is None else f"has shape {actions}, expected (T, D)"
        raise DemoError(f"{file.filename}: {name}: actions {what}; write the file again")
    images = [key for key, (shape, _) in shapes.items() if len(shape) == 4]
    # without any colour images, say what is wrong with those that there are
    cameras = said.get("cameras") or [key for key in images if is_color(*shapes[key])] or images
    if not cameras:
        raise DemoError(f"{file.filename}: {name} has no camera images under obs: write the file again")
    states = [key for key, (shape, kind) in shapes.items() if len(shape) == 2 and kind.kind == "f"]
    state = said["state"] if "state" in said else states[0] if len(states) == 1 else None
    gripper, stride = said.get("gripper"), said.get("frame_stride", 1)
    if gripper is not None and not (isinstance(gripper, int) and 0 <= gripper < actions[1]):
        raise DemoError(
            f"{file.filename}: env_args says that the gripper is entry {gripper} of the actions, which have "
            f"{actions[1]}: write the file again"
        )
    if not (isinstance(stride, int) and stride >= 1):
        raise DemoError(f"{file.filename}: env_args says frame_stride {stride}, expected 1 or more: write it again")
    return Layout(
        cameras=tuple(cameras),
        action_dim=int(actions[1]),
        gripper=gripper,
        gripper_known="gripper" in said,
        state=state,
        state_dim=int(shapes[state][0][-1]) if state in shapes else 0,
        fps=said["fps"] if "fps" in said else control_rate(said),
        frame_stride=stride,
        bounded=bool(said.get("bounded", False)),
        paraphrased=bool(said.get("paraphrased", False)),
    )


def control_rate(said: dict[str, Any]) -> float | None:
    """Actions a second by robomimic's `env_args`, where they say it."""
    rate = (said.get("env_kwargs") or {}).get("control_freq")
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def demo_names(file: h5py.File) -> list[str]:
    """Complete demonstrations, sorted by task and seed: the order in which workers finished does not matter."""
    keys = []
    with reading(file.filename):
        data = file["data"]
        every = list(data)
    for name in every:
        with reading(file.filename, name):
            attributes = data[name].attrs
            # Files written by robomimic itself have no `complete`: they are closed when whole.
            if isinstance(data[name], h5py.Group) and attributes.get("complete", True):
                number = name.rpartition("_")[2]
                order = int(number) if number.isdigit() else 0
                seed, subtask = (attributes.get(key, default) for key, default in (("seed", order), ("subtask", 0)))
                origin = str(attributes.get("env_id", ""))
                keys.append(
                    (text_of(attributes.get("task", "")), str(seed).zfill(12), origin, str(subtask), order, name)
                )
    return [name for *_, name in sorted(keys)]


def iterate_demos(path: Path) -> Iterator[tuple[str, Demonstration]]:
    """Every complete demonstration of a store with its name, in `demo_names` order."""
    with open_hdf5(path) as file:
        read_env_args(file)
        names = demo_names(file)
        layout = read_layout(file) if names else None
        for name in names:
            assert layout is not None
            with reading(path, name):
                yield name, _read(file["data"][name], layout)


def _read(group: h5py.Group, layout: Layout) -> Demonstration:
    attributes = dict(group.attrs)
    return Demonstration(
        images={camera: read_all(group[f"obs/{camera}"]) for camera in layout.cameras},
        actions=group["actions"][:],
        instruction=text_of(attributes.get("instruction", "")),
        task=text_of(attributes.get("task", "")),
        state=None if layout.state is None else group[f"obs/{layout.state}"][:],
        success=bool(attributes.get("success", True)),
        actions_executed=group["actions_executed"][:] if "actions_executed" in group else None,
        attributes=plain_attributes(attributes),
        start=read_start(group),
    )


def plain_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a demonstration that are not ours and that any format can hold: numbers, texts and truth values."""
    found = {key: text_of(value) if isinstance(value, bytes) else value for key, value in attributes.items()}
    return {key: value for key, value in found.items() if key not in OWN and is_storable(value)}


def read_start(group: h5py.Group) -> dict[str, NDArray[np.float64]]:
    """See `Demonstration.start`; of the group of a demonstration."""
    return {option: np.asarray(numbers[:], np.float64) for option, numbers in group.get("start", {}).items()}
