"""Arrays of `.npz` files, each read alone and not before its shape is known to be right."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.files import DemoError

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class BrokenFile(DemoError):
    """A file that cannot be used. `reason` says why without naming it, so that it can be counted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class Arrays:
    """The arrays of an open `.npz` file. Reading one leaves the others alone."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive

    def header(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of an array. Raises BrokenFile if there is none of that name."""
        with self._member(key) as member:
            shape, _, dtype = self._header(member)
        return shape, dtype

    def read(self, key: str) -> NDArray[Any]:
        """An array, of numbers alone. Raises BrokenFile."""
        with self._member(key) as member:
            shape, fortran, dtype = self._header(member)
            if dtype.hasobject:
                raise BrokenFile(self.path, f"{key} holds Python objects, expected numbers")
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            content = member.read(size)
            if len(content) < size:
                raise BrokenFile(self.path, f"{key} is cut off")
            member.read(1)  # the end: only there the checksum is compared
        return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")

    def vector(self, key: str, length: int) -> NDArray[np.float32]:
        """A vector (length,) of float32 or float64. Raises BrokenFile for anything else."""
        shape, dtype = self.header(key)
        if shape != (length,):
            raise BrokenFile(self.path, f"{key} has shape {shape}, expected ({length},)")
        if dtype.kind != "f" or dtype.itemsize not in (4, 8):
            raise BrokenFile(self.path, f"{key} is {dtype}, expected float32 or float64")
        with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
            return self.read(key).astype(np.float32)

    def image_size(self, key: str) -> tuple[int, int]:
        """Height and width of an image (H, W, 3) uint8, which is not read. Raises BrokenFile for anything else."""
        shape, dtype = self.header(key)
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise BrokenFile(self.path, f"{key} is {dtype} {shape}, expected uint8 (H, W, 3)")
        return shape[0], shape[1]

    def _member(self, key: str) -> Any:
        try:
            return self._archive.open(f"{key}.npy")
        except KeyError:
            raise BrokenFile(self.path, f"{key} is missing") from None

    def _header(self, member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        return _HEADERS[np.lib.format.read_magic(member)](member)


@contextmanager
def open_npz(path: Path) -> Iterator[Arrays]:
    """Open a `.npz` file.

    Raises:
        BrokenFile: it is missing or damaged; within the block too, if the damage is found there.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield Arrays(path, archive)
    except DemoError:
        raise
    except FileNotFoundError as error:
        raise BrokenFile(path, "the frame's file is missing") from error
    except PermissionError as error:
        raise BrokenFile(path, "the frame's file may not be read") from error
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many kinds for damaged files
        raise BrokenFile(path, "the frame's file is truncated or damaged") from error
