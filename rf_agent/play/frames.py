"""Both views of a table as one binary message."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

HEADER = struct.Struct(">BI")
"""The kind of message, `FRAME`, and the bytes of the first image."""
FRAME = 1
QUALITY = 88


def encode(views: list[np.ndarray]) -> bytes:
    """One or two images uint8 (H, W, 3): the header, then JPEG after JPEG."""
    images = [_jpeg(view) for view in views]
    return HEADER.pack(FRAME, len(images[0])) + b"".join(images)


def decode(message: bytes) -> list[np.ndarray]:
    """The images of a message; the page does the same."""
    kind, size = HEADER.unpack_from(message)
    if kind != FRAME:
        raise ValueError(f"The message is of kind {kind}; expected {FRAME}, a frame.")
    start = HEADER.size
    parts = [message[start : start + size], message[start + size :]]
    return [np.asarray(Image.open(io.BytesIO(part))) for part in parts if part]


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
