"""What every format of demonstrations offers to training, `convert` and `inspect`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.files import DemoError

FILM_BLOCK = 64
"""Images that are read at a time."""


@dataclass(frozen=True)
class Record:
    """A demonstration without its images: what fits in memory, however many there are."""

    name: str
    """What the source calls it, for messages."""
    task: str
    instruction: str
    actions: NDArray[np.float32]
    """(T, D) in the environment's own units."""
    first_frame: int
    """Row of the reader's frames that holds the images of its first step; the others follow."""
    state: NDArray[np.float32] | None = None
    """(T, S), or None."""
    success: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)
    """Whatever else the source says of it: numbers, texts and truth values."""


class DemoReader(ABC):
    """Demonstrations of one robot, wherever they are stored. Images are read when they are asked for.

    A reader may be pickled and sent to another process: what it has opened is opened there again.

    Attributes:
        path: what it reads.
        layout: what its demonstrations have in common.
        records: all demonstrations, in an order that depends on the data alone. Those that share frames (CALVIN's
            windows overlap) share rows.
        frame_count: rows of its frames.
        skipped: what was left out, as reason -> count. Never silently wrong numbers: a demonstration that cannot be
            used is refused (`problems`) or left out and counted here.
    """

    path: Path
    layout: Layout
    records: Sequence[Record]
    frame_count: int
    skipped: dict[str, int]

    @abstractmethod
    def images(self, camera: str, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 of a camera at these rows of the reader's frames, in their order.

        Raises:
            DemoError: an image cannot be read, or is not an image of such a shape; names file and frame.
        """

    @abstractmethod
    def problems(self) -> Iterator[str]:
        """What stands in the way of training, each text beginning with the name of its demonstration.

        May read everything there is, images excepted.
        """

    @property
    def whole(self) -> DemoReader:
        """The reader of all demonstrations, where this one gives some of them: both have the same rows."""
        return self

    def close(self) -> None:  # noqa: B027 (readers that keep nothing open need not define it)
        """Close what was opened; the reader opens it again if it is used after that."""

    def start(self, record: Record) -> dict[str, Any]:
        """Options of an environment's reset that bring back the start of a demonstration, beside its task; none if the
        source does not know it."""
        return {}

    def frame_rows(self, record: Record) -> NDArray[np.int64]:
        """The rows of a demonstration's frames: one for every `layout.frame_stride` actions."""
        return record.first_frame + np.arange(-(-len(record.actions) // self.layout.frame_stride))

    def demonstration(self, record: Record, image_size: int | None = None) -> Demonstration:
        """A record with its images, made squares of `image_size` pixels if that is given."""
        return Demonstration(
            images={camera: self._film(record, camera, image_size) for camera in self.layout.cameras},
            actions=record.actions,
            instruction=record.instruction,
            task=record.task,
            state=record.state,
            success=record.success,
            attributes=dict(record.attributes),
            start=self.start(record),
        )

    def _film(self, record: Record, camera: str, image_size: int | None) -> NDArray[Any]:
        """The images (F, H, W, 3) of a record, as they are. Raises DemoError where their sizes differ."""
        rows = self.frame_rows(record)
        film: NDArray[Any] = np.empty((len(rows), 0, 0, 3), np.uint8)
        size = (0, 0)
        for begin in range(0, len(rows), FILM_BLOCK):  # so that large images that become small ones fill no memory
            images = self.images(camera, rows[begin : begin + FILM_BLOCK])
            size = size if begin else images[0].shape[:2]
            if others := sorted({image.shape[:2] for image in images} - {size}):
                (height, width), (other, another) = size, others[0]
                raise DemoError(
                    f"{self.path}: {record.name}: images of camera {camera!r} are {width} x {height} and {another} x "
                    f"{other} pixels: write them again in one size"
                )
            block = np.stack(images)
            if image_size is not None:
                from rf_agent.preprocess import resize

                block = resize(block, image_size)
            if not begin:
                film = np.empty((len(rows), *block.shape[1:]), block.dtype)
            elif block.dtype != film.dtype:  # no image is made another: what is wrong with it must stay to be seen
                film = film.astype(np.promote_types(film.dtype, block.dtype))
            film[begin : begin + len(block)] = block
        return film


def record_problems(
    record: Record, layout: Layout, shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
) -> list[str]:
    """What keeps a record from being learned from, each text beginning with its name; no image is read.

    Args:
        record: of a reader with this layout.
        layout: what it must fit.
        shapes: shape (F, H, W, 3) and dtype of the images of each camera that it has.
    """
    images = {name: np.broadcast_to(np.zeros((), dtype), shape) for name, (shape, dtype) in shapes.items()}
    demo = Demonstration(images, record.actions, record.instruction, record.task, record.state)
    return [f"{record.name}: {text}" for text in demo.problems(layout)]
