"""Both views of a table as one binary message."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

HEADER = struct.Struct(">BI")
"""The kind of message, `FRAME`, and the bytes of the first image; the page reads it."""
FRAME = 1
QUALITY = 88


def encode(views: list[np.ndarray]) -> bytes:
    """One or two images uint8 (H, W, 3): the header, then JPEG after JPEG."""
    images = [_jpeg(view) for view in views]
    return HEADER.pack(FRAME, len(images[0])) + b"".join(images)


def _jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
