"""Arrays of `.npz` files, each read alone and not before its shape is known to be right."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
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

    def read(self, key: str, check: Callable[[tuple[int, ...], np.dtype[Any]], str] | None = None) -> NDArray[Any]:
        """An array, of numbers alone.

        Args:
            key: its name.
            check: says what is wrong with a shape and dtype, or nothing; called before anything is read.

        Raises:
            BrokenFile: there is none of that name, it is damaged, or not as it should be.
        """
        with self._member(key) as member:
            shape, fortran, dtype = self._header(member)
            if check is not None and (wrong := check(shape, dtype)):
                raise BrokenFile(self.path, f"{key} {wrong}")
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

        def wrong(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
            if shape != (length,):
                return f"has shape {shape}, expected ({length},)"
            return "" if dtype.kind == "f" and dtype.itemsize in (4, 8) else f"is {dtype}, expected float32 or float64"

        with np.errstate(over="ignore"):  # what float32 cannot hold is found as infinite
            return self.read(key, wrong).astype(np.float32)

    def image(self, key: str) -> NDArray[np.uint8]:
        """An image (H, W, 3) uint8. Raises BrokenFile for anything else."""
        return self.read(key, _wrong_image)

    def image_size(self, key: str) -> tuple[int, int]:
        """Height and width of such an image, which is not read. Raises BrokenFile for anything else."""
        with self._member(key) as member:
            shape, _, dtype = self._header(member)
        if wrong := _wrong_image(shape, dtype):
            raise BrokenFile(self.path, f"{key} {wrong}")
        return shape[0], shape[1]

    def _member(self, key: str) -> Any:
        try:
            return self._archive.open(f"{key}.npy")
        except KeyError:
            raise BrokenFile(self.path, f"{key} is missing") from None

    def _header(self, member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        return _HEADERS[np.lib.format.read_magic(member)](member)


def _wrong_image(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    good = dtype == np.uint8 and len(shape) == 3 and shape[2] == 3 and 0 not in shape
    return "" if good else f"is {dtype} {shape}, expected uint8 (H, W, 3)"


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
