"""Images whose format is in doubt, and the ways in which the same image can reach a policy wrongly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = Mapping[str, NDArray[np.uint8]]
"""By camera: (F, H, W, 3) uint8."""

GEOMETRIES = {
    "": (1, 1),
    "mirrored left to right": (1, -1),
    "upside down": (-1, 1),
    "rotated by half a turn": (-1, -1),
}
"""Ways to lay an image down, as steps along rows and columns."""
BLACK = "zeros alone"
"""Problem of the images of a camera that sees nothing."""


@dataclass(frozen=True)
class Format:
    """What the numbers of some images are."""

    dtype: str
    shape: tuple[int, ...]
    """Of one image."""
    low: float
    high: float
    problem: str = ""
    """Why they are not what a policy reads, uint8 (H, W, 3) from 0 to 255; empty if they are."""
    scaled: bool = False
    """Whether the problem is that they lie in [0, 1] (or in [-1, 1]) instead of in [0, 255]."""
    lost: bool = False
    """Whether what they showed cannot be had back."""


def read_images(values: Any) -> tuple[NDArray[np.uint8], Format]:
    """Images of any number format as uint8 (F, H, W, 3), and what they were.

    Args:
        values: (F, H, W, 3) or (F, 3, H, W), of whole numbers or floats.

    Raises:
        ValueError: they are no colour images.
    """
    array = np.asarray(values)
    shape = array.shape[1:]
    first = array.ndim == 4 and array.shape[1] == 3 and array.shape[-1] != 3
    if first:
        array = np.moveaxis(array, 1, -1)
    if array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        raise ValueError(f"images of shape {np.shape(values)} were given; expected (F, H, W, 3)")
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    problem, scaled, lost = "", False, False
    if array.dtype == np.uint8:
        if high == 0:
            problem, lost = BLACK, True
        elif high <= 1:
            # a dark scene has noise or a light somewhere: an image without any number above 1 was divided by 255
            problem, scaled, lost = f"whole numbers of at most {high:g}: scaled to [0, 1] and then cut off", True, True
        out = array
    elif high <= 1 and low >= -1:
        span = "[0, 1]" if low >= 0 else "[-1, 1]"
        problem, scaled = f"{array.dtype} in {span}", True
        out = _rounded(255 * array if low >= 0 else 127.5 * (array + 1))
    else:
        problem = f"{array.dtype} from {low:.3g} to {high:.3g}"
        out = _rounded(array)
    if first:
        problem = "; ".join(part for part in ("channels before rows and columns", problem) if part)
    return out, Format(str(array.dtype), shape, low, high, problem, scaled, lost)


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(np.nan_to_num(values.astype(np.float64))), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Correction:
    """What makes one camera's image of another: `image = corrected(other)`."""

    source: str
    """The camera whose image is taken."""
    geometry: str = ""
    """A key of `GEOMETRIES`."""
    reversed_channels: bool = False
    """Blue, green, red instead of red, green, blue."""

    def __call__(self, images: Images) -> NDArray[np.uint8]:
        """The corrected image (F, H, W, 3)."""
        rows, columns = GEOMETRIES[self.geometry]
        return images[self.source][:, ::rows, ::columns, :: -1 if self.reversed_channels else 1]

    def complexity(self, camera: str) -> int:
        """How many things it changes in the image of `camera`."""
        return (self.source != camera) + bool(self.geometry) + self.reversed_channels

    def described(self, camera: str) -> str:
        """What it does to `camera`, in words; empty if nothing."""
        source = f"is that of {self.source}" if self.source != camera else ""
        channels = "has red and blue exchanged" if self.reversed_channels else ""
        geometry = f"is {self.geometry}" if self.geometry else ""
        return " and ".join(part for part in (source, geometry, channels) if part)


def corrections(camera: str, cameras: Sequence[str]) -> Iterator[Correction]:
    """All single and joint corrections of a camera's image, the simplest first."""
    sources = (camera, *(other for other in cameras if other != camera))
    every = (Correction(*parts) for parts in itertools.product(sources, GEOMETRIES, (False, True)))
    yield from sorted(every, key=lambda correction: correction.complexity(camera))


def as_size(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Images (F, H, W, 3) at another size; to squares as policies and demonstrations are resized."""
    if images.shape[1:3] == (height, width):
        return images
    if height == width:
        from rf_agent.preprocess import resize

        return resize(np.ascontiguousarray(images), height)
    resized = (Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR) for image in images)
    return np.stack([np.asarray(image) for image in resized])


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def matched_tones(images: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images whose channels are distributed as in the reference: brightness, contrast and tint are gone."""
    out = np.empty_like(images)
    for channel in range(3):
        own, other = (np.bincount(x[..., channel].ravel(), minlength=256).cumsum() for x in (images, reference))
        table = np.searchsorted(other / other[-1], (own - 0.5) / own[-1]).clip(0, 255)
        out[..., channel] = table.astype(np.uint8)[images[..., channel]]
    return out


def same_geometry(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[float, float]:
    """Correlation of the edges, and of the brightness, of images (F, H, W, 3): both near 1 if they show the same."""
    grey_a, grey_b = (x.astype(np.float64).mean(axis=-1) for x in (a, b))
    return _correlation(_edges(grey_a), _edges(grey_b)), _correlation(grey_a, grey_b)


def _edges(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    along_rows, along_columns = (np.gradient(grey, axis=axis) for axis in (1, 2))
    return np.hypot(along_rows, along_columns)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def histogram_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """How far the colours of one must be moved to be distributed as those of the other, in grey levels (the earth
    mover's distance, mean of the channels)."""
    total = 0.0
    for channel in range(3):
        own, other = (np.bincount(x[..., channel].ravel(), minlength=256).cumsum() for x in (a, b))
        total += float(np.abs(own / own[-1] - other / other[-1]).sum())
    return total / 3
