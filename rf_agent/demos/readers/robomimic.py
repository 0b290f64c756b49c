"""Reads files of robomimic, which hold no instructions: those of robosuite, MimicGen and others.

data                         attribute env_args (JSON); its env_kwargs may say the control_freq
data/demo_N/actions          (T, D)
data/demo_N/obs/<key>        (T, S) low-level observations and (T, H, W, 3) images
mask/<name>                  names of demonstrations, such as `train` and `valid`
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py

from rf_agent.demos.clips import image_shape, is_color
from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.files import DemoError, open_hdf5, reading, text_of
from rf_agent.demos.readers.base import DemoReader, Record, record_problems
from rf_agent.demos.readers.hdf5 import HDF5Reader
from rf_agent.demos.store import control_rate, read_env_args


class RobomimicReader(HDF5Reader):
    """Demonstrations of a robomimic file, in the order of their numbers.

    Args:
        path: the file.
        instruction: of all demonstrations. Without, each must have an attribute `instruction`, or `lang` in its
            `ep_meta` (RoboCasa).
        task: name of the task of all demonstrations; by default their attribute `task`, or the instruction.
        filter_key: a list under `mask`, such as `train`: only its demonstrations are read.
        state: low-level observations that make up the state, one after the other; none by default.
        cameras: image observations; by default all of (T, H, W, 3) uint8.
        skip_damaged: see `HDF5Reader`.

    Raises:
        FileNotFoundError, DemoError: there is no such file, it is damaged, or lacks what is asked of it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        instruction: str | None = None,
        task: str | None = None,
        filter_key: str | None = None,
        state: str | Sequence[str] = (),
        cameras: Sequence[str] = (),
        skip_damaged: bool = False,
    ) -> None:
        self._instruction, self._task, self._filter_key = instruction, task, filter_key
        self._state = (state,) if isinstance(state, str) else tuple(state)
        self._cameras = tuple(dict.fromkeys(cameras))
        super().__init__(Path(path), skip_damaged=skip_damaged)

    def _layout(self, file: h5py.File) -> Layout:
        said = read_env_args(file)
        names = self._names(file)
        with reading(self.path, names[0]):
            group = file["data"][names[0]]
            shapes = {key: image_shape(value) for key, value in group.get("obs", {}).items() if _is_dataset(value)}
            actions: tuple[int, ...] = group["actions"].shape if "actions" in group else ()
        if len(actions) != 2:
            raise DemoError(f"{self.path}: {names[0]}: actions has shape {actions}, expected (T, D)")
        images = [key for key, (shape, dtype) in shapes.items() if is_color(shape, dtype)]
        vectors = [key for key, (shape, dtype) in shapes.items() if dtype.kind == "f" and len(shape) == 2]
        for kind, wanted, known in (("camera", self._cameras, images), ("state", self._state, vectors)):
            if missing := [key for key in wanted if key not in known]:
                some = ", ".join(sorted(known)) or "none"
                raise DemoError(f"{self.path} has no {kind} {missing[0]!r} under obs: give some of {some}")
        if not images:
            raise DemoError(f"{self.path} has no camera images under obs: write it again with image observations")
        return Layout(
            cameras=self._cameras or tuple(images),
            action_dim=int(actions[1]),
            gripper_known=False,
            state=(self._state[0] if len(self._state) == 1 else "state") if self._state else None,
            state_dim=sum(int(shapes[key][0][1]) for key in self._state),
            fps=control_rate(said),
        )

    def _names(self, file: h5py.File) -> list[str]:
        with reading(self.path):
            names = [name for name in file["data"] if _is_group(file["data"], name)]
            masks = {key: value for key, value in file.get("mask", {}).items() if _is_dataset(value)}
        if self._filter_key is not None:
            if self._filter_key not in masks:
                some = ", ".join(sorted(masks)) or "none: the file has no mask"
                raise DemoError(f"{self.path} has no filter key {self._filter_key!r}: give one of {some}")
            with reading(self.path, f"mask/{self._filter_key}"):
                listed = [text_of(name) for name in masks[self._filter_key][:]]
            if missing := sorted(set(listed) - set(names)):
                raise DemoError(f"{self.path}: mask/{self._filter_key} names {missing[0]}, which is not there")
            names = list(set(listed))
        if not names:
            raise DemoError(f"{self.path} holds no demonstration of this choice: give another file or filter key")
        return sorted(names, key=_order)

    def _record(self, name: str, group: h5py.Group, first_frame: int) -> Record:
        instruction = self._instruction or _said(group)
        if not instruction:
            raise DemoError(f"{self.path}: {name} has no instruction: give one for the whole file (--instruction)")
        task = self._task or text_of(group.attrs.get("task", "")) or instruction
        state = None
        if self._state:
            state = self._joined(group, [f"obs/{key}" for key in self._state])
        actions, success = self._numbers(group, "actions"), bool(group.attrs.get("success", True))
        return Record(name, task, instruction, actions, first_frame, state, success)

    def problems(self) -> Iterator[str]:
        """What stands in the way of training, each beginning with the name of its demonstration."""
        yield from self._damaged
        for record in self.records:
            found = ((camera, self._file["data"][record.name].get(f"obs/{camera}")) for camera in self.layout.cameras)
            shapes = {camera: image_shape(images) for camera, images in found if images is not None}
            yield from record_problems(record, self.layout, shapes)

    def demonstration(self, record: Record, image_size: int | None = None) -> Demonstration:
        """See `DemoReader.demonstration`."""
        return DemoReader.demonstration(self, record, image_size)


def says_instructions(path: Path) -> bool:
    """Whether a file is one of robomimic of which each demonstration says its instruction in `ep_meta` (RoboCasa)."""
    with open_hdf5(path) as file:
        if "cameras" in read_env_args(file):  # one of ours
            return False
        with reading(path):
            groups = [group for group in file["data"].values() if isinstance(group, h5py.Group)]  # None if damaged
            return bool(groups) and all(_language(group) for group in groups)


def _said(group: h5py.Group) -> str:
    """The instruction that a demonstration itself names, or nothing."""
    return text_of(group.attrs.get("instruction", "")) or _language(group)


def _language(group: h5py.Group) -> str:
    try:
        said = json.loads(text_of(group.attrs.get("ep_meta", "{}"))).get("lang")
    except (ValueError, AttributeError):
        return ""
    return said if isinstance(said, str) else ""


def _order(name: str) -> tuple[int, str]:
    number = name.rpartition("_")[2]
    return int(number) if number.isdigit() else 0, name


def _is_group(data: h5py.Group, name: str) -> bool:
    """Whether a demonstration lies under a name; what is damaged may be one, and is named when it is read."""
    try:
        return bool(data.get(name, getclass=True) is h5py.Group)
    except Exception:  # h5py's errors for damaged files are of many kinds
        return True


def _is_dataset(value: Any) -> bool:
    return isinstance(value, h5py.Dataset)
