"""Reads our own store and files of robomimic (HDF5), see `rf_agent.demos.store`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.clips import read_images
from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.files import DemoError, open_hdf5, reading, text_of
from rf_agent.demos.readers.base import DemoReader, Record
from rf_agent.demos.store import demo_names, plain_attributes, read_layout, read_start
from rf_agent.demos.store_checks import NUMBERS, problems


class HDF5Reader(DemoReader):
    """The complete demonstrations of a file, sorted by task and seed.

    Args:
        path: the file.
        skip_damaged: leave out demonstrations whose numbers cannot be read, and name them in `problems`.

    Raises:
        FileNotFoundError, DemoError: there is no such file, it is damaged, or holds no complete demonstration.
    """

    CUT_OFF = "cut off while they were written"
    """The reason in `skipped` for demonstrations that are not complete."""
    OBSERVATIONS = "obs"
    """The group of observations in that of a demonstration."""

    def __init__(self, path: str | Path, *, skip_damaged: bool = False) -> None:
        self.path, self.skipped = Path(path), {}
        self._opened: tuple[int, h5py.File] | None = None
        self._damaged: list[str] = []
        self.records: list[Record] = []
        rows = 0
        with open_hdf5(self._hdf5) as file:
            self.layout = self._layout(file)
            for name in self._names(file):
                try:
                    with reading(self.path, name):
                        found = self._records(name, self._group(file, name), rows)
                except DemoError as error:
                    if not skip_damaged:
                        raise
                    # an error of h5py says nothing that a user understands
                    wrong = f"{name}: it cannot be read, because the file is damaged"
                    self._damaged.append(wrong if error.__cause__ else str(error).removeprefix(f"{self.path}: "))
                    continue
                self.records += found
                rows += sum(len(self.frame_rows(record)) for record in found)
        self.frame_count = rows
        self._starts = np.array([record.first_frame for record in self.records], np.int64)

    def _layout(self, file: h5py.File) -> Layout:
        """What the demonstrations have in common."""
        return read_layout(file)

    def _names(self, file: h5py.File) -> list[str]:
        """The demonstrations to read, in order; others are counted."""
        names = demo_names(file)
        if incomplete := len(file["data"]) - len(names):
            self.skipped[self.CUT_OFF] = incomplete
        return names

    def _group(self, file: h5py.File, name: str) -> h5py.Group:
        """Where a demonstration is stored."""
        return file["data"][name]

    def _image(self, camera: str, stored: Any) -> NDArray[np.uint8]:
        """An image of what is stored for a frame."""
        return np.asarray(stored)

    def _records(self, name: str, group: h5py.Group, first_frame: int) -> list[Record]:
        """What is stored under a name, without its images: one demonstration, or several one after the other."""
        return [self._record(name, group, first_frame)]

    def _stored(self, record: Record) -> tuple[str, int]:
        """The name under which a demonstration is stored, and the row there of its first image."""
        return record.name, 0

    def _record(self, name: str, group: h5py.Group, first_frame: int) -> Record:
        """A demonstration without its images."""
        attributes = dict(group.attrs)
        state = self.layout.state
        return Record(
            name,
            text_of(attributes.get("task", "")),
            text_of(attributes.get("instruction", "")),
            self._numbers(group, "actions"),
            first_frame,
            None if state is None else self._numbers(group, f"obs/{state}"),
            bool(attributes.get("success", True)),
            plain_attributes(attributes),
        )

    def _numbers(self, group: h5py.Group, key: str) -> NDArray[np.float32]:
        """A data set of numbers. Raises DemoError for complex numbers, texts and others."""
        name = group.name.rpartition("/")[2]
        dataset = group.get(key)
        if not isinstance(dataset, h5py.Dataset):
            raise DemoError(f"{self.path}: {name}: {key} is missing: delete that demonstration, or write it again")
        if dataset.dtype.kind not in NUMBERS:
            raise DemoError(
                f"{self.path}: {name}: {key} is {dataset.dtype}, expected float32: delete that demonstration or write "
                "the file again"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
            return np.asarray(dataset[:], np.float32)

    def _joined(self, group: h5py.Group, keys: Sequence[str]) -> NDArray[np.float32]:
        """Vectors (T, S) of numbers side by side. Raises DemoError for those that do not fit together."""
        parts = [self._numbers(group, key) for key in keys]
        if any(part.ndim != 2 or len(part) != len(parts[0]) for part in parts):
            listed = ", ".join(f"{key} {part.shape}" for key, part in zip(keys, parts, strict=True))
            raise DemoError(
                f"{self.path}: {group.name.rpartition('/')[2]}: the parts of the state are {listed}, expected (T, S) "
                "of one length: leave one of them out"
            )
        return np.concatenate(parts, axis=1)

    def images(self, camera: str, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 of a camera at these rows."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        found: list[Any] = [None] * len(rows)
        for owner in np.unique(owners):
            record = self.records[owner]
            (places,) = np.nonzero(owners == owner)
            name, first = self._stored(record)
            wanted = rows[places] - record.first_frame + first
            with reading(self.path, record.name):
                dataset = self._group(self._file, name)[f"{self.OBSERVATIONS}/{camera}"]
                taken = [self._image(camera, stored) for stored in read_images(dataset, wanted)]
            for place, image in zip(places, taken, strict=True):
                found[place] = image
        return found

    def problems(self) -> Iterator[str]:
        """What stands in the way of training, each beginning with the name of its demonstration."""
        yield from self._damaged
        for record in self.records:
            for text in problems(self._file, record.name, self.layout):
                yield f"{record.name}: {text}"

    def demonstration(self, record: Record, image_size: int | None = None) -> Demonstration:
        """See `DemoReader.demonstration`; with the actions that were carried out where they differ."""
        demo = super().demonstration(record, image_size)
        with reading(self.path, record.name):
            group = self._file["data"][record.name]
            if "actions_executed" in group:
                demo.actions_executed = np.asarray(group["actions_executed"][:], np.float32)
        return demo

    def start(self, record: Record) -> dict[str, Any]:
        """The state that the file says a demonstration began in; nothing where a seed says it."""
        with reading(self.path, record.name):
            return dict(read_start(self._group(self._file, self._stored(record)[0])))

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    @property
    def _hdf5(self) -> Path:
        """The file that is opened."""
        return self.path

    @property
    def _file(self) -> h5py.File:
        """The open file; one of another process (after a fork) is left alone."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_hdf5(self._hdf5))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}
