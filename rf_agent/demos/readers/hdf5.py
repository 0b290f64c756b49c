"""Reads our own store and files of robomimic (HDF5), see `rf_agent.demos.store`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.checks import problems
from rf_agent.demos.demonstration import Demonstration
from rf_agent.demos.files import open_hdf5, reading
from rf_agent.demos.readers.base import DemoReader, Record
from rf_agent.demos.store import OWN, demo_names, read_layout


class HDF5Reader(DemoReader):
    """The complete demonstrations of a file, sorted by task and seed.

    Raises:
        FileNotFoundError, DemoError: there is no such file, it is damaged, or holds no complete demonstration.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = Path(path), {}
        self._opened: tuple[int, h5py.File] | None = None
        with open_hdf5(self.path) as file:
            self.layout = read_layout(file)
            names = demo_names(file)
            self.records = []
            rows = 0
            for name in names:
                self.records.append(self._record(name, file["data"][name], rows))
                rows += len(self.frame_rows(self.records[-1]))
            if incomplete := len(file["data"]) - len(names):
                self.skipped["cut off while they were written"] = incomplete
        self.frame_count = rows
        self._starts = np.array([record.first_frame for record in self.records])

    def _record(self, name: str, group: h5py.Group, first_frame: int) -> Record:
        """A demonstration without its images; an empty one where it cannot be read: `problems` says why."""
        state = self.layout.state
        try:
            attributes = dict(group.attrs)
            actions = np.asarray(group["actions"][:], np.float32)
            states = None if state is None else np.asarray(group[f"obs/{state}"][:], np.float32)
        except Exception:  # h5py's errors for damaged files are of many kinds
            return Record(name, "", "", np.zeros((0, self.layout.action_dim), np.float32), first_frame)
        return Record(
            name,
            str(attributes.get("task", "")),
            str(attributes.get("instruction", "")),
            actions,
            first_frame,
            states,
            bool(attributes.get("success", True)),
            {key: value for key, value in attributes.items() if key not in OWN},
        )

    def images(self, camera: str, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 of a camera at these rows."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        found: list[Any] = [None] * len(rows)
        for owner in np.unique(owners):
            record = self.records[owner]
            (places,) = np.nonzero(owners == owner)
            wanted = rows[places] - record.first_frame
            first, last = int(wanted.min()), int(wanted.max()) + 1
            with reading(self.path, record.name):
                dataset = self._file["data"][record.name][f"obs/{camera}"]
                if last - first <= 2 * len(wanted):  # neighbours: one read
                    block = dataset[first:last]
                    taken = [block[index - first] for index in wanted]
                else:
                    taken = [dataset[int(index)] for index in wanted]
            for place, image in zip(places, taken, strict=True):
                found[place] = image
        return found

    def problems(self) -> Iterator[str]:
        """What stands in the way of training, each beginning with the name of its demonstration."""
        for record in self.records:
            for text in problems(self._file, record.name, self.layout):
                yield f"{record.name}: {text}"

    def demonstration(self, record: Record) -> Demonstration:
        """A record with its images, and with the actions that were carried out where they differ."""
        demo = super().demonstration(record)
        with reading(self.path, record.name):
            group = self._file["data"][record.name]
            if "actions_executed" in group:
                demo.actions_executed = np.asarray(group["actions_executed"][:], np.float32)
        return demo

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    @property
    def _file(self) -> h5py.File:
        """The open file; one of another process (after a fork) is left alone."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_hdf5(self.path))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}
