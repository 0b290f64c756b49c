"""The frames of demonstrations at the policy's resolution, read when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rf_agent.config import ImageConfig
from rf_agent.demos.readers import DemoReader

SAMPLED_FRAMES = 16
"""Frames whose pixels go into a fingerprint: reading all would take as long as encoding them."""


class Frames:
    """Rows of images of several readers, one reader after another.

    Nothing is held in memory unless `hold` is called, so data may be larger than it.

    Args:
        readers: of the demonstrations.
        views: cameras, in the policy's order.
        image: size and way of resizing.
    """

    def __init__(self, readers: Sequence[DemoReader], views: Sequence[str], image: ImageConfig) -> None:
        # what is known of the frames does not depend on which demonstrations were chosen
        self.readers, self.views, self.image = [reader.whole for reader in readers], tuple(views), image
        self.starts = np.concatenate([[0], np.cumsum([reader.frame_count for reader in self.readers])])
        self._held: NDArray[np.uint8] | None = None
        self._is_held = np.zeros(0, bool)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """(V, S, S, 3) of a row."""
        return len(self.views), self.image.size, self.image.size, 3

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * int(np.prod(self.shape))

    def files(self) -> list[tuple[int, int]]:
        """The rows of each reader, (first, last + 1)."""
        return list(zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True))

    def hold(self) -> None:
        """Keep in memory what is read from now on, for data that is read again and again."""
        if self._held is None:
            self._held, self._is_held = np.empty((len(self), *self.shape), np.uint8), np.zeros(len(self), bool)

    def get(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images (n, V, S, S, 3) of rows (n,).

        Raises:
            DemoError: an image cannot be read.
        """
        if self._held is None:
            return self._read(rows)
        missing = np.unique(rows[~self._is_held[rows]])
        if len(missing):
            self._held[missing] = self._read(missing)
            self._is_held[missing] = True
        return self._held[rows]

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        from rf_agent.preprocess import resize

        images = np.empty((len(rows), *self.shape), np.uint8)
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for owner in np.unique(owners):
            (places,) = np.nonzero(owners == owner)
            own_rows = rows[places] - self.starts[owner]
            for view, camera in enumerate(self.views):
                for place, image in zip(places, self.readers[owner].images(camera, own_rows), strict=True):
                    images[place, view] = resize(image, self.image.size, self.image.resample)
        return images

    def fingerprint(self, index: int) -> str:
        """Tells the frames of one reader from others: by all actions, and by the pixels of some frames."""
        reader, (first, last) = self.readers[index], self.files()[index]
        digest = hashlib.blake2b(digest_size=12)
        digest.update(repr((reader.frame_count, self.views, self.image)).encode())
        for record in reader.records:
            digest.update(f"{record.name} {record.first_frame} {record.instruction}".encode())
            digest.update(np.ascontiguousarray(record.actions).data)
        rows = np.unique(np.linspace(first, last - 1, SAMPLED_FRAMES).astype(np.int64))
        digest.update(np.ascontiguousarray(self._read(rows)).data)
        return digest.hexdigest()
