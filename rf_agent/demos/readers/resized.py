"""Demonstrations with images of another size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Demonstration
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.base import DemoReader, Record


class ResizedReader(DemoReader):
    """What another reader reads, with square images.

    Stored at the image size of a policy, images are what it would see of the original ones, if it stretches them to a
    square (`image.resample` bilinear, as the tiny ones do). Policies of the published sizes cut a square out of images
    that are not square.

    Args:
        reader: the other one.
        size: side of the images in pixels.

    Raises:
        DemoError: the size is not positive.
    """

    def __init__(self, reader: DemoReader, size: int) -> None:
        if size < 1:
            raise DemoError(f"the image size is {size}: give 1 or more pixels")
        self.reader, self.size = reader, size
        self.path, self.layout, self.records = reader.path, reader.layout, reader.records
        self.frame_count, self.skipped = reader.frame_count, reader.skipped

    def images(self, camera: str, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images (size, size, 3) uint8 of a camera at these rows."""
        from rf_agent.preprocess import resize

        return [resize(image, self.size) for image in self.reader.images(camera, rows)]

    def problems(self) -> Iterator[str]:
        """What stands in the way of training, each beginning with the name of its demonstration."""
        return self.reader.problems()

    def demonstration(self, record: Record, image_size: int | None = None) -> Demonstration:
        """A record with its images, and what else the other reader knows of it."""
        return self.reader.demonstration(record, image_size or self.size)

    def start(self, record: Record) -> dict[str, Any]:
        """What brings back the start of a demonstration, as the other reader knows it."""
        return self.reader.start(record)

    def close(self) -> None:
        """Close what the other one has opened."""
        self.reader.close()
