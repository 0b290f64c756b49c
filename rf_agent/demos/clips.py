"""Images of a camera as an H.264 clip in an HDF5 data set of bytes: a tenth to a twentieth of what gzip makes of them.

The clip is an MP4 file: H.264 in yuv444p (colours at full resolution, and any height and width), a key frame every
`KEY_FRAMES` images, none that refer to later ones. Its data set is `(bytes,) uint8` and has the attributes
`codec` ("h264"), `shape` (F, H, W, 3) of the images and `crc32` of the bytes.

Why a clip rather than a JPEG file for each image: it has less error with a third of the bytes. Measured on 40
demonstrations of the play table (`rf-agent collect --image-size 112`) with 18 images of each of two cameras. The error
is the mean absolute one, of 255; times are processor time of one thread:

    images stored as         bytes a demonstration   error   writing   reading in order, one at random
    gzip                                   640,000       0             0.2 ms an image, 0.4 ms
    JPEG, quality 85, 4:2:0                125,000     3.4    0.1 ms   0.2 ms,          0.2 ms
    JPEG, quality 95, 4:4:4                261,000     1.4    0.2 ms   0.2 ms,          0.2 ms
    H.264, quality 14                       41,000     2.1    1.7 ms   0.4 ms,          3.1 ms
    H.264, quality 18                       29,000     2.8    1.4 ms   0.4 ms,          3.1 ms

With everything else, a demonstration takes 53,000 bytes at quality 14 instead of 658,000. What a trained policy does on
such images differs by 0.0024 from what it does on the original ones, where its error is 0.062 (the bundled policy of 34
tasks; mean absolute difference of the first six entries of an action, 10 of these demonstrations).

Training reads sequences in order, and holds images in memory or reads them ahead in other processes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.files import DemoError
from rf_agent.errors import require

QUALITY = 14
"""x264's crf: 0 (best) to 51."""
CODEC = "h264"
INSTALL = "'roboflamingo-agent[data]'"
KEY_FRAMES = 32
"""A key frame every so many images: to reach an image no more than these are decoded."""
RATE = 30
"""Images a second, whatever the robot's rate: the time of an image tells its number. What a crf means depends on it."""


def require_av() -> Any:
    """PyAV. Raises MissingPackageError with the command that installs it."""
    return require("av", "reading and writing packed demonstrations", INSTALL)


def encode_clip(images: NDArray[np.uint8], quality: int = QUALITY) -> NDArray[np.uint8]:
    """Images (F, H, W, 3) uint8 as the bytes of a clip, (bytes,) uint8."""
    av, target = require_av(), io.BytesIO()
    options = {"g": str(KEY_FRAMES), "bf": "0", "crf": str(quality)}
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream(CODEC, rate=RATE, options=options)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv444p"
        stream.codec_context.thread_count = 1  # images are small: more threads are no faster
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return np.frombuffer(target.getvalue(), np.uint8)


def write_clip(group: h5py.Group, key: str, clip: NDArray[np.uint8], shape: Sequence[int]) -> None:
    """Store the clip of images of a shape (F, H, W, 3)."""
    dataset = group.create_dataset(key, data=clip)
    dataset.attrs["codec"], dataset.attrs["shape"] = CODEC, np.asarray(shape, np.int64)
    dataset.attrs["crc32"] = zlib.crc32(clip.data)  # FFmpeg shows damaged bytes as other images


def image_shape(dataset: h5py.Dataset) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape (F, H, W, 3) and dtype of the images in a data set, whether they are a clip or an array."""
    if "codec" not in dataset.attrs:
        return dataset.shape, dataset.dtype
    return tuple(int(size) for size in dataset.attrs["shape"]), np.dtype(np.uint8)


def is_color(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether an observation is colour images (F, H, W, 3) uint8: no depth, no segmentation."""
    return len(shape) == 4 and shape[3] == 3 and dtype == np.uint8


def read_all(dataset: h5py.Dataset) -> NDArray[Any]:
    """All images (F, H, W, 3) of a data set; raises what `read_images` does."""
    if "codec" not in dataset.attrs:
        return dataset[:]
    return np.stack(read_images(dataset, np.arange(image_shape(dataset)[0][0])))


def read_images(dataset: h5py.Dataset, numbers: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Images of a data set, whether they are a clip or an array.

    Args:
        dataset: of a camera.
        numbers: (N,) which ones, in any order and more than once.

    Raises:
        DemoError: the clip is of a codec that is not known.
        MissingPackageError: PyAV is not installed.
        ValueError, OSError: it is damaged.
    """
    if "codec" in dataset.attrs:
        if (codec := str(dataset.attrs["codec"])) != CODEC:
            raise DemoError(
                f"{dataset.file.filename}: {dataset.name} is a clip of codec {codec!r}, expected {CODEC!r}: update "
                "this package, or write the file again"
            )
        content = dataset[:].tobytes()
        if zlib.crc32(content) != dataset.attrs["crc32"]:
            raise ValueError("the checksum of a clip is wrong")
        decoded = dict(_decode(content, np.unique(numbers).tolist(), image_shape(dataset)[0][1:]))
        return [decoded[int(number)] for number in numbers]
    first, last = int(numbers.min()), int(numbers.max()) + 1
    if last - first <= 2 * len(numbers):  # neighbours: one read
        block = dataset[first:last]
        return [block[number - first] for number in numbers]
    return [dataset[int(number)] for number in numbers]


def _decode(content: bytes, numbers: list[int], size: tuple[int, ...]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Images (H, W, 3) of a clip with their numbers, which ascend."""
    # the format is named: by their content, FFmpeg takes play lists for videos, too
    av = require_av()
    with av.open(io.BytesIO(content), format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        to_rgb = av.video.reformatter.VideoReformatter()  # one for all images: making it takes as long as decoding
        frames, at = container.decode(stream), -1
        for number in numbers:
            if number - at > KEY_FRAMES:
                container.seek(round(Fraction(number, RATE) / stream.time_base), stream=stream)
                frames = container.decode(stream)
            for frame in frames:
                at = round(frame.pts * stream.time_base * RATE)
                if at >= number:
                    break
            if at != number or frame.is_corrupt:
                raise ValueError(f"image {number} is missing or damaged")
            image = np.ascontiguousarray(to_rgb.reformat(frame, format="rgb24").to_ndarray())
            if image.shape != size:
                raise ValueError(f"image {number} is {image.shape}, expected {size}")
            yield number, image
