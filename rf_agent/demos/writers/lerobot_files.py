"""Files of a LeRobot data set that hold many episodes and are split where they grow too large."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.readers.parquet import INSTALL
from rf_agent.errors import require

FILES_A_CHUNK = 1000
"""Files in a folder."""
MEGABYTE = 2**20


class _Split:
    """Numbers files, and says when the next one begins.

    Args:
        template: of their names, with `{chunk_index:03d}` and `{file_index:03d}`.
        megabytes: a file ends before it grows larger; an episode that is larger has a file of its own.
    """

    def __init__(self, root: Path, template: str, megabytes: float) -> None:
        self.root, self.template, self._limit = root, template, megabytes * MEGABYTE
        self.number = -1
        self.rows, self.bytes = 0, 0  # in the current file

    @property
    def chunk_index(self) -> int:
        return self.number // FILES_A_CHUNK

    @property
    def file_index(self) -> int:
        return self.number % FILES_A_CHUNK

    @property
    def path(self) -> Path:
        return self.root / self.template.format(chunk_index=self.chunk_index, file_index=self.file_index)

    def is_full(self, rows: int) -> bool:
        """Whether so many more rows, each as large as those before, would be too much for the current file."""
        if self.number < 0:
            return True
        return self.rows > 0 and self.bytes * (1 + rows / self.rows) >= self._limit

    def next(self) -> Path:
        """Begin the next file: its path."""
        self.number, self.rows, self.bytes = self.number + 1, 0, 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path


class ParquetFiles:
    """Tables in parquet files; each `write` is a group of rows."""

    def __init__(self, root: Path, template: str, megabytes: float) -> None:
        self._parquet = require("pyarrow.parquet", "writing LeRobot data sets", INSTALL)
        self._split = _Split(root, template, megabytes)
        self._writer: Any = None

    def place(self, rows: int) -> tuple[int, int]:
        """Chunk and file index of the file that takes the next rows."""
        if self._split.is_full(rows):
            self.close()
            self._split.next()
        return self._split.chunk_index, self._split.file_index

    def write(self, table: Any) -> None:
        """Write a `pyarrow.Table` to the file that `place` chose."""
        if self._writer is None:
            options = {"compression": "snappy", "write_page_checksum": True}
            self._writer = self._parquet.ParquetWriter(self._split.path, table.schema, **options)
        self._writer.write_table(table, row_group_size=len(table))
        self._split.rows += len(table)
        self._split.bytes = self._split.path.stat().st_size

    def close(self) -> None:
        """Finish the current file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def discard(self) -> None:
        """Close the current file, which is not wanted any more."""
        with suppress(OSError):  # what went wrong before goes wrong again
            self.close()


class VideoFiles:
    """Images of one camera in MP4 files.

    H.264 in yuv420p, every second frame a key frame, so that any frame is found at once: what LeRobot writes, with
    the codec that all players know. There are no frames that refer to later ones, so the first is at second 0.

    Args:
        quality: x264's crf, lower is better.
    """

    def __init__(
        self, root: Path, template: str, megabytes: float, fps: float, size: tuple[int, int], quality: int
    ) -> None:
        self._av = require("av", "writing LeRobot data sets", INSTALL)
        self._split = _Split(root, template, megabytes)
        self.rate, self._size, self._quality = Fraction(fps).limit_denominator(1001), size, quality
        self._container: Any = None
        self._stream: Any = None

    def write(self, images: NDArray[np.uint8]) -> tuple[int, int, float, float]:
        """Append an episode (F, H, W, 3): chunk and file index, and the seconds at which it begins and ends."""
        if self._split.is_full(len(images)):
            self.close()
            self._begin(self._split.next())
        first = self._split.rows
        for image in images:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = self._split.rows, 1 / self.rate
            self._mux(self._stream.encode(frame))
            self._split.rows += 1
        begin, end = float(first / self.rate), float(self._split.rows / self.rate)
        return self._split.chunk_index, self._split.file_index, begin, end

    def close(self) -> None:
        """Finish the current file."""
        if self._container is not None:
            self._mux(self._stream.encode(None))
            self._container.close()
            self._container = None

    def discard(self) -> None:
        """Close the current file, which is not wanted any more."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(OSError, RuntimeError):  # what went wrong before goes wrong again
                container.close()

    def described(self) -> dict[str, Any]:
        """What meta/info.json says of the videos."""
        height, width = self._size
        rate = int(self.rate) if self.rate.denominator == 1 else float(self.rate)
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": rate,
            "video.channels": 3,
            "has_audio": False,
        }

    def _mux(self, packets: Sequence[Any]) -> None:
        self._container.mux(packets)  # the encoder holds back some dozens of images, so that this is about the size
        self._split.bytes += sum(packet.size for packet in packets)

    def _begin(self, path: Path) -> None:
        self._container = self._av.open(
            str(path.absolute()), "w"
        )  # FFmpeg takes what stands before a colon for a protocol
        options = {"g": "2", "bf": "0", "crf": str(self._quality)}
        self._stream = self._container.add_stream("h264", rate=self.rate, options=options)
        self._stream.height, self._stream.width = self._size
        self._stream.pix_fmt = "yuv420p"


def even(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (F, H, W, 3) of even height and width, as yuv420p wants them: the last row or column is repeated."""
    height, width = images.shape[1:3]
    if height % 2 == 0 and width % 2 == 0:
        return images
    return np.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def table_of(columns: dict[str, NDArray[np.generic]], types: Sequence[tuple[str, int, str]]) -> Any:
    """Rows as a `pyarrow.Table`.

    Args:
        columns: (T, D) or (T,) by name.
        types: name, D and type (as pyarrow calls it) of each column; numbers where D is 1, else lists of D numbers.
    """
    import pyarrow as pa

    arrays, fields = [], []
    for name, dim, kind in types:
        flat = pa.array(np.ascontiguousarray(columns[name]).reshape(-1), type=pa.type_for_alias(kind))
        array = flat if dim == 1 else pa.FixedSizeListArray.from_arrays(flat, dim)
        arrays.append(array)
        fields.append(pa.field(name, array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
