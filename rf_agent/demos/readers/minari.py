"""Reads data sets of Minari that are stored in HDF5, without the package `minari`.

    data/metadata.json                            the spaces of observations and actions
    data/main_data.hdf5  episode_N/actions        (T, D)
                         episode_N/observations/<key>   (T + 1, ...); images may be JPEG files in bytes
                         episode_N/infos/<key>

The last observation of an episode precedes no action and is left out.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.files import DemoError, reading
from rf_agent.demos.readers.base import DemoReader, Record, record_problems
from rf_agent.demos.readers.hdf5 import HDF5Reader

SUCCESS = ("is_success", "success")
"""Entries of `infos` that say whether the task was done."""


class MinariReader(HDF5Reader):
    """The episodes of a Minari data set, in their order; one whose instruction changes is cut there.

    Whether an episode succeeded is what its `infos` say last under `is_success` or `success`; without these all
    episodes are taken to have succeeded. Of one that is cut this is said of the last part; the others are taken to have
    succeeded, as another instruction followed.

    Args:
        path: folder of the data set, with `data` in it, or that folder.
        instruction: of all episodes, which are not cut then. Without, the observations must have a text `instruction`,
            or the infos.
        task: name of the task of all episodes; by default what `infos/task` says, or the instruction.
        state: keys of observations (vectors) that make up the state, one after the other; none by default.
        cameras: keys of observations that are images (H, W, 3) uint8; by default all of these.
        need_instruction: refuse an episode without instruction; else it has an empty one, which `problems` names.

    Raises:
        FileNotFoundError, DemoError: the folder is no such data set, damaged, or lacks what is asked of it.
    """

    OBSERVATIONS = "observations"

    def __init__(
        self,
        path: str | Path,
        *,
        instruction: str | None = None,
        task: str | None = None,
        state: str | Sequence[str] = (),
        cameras: Sequence[str] = (),
        need_instruction: bool = True,
    ) -> None:
        self._instruction, self._task, self._cameras = instruction, task, tuple(dict.fromkeys(cameras))
        self._state = (state,) if isinstance(state, str) else tuple(state)
        self._need_instruction = need_instruction
        self._folder = Path(path) / "data" if (Path(path) / "data").is_dir() else Path(path)
        self._spaces = _observation_spaces(self._folder / "metadata.json")
        self._bounds = _action_bounds(self._folder / "metadata.json")
        self._parts: dict[str, tuple[str, int]] = {}
        super().__init__(path)

    @property
    def _hdf5(self) -> Path:
        return self._folder / "main_data.hdf5"

    def _group(self, file: h5py.File, name: str) -> h5py.Group:
        return file[name]

    def _layout(self, file: h5py.File) -> Layout:
        known = [key for key, space in self._spaces.items() if _is_camera(space)]
        vectors = [key for key, space in self._spaces.items() if _is_vector(space)]
        for kind, keys, some in (("camera", self._cameras, known), ("state", self._state, vectors)):
            if missing := [key for key in keys if key not in some]:
                listed = ", ".join(some) or "none"
                raise DemoError(f"{self.path} has no {kind} {missing[0]!r} in its observations: give some of {listed}")
        cameras = self._cameras or tuple(known)
        if not cameras:
            raise DemoError(f"{self.path} has no image (H, W, 3) uint8 in its observations: give another data set")
        first = self._names(file)[0]
        with reading(self._hdf5, first):
            actions = file[first]["actions"]
        if not isinstance(actions, h5py.Dataset):
            raise DemoError(
                f"{self._hdf5}: {first}: actions are a dictionary or a tuple: give a data set of vectors (Box)"
            )
        shape = actions.shape
        if len(shape) != 2:
            raise DemoError(f"{self._hdf5}: {first}: actions have shape {shape}, expected (T, D)")
        return Layout(
            cameras=cameras,
            action_dim=int(shape[1]),
            gripper_known=False,
            state=(self._state[0] if len(self._state) == 1 else "state") if self._state else None,
            state_dim=sum(int(self._spaces[key]["shape"][0]) for key in self._state),
        )

    def _names(self, file: h5py.File) -> list[str]:
        with reading(self._hdf5):
            numbers = [int(name[8:]) for name in file if name.startswith("episode_") and name[8:].isdigit()]
        if not numbers:
            raise DemoError(f"{self._hdf5} holds no episode: give another data set")
        return [f"episode_{number}" for number in sorted(numbers)]

    def _records(self, name: str, group: h5py.Group, first_frame: int) -> list[Record]:
        actions = self._numbers(group, "actions")
        texts = self._instructions(group, max(1, len(actions)))
        state = None
        if self._state:
            state = self._joined(group, [f"observations/{key}" for key in self._state])[: len(actions)]
        tasks = _texts_before(group, "infos/task", len(actions))
        cuts = [0, *(row for row in range(1, len(texts)) if texts[row] != texts[row - 1]), len(actions)]
        found = []
        for number, (first, last) in enumerate(zip(cuts[:-1], cuts[1:], strict=True), 1):
            whole = len(cuts) == 2
            part = name if whole else f"{name} (part {number})"
            instruction = texts[first] if texts else ""
            if not instruction and self._need_instruction:
                raise DemoError(
                    f"{self.path}: {part} has no instruction: give one for all episodes (--instruction of "
                    "`rf-agent convert minari`)"
                )
            said = _last_text(group, "infos/task") if whole else tasks[first] if tasks else ""
            self._parts[part] = name, first
            found.append(
                Record(
                    part,
                    self._task or said or instruction,
                    instruction,
                    actions[first:last],
                    first_frame + first,
                    None if state is None else state[first:last],
                    _succeeded(group) if last == len(actions) else True,
                    {"seed": int(group.attrs["seed"])} if "seed" in group.attrs and not first else {},
                )
            )
        return found

    def _stored(self, record: Record) -> tuple[str, int]:
        return self._parts[record.name]

    def start(self, record: Record) -> dict[str, Any]:
        """As of `HDF5Reader`; nothing for parts of an episode that begin later."""
        return {} if self._stored(record)[1] else super().start(record)

    def _instructions(self, group: h5py.Group, count: int) -> list[str]:
        """What was asked at each of `count` actions; nothing where it is not said."""
        if self._instruction is not None:
            return [self._instruction] * count
        if "instruction" not in self._spaces or "instruction" not in group["observations"]:
            return _texts_before(group, "infos/instruction", count)
        return [_text(value) for value in group["observations/instruction"][:count]]

    def _image(self, camera: str, stored: Any) -> NDArray[np.uint8]:
        if np.ndim(stored) == 3:
            return np.asarray(stored)
        with Image.open(io.BytesIO(np.asarray(stored, np.uint8).tobytes()), formats=["JPEG"]) as image:
            pixels = np.asarray(image)
        if pixels.shape != tuple(self._spaces[camera]["shape"]):
            raise DemoError(f"{self._hdf5}: an image of {camera!r} is {pixels.shape}, not as its space says")
        return pixels

    def problems(self) -> Iterator[str]:
        """What stands in the way of training, each beginning with the name of its episode."""
        for record in self.records:
            shapes = {}
            name, first = self._stored(record)
            group, last = self._file[name], first + len(record.actions)
            for camera in self.layout.cameras:
                stored = group.get(f"observations/{camera}")
                if stored is not None and len(stored) > last:
                    size = tuple(self._spaces[camera]["shape"])
                    surplus = len(stored) - 1 - len(group["actions"])  # 0 where nothing is wrong
                    shapes[camera] = ((len(record.actions) + surplus, *size), np.dtype(np.uint8))
            yield from record_problems(record, self.layout, shapes)
            if self._bounds is not None and not _within(record.actions, *self._bounds):
                yield f"{record.name}: actions lie outside the action_space of metadata.json"

    def demonstration(self, record: Record, image_size: int | None = None) -> Demonstration:
        """See `DemoReader.demonstration`."""
        return DemoReader.demonstration(self, record, image_size)


def _observation_spaces(path: Path) -> dict[str, dict[str, Any]]:
    """The spaces of the observations by key, as Minari describes them."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the folder of a Minari data set")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        form, space = said.get("data_format", "hdf5"), json.loads(said["observation_space"])
        found = dict(space.get("subspaces", {})) if space["type"] == "Dict" else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DemoError(f"{path} does not describe an observation_space: download the data set again") from error
    if form != "hdf5":
        raise DemoError(f"{path.parent} is stored in the format {form!r}: write it again with data_format='hdf5'")
    if not found:
        raise DemoError(f"{path.parent} has observations that are no dictionary: give a data set with named images")
    return found


def _action_bounds(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The lowest and highest actions (D,) that the data set declares; None where it declares no such range."""
    try:
        space = json.loads(json.loads(path.read_text(encoding="utf-8")).get("action_space", "{}"))
        if space.get("type") != "Box":
            return None
        return np.asarray(space["low"], np.float64), np.asarray(space["high"], np.float64)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DemoError(f"{path} has an action_space that cannot be read: download the data set again") from error


def _within(actions: NDArray[np.float32], low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
    """Whether actions (T, D) lie between bounds (D,), as far as float32 tells; NaN does not count."""
    if actions.ndim != 2 or low.shape != actions.shape[1:] or high.shape != low.shape:
        return False
    spare = 1e-6 * np.maximum(1.0, np.abs(actions))
    return not ((actions < low - spare) | (actions > high + spare)).any()


def _is_camera(space: dict[str, Any]) -> bool:
    shape = space.get("shape", [])
    return space.get("dtype") == "uint8" and len(shape) == 3 and shape[2] == 3


def _is_vector(space: dict[str, Any]) -> bool:
    return str(space.get("dtype")).startswith("float") and len(space.get("shape", [])) == 1


def _text(value: Any) -> str:
    """A text as it is stored: as such, or as UTF-8 bytes that may be padded with zeros."""
    if isinstance(value, str):
        return value
    content = value if isinstance(value, bytes) else np.asarray(value, np.uint8).tobytes()
    return content.rstrip(b"\0").decode(errors="replace")


def _texts(group: h5py.Group, key: str) -> list[str]:
    """An array of texts, or nothing."""
    found = group.get(key)
    if not isinstance(found, h5py.Dataset) or found.ndim != 1 or found.dtype.kind not in "OS":
        return []
    return [_text(value) for value in found[:]]


def _texts_before(group: h5py.Group, key: str, count: int) -> list[str]:
    """What `infos` said before each of `count` actions. They may begin with those of the reset or of the first step;
    where there are fewer, the last one is said of the whole episode."""
    found = _texts(group, key)
    if len(found) < count:
        return found[-1:] * count
    return found[:count] if len(found) > count else [*found[:1], *found[: count - 1]]


def _last_text(group: h5py.Group, key: str) -> str:
    """The last entry of an array of texts, or nothing."""
    return (_texts(group, key) or [""])[-1]


def _succeeded(group: h5py.Group) -> bool:
    for key in SUCCESS:
        found = group.get(f"infos/{key}")
        if isinstance(found, h5py.Dataset) and found.ndim and len(found):
            return bool(np.all(found[len(found) - 1]))
    return True
