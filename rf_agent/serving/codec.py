"""Messages as msgpack with NumPy arrays, in the encoding of `openpi_client.msgpack_numpy`. Nothing is ever unpickled.

An array is the map {b"__ndarray__": True, b"data", b"dtype", b"shape"}, a NumPy scalar {b"__npgeneric__": True,
b"data", b"dtype"}. What comes from outside is checked before memory is taken for it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import numpy as np

DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5})")
"""Arrays of truth values, numbers and text. Objects, records and complex numbers are refused, as openpi does, and
text of size 0: an array of it could have any shape without a byte."""
LAST_CODE_POINT = 0x10FFFF
"""Of Unicode. NumPy fails with a SystemError where it makes text of a later one."""
MAX_DIMENSIONS = 8
MAX_ITEMS = 1000
"""Entries of a list, and lists and maps of a message: observations have few, and each costs more than its bytes."""


UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
    SystemError,
    msgpack.UnpackException,
)
"""What msgpack and NumPy raise for bytes that are no message."""


class CodecError(ValueError):
    """What was to be sent or was received is no message; the text says why."""


def pack(message: Any) -> bytes:
    """A message as bytes.

    Raises:
        CodecError: it holds what cannot be sent, such as an array of objects.
    """
    try:
        return msgpack.packb(message, default=_encode)
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"the message cannot be sent ({error}); give text, numbers and arrays of them") from error


def unpack(data: bytes) -> Any:
    """The message that these bytes are. Its arrays are read-only views of them.

    Raises:
        CodecError: they are no msgpack, or an array is not what it claims to be.
    """
    containers = 0

    def count() -> None:
        nonlocal containers
        containers += 1
        if containers > MAX_ITEMS:
            raise CodecError(f"the message has more than {MAX_ITEMS} maps and lists; send an observation")

    def read_map(value: dict[Any, Any]) -> Any:
        count()
        return _decode(value)

    def read_list(value: list[Any]) -> list[Any]:
        count()
        return value

    try:
        return msgpack.unpackb(
            data,
            object_hook=read_map,
            list_hook=read_list,
            ext_hook=_refuse,
            max_array_len=MAX_ITEMS,  # lists are allocated by the length they claim
            max_map_len=MAX_ITEMS,
        )
    except CodecError:
        raise
    except UNREADABLE as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise CodecError(f"the message is no msgpack that can be read ({reason}); pack a map of arrays") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and not DTYPE.fullmatch(value.dtype.str):
        raise TypeError(f"arrays of dtype {value.dtype} are not sent")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a value of type {type(value).__name__} is not sent")


def _decode(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _array(value.get(b"data"), _dtype(value.get(b"dtype")), value.get(b"shape"))
    if b"__npgeneric__" in value:
        return _scalar(value.get(b"data"), _dtype(value.get(b"dtype")))
    return value


def _scalar(data: Any, dtype: np.dtype[Any]) -> Any:
    # NumPy takes a number as the size of a text: a few bytes would cost gigabytes.
    wanted = {"S": bytes, "U": str}.get(dtype.kind, bool | int | float)
    if not isinstance(data, wanted):
        raise CodecError(f"a NumPy scalar of dtype {dtype} holds a {type(data).__name__}; send a value of its dtype")
    with np.errstate(over="ignore"):
        return dtype.type(data)


def _array(data: Any, dtype: np.dtype[Any], shape: Any) -> np.ndarray:
    if not isinstance(data, bytes):
        raise CodecError(f"the data of an array are of type {type(data).__name__}; send its bytes")
    sizes = isinstance(shape, list) and all(type(size) is int and 0 <= size < 1 << 31 for size in shape)
    if not sizes or len(shape) > MAX_DIMENSIONS:
        raise CodecError(f"an array has no shape that can be read; give a list of at most {MAX_DIMENSIONS} sizes")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(data):
        raise CodecError(f"an array of shape {shape} and dtype {dtype} has {claimed} bytes, but {len(data)} were sent")
    if not data:
        return np.zeros(shape, dtype)
    if dtype.kind == "U" and np.frombuffer(data, dtype.str[0] + "u4").max() > LAST_CODE_POINT:
        raise CodecError("an array of text has a character that Unicode does not; send its code points")
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or not DTYPE.fullmatch(name):
        said = repr(name[:60]) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise CodecError(f"an array has the dtype {said}; numbers, truth values and text are read")
    return np.dtype(name)


def _refuse(code: int, data: bytes) -> Any:
    raise CodecError(f"the message has an extension of type {code}; send text, numbers and arrays of them")
