"""Some of the demonstrations of a reader: those of some scenes, or a share of every task's."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Demonstration
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.base import DemoReader, Record


class ChosenReader(DemoReader):
    """What another reader reads, with some of its records. The rows of frames stay those of all.

    Args:
        reader: the other one.
        chosen: places of the records to keep, in `reader.records`.
    """

    def __init__(self, reader: DemoReader, chosen: Collection[int]) -> None:
        self.reader = reader
        self.records = [record for index, record in enumerate(reader.records) if index in chosen]
        self.path, self.layout = reader.path, reader.layout
        self.frame_count, self.skipped = reader.frame_count, reader.skipped

    @property
    def whole(self) -> DemoReader:
        """The reader of all demonstrations."""
        return self.reader.whole

    def images(self, camera: str, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 of a camera at these rows."""
        return self.reader.images(camera, rows)

    def problems(self) -> Iterator[str]:
        """What stands in the way of training, in any of the demonstrations of the other reader."""
        return self.reader.problems()

    def demonstration(self, record: Record, image_size: int | None = None) -> Demonstration:
        """A record with its images, and what else the other reader knows of it."""
        return self.reader.demonstration(record, image_size)

    def start(self, record: Record) -> dict[str, Any]:
        """What brings back the start of a demonstration, as the other reader knows it."""
        return self.reader.start(record)

    def close(self) -> None:
        """Close what the other one has opened."""
        self.reader.close()


def choose(
    readers: Sequence[DemoReader], scenes: Sequence[str] = (), fraction: float = 1.0, seed: int = 0
) -> list[DemoReader]:
    """Readers of some of the demonstrations; those that nothing is left of are not among them.

    Args:
        readers: of all.
        scenes: letters of scenes; demonstrations of others are left out. All if none are given.
        fraction: share of each task's successful demonstrations to keep, at least one; a smaller share is part of a
            larger one.
        seed: of the random choice of that share.

    Raises:
        ValueError: the fraction is not above 0 and at most 1.
        DemoError: a file does not say its scenes, or no demonstration is of one of `scenes`.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"demos_fraction is {fraction:g}: give more than 0 and at most 1")
    chosen = list(readers)
    if scenes:
        chosen = _of_scenes(chosen, scenes)
    if fraction < 1:
        chosen = _share(chosen, fraction, seed)
    return [reader for reader in chosen if reader.records]


def _of_scenes(readers: Sequence[DemoReader], scenes: Sequence[str]) -> list[DemoReader]:
    letters = [name.removeprefix("calvin_scene_") for name in scenes]
    found: set[str] = set()
    for reader in readers:
        if any("scene" not in record.attributes for record in reader.records):
            raise DemoError(f"{reader.path} does not say the scenes of its demonstrations: leave out --scenes")
        found |= {str(record.attributes["scene"]) for record in reader.records}
    if missing := sorted(set(letters) - found):
        raise DemoError(f"no demonstration is of scene {missing[0]}: give some of {', '.join(sorted(found))}")
    return [
        ChosenReader(
            reader, {i for i, record in enumerate(reader.records) if str(record.attributes["scene"]) in letters}
        )
        for reader in readers
    ]


def _share(readers: Sequence[DemoReader], fraction: float, seed: int) -> list[DemoReader]:
    tasks: dict[str, list[tuple[int, int]]] = {}
    for number, reader in enumerate(readers):
        for index, record in enumerate(reader.records):
            if record.success:
                tasks.setdefault(record.task, []).append((number, index))
    kept: list[set[int]] = [set() for _ in readers]
    for _, places in sorted(tasks.items()):
        order = np.random.default_rng(seed).permutation(len(places))
        for place in order[: max(1, math.floor(fraction * len(places) + 1e-9))]:
            number, index = places[place]
            kept[number].add(index)
    return [ChosenReader(reader, chosen) for reader, chosen in zip(readers, kept, strict=True)]
