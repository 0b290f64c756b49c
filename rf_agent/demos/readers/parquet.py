"""Columns of parquet files as arrays, and the images that lie in them."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rf_agent.demos.files import DemoError, reading
from rf_agent.errors import require

INSTALL = "'roboflamingo-agent[data]'"
AGAIN = "copy the data set again"


def read_table(path: Path, columns: Sequence[str], part: str = "", unread: Sequence[str] = ()) -> Any:
    """Some columns of a parquet file, a `pyarrow.Table`.

    Args:
        path: the file.
        columns: those that are read.
        part: what they belong to, for messages.
        unread: columns that must be there, too.

    Raises:
        DemoError: the file is missing or damaged, or has no such column; it is named, and with it `part`.
        MissingPackageError: pyarrow is not installed.
    """
    with _open(path, part) as file, reading(path, part):
        held = file.schema_arrow.names
        lacking = [column for column in (*columns, *unread) if column not in held]
        if lacking:
            raise DemoError(f"{path} has no column {lacking[0]!r} (it has {', '.join(held)}): {AGAIN}")
        return file.read(columns=list(columns), use_threads=False)


def column_names(path: Path) -> list[str]:
    """The columns of a parquet file. Raises DemoError as `read_table` does."""
    with _open(path) as file:
        return list(file.schema_arrow.names)


def vectors(table: Any, key: str, dim: int, path: Path) -> NDArray[Any]:
    """A column of vectors, or of numbers where `dim` is 1, as an array (N, dim) of the column's own type.

    Args:
        table: see `read_table`.
        key: the column; the table has `episode_index`, too, unless nothing is wrong.
        dim: entries of each vector.
        path: the file, for messages.

    Raises:
        DemoError: a value is missing, no number, or of another size; file, column and episode are named.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.column(key).combine_chunks()
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    number = kind.value_type if is_list else kind
    if not (pa.types.is_floating(number) or pa.types.is_integer(number) or pa.types.is_boolean(number)):
        raise DemoError(f"{path}: {key} is of type {kind}, expected vectors of {dim} numbers: {AGAIN}")
    sizes = np.asarray(pc.fill_null(pc.list_value_length(column), 0)) if is_list else np.ones(len(column), np.int64)
    if not is_list or pa.types.is_fixed_size_list(kind):
        sizes = np.where(np.asarray(column.is_valid()), sizes, 0)
    values = column.flatten() if is_list else column.drop_null()
    wrong = sizes != dim
    if not wrong.any() and values.null_count:
        wrong = ~np.asarray(values.is_valid()).reshape(-1, dim).all(1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        episode = table.column("episode_index")[row].as_py() if "episode_index" in table.column_names else "?"
        raise DemoError(
            f"{path}: episode {episode}: {key} in row {row} has {sizes[row]} numbers, expected {dim}: delete that "
            "episode, or copy the data set again"
        )
    return values.to_numpy(zero_copy_only=False).reshape(-1, dim)


class StoredImages:
    """Reads images (PNG or JPEG) in a parquet file's columns of structs {bytes, path}.

    The last few groups of rows are kept, since a file is read by the group. It may be pickled.

    Args:
        limit: groups of rows that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._groups: OrderedDict[tuple[Path, str, int], list[Any]] = OrderedDict()

    def read(self, path: Path, key: str, row: int, part: str) -> NDArray[np.uint8]:
        """The image (H, W, 3) uint8 in a row.

        Raises:
            DemoError: the file is missing or damaged, or there is no image; file, row and `part` are named.
        """
        content = self._content(path, key, row, part)
        data = content.get("bytes") if isinstance(content, dict) else None
        if not isinstance(data, bytes):
            raise DemoError(f"{path}: {part} has no image {key} in row {row}: {AGAIN}")
        with reading(path, f"{key} of {part} in row {row}"):
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def close(self) -> None:
        """Drop what is kept."""
        self._groups.clear()

    def _content(self, path: Path, key: str, row: int, part: str) -> Any:
        for group, values in self._groups.items():
            if group[:2] == (path, key) and 0 <= row - group[2] < len(values):
                self._groups.move_to_end(group)
                return values[row - group[2]]
        with _open(path, part) as file, reading(path, part):
            first = 0
            for index in range(file.num_row_groups):
                count = file.metadata.row_group(index).num_rows
                if row < first + count:
                    break
                first += count
            values = file.read_row_group(index, columns=[key], use_threads=False).column(key).to_pylist()
            self._groups[path, key, first] = values
            if len(self._groups) > self.limit:
                self._groups.popitem(last=False)
            return values[row - first]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_groups": OrderedDict()}


def _open(path: Path, part: str = "") -> Any:
    parquet = require("pyarrow.parquet", "reading LeRobot data sets", INSTALL)
    if not path.is_file():
        raise DemoError(f"{path}{f', which holds {part},' if part else ''} is missing: {AGAIN}")
    with reading(path, part):
        # absolute, since `name:rest` would be taken for an address; checksums are verified where there are some
        return parquet.ParquetFile(path.absolute(), page_checksum_verification=True)
