"""Instructions as environments and robots give them, to text. A robot's client reads them alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from rf_agent.config import INSTRUCTION_BYTES


def instructions(value: Any, n: int) -> list[str]:
    """The instruction of each of `n` observations as text.

    Args:
        value: one str for all, a list or numpy array of str, or the environments' uint8 (256,) or (n, 256), as an
            array, a tensor or rows of it.

    Raises:
        ValueError: another type, another number than n, no UTF-8, empty, or over 256 bytes.
    """
    if isinstance(value, str | bytes):
        texts = [value]
    elif (array := np.asarray(value)).dtype == np.uint8 and array.ndim in (1, 2):
        texts = [row.tobytes().rstrip(b"\0") for row in np.atleast_2d(array)]
    elif array.dtype.kind in "iufb":
        raise ValueError(
            f"{len(np.atleast_1d(array))} instructions were given as numbers of type {array.dtype}; give text, or its "
            "bytes as uint8."
        )
    else:
        texts = np.atleast_1d(np.asarray(value, dtype=object)).ravel().tolist()
    if len(texts) == 1:
        texts = texts * n
    if len(texts) != n:
        raise ValueError(
            f"{len(texts)} instructions were given for {n} observations; give one for each, or one for all."
        )
    return [_text(text) for text in texts]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"the instruction {value[:40]!r} is not UTF-8; encode it as UTF-8.") from error
    if not isinstance(value, str):
        raise ValueError(f"an instruction of type {type(value).__name__} was given; give text, or its bytes as uint8.")
    size = len(value.encode())
    if size > INSTRUCTION_BYTES:
        raise ValueError(f"the instruction {value[:40]!r}... has {size} bytes, but {INSTRUCTION_BYTES} is the most.")
    if not value.strip():
        raise ValueError("the instruction is empty; say what the robot shall do.")
    return str(value)
