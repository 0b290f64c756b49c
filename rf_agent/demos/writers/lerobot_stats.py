"""Statistics of features as LeRobot stores them: of each episode, and of a whole data set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
SAMPLED_FRAMES, SAMPLED_SIDE = 100, 100
"""Images are many: at most so many of an episode are looked at, and about so many of their rows and columns."""

Statistics = dict[str, NDArray[np.float64]]
"""min, max, mean, std and the quantiles, each of a feature's shape; count (1,)."""


def vector_statistics(values: NDArray[Any]) -> Statistics:
    """Of each entry of vectors (T, D): arrays (D,)."""
    values = values.astype(np.float64)
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    found["count"] = np.array([len(values)])
    return found | dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values()), axis=0), strict=True))


def image_statistics(images: NDArray[np.uint8]) -> Statistics:
    """Of each channel of images (F, H, W, 3), scaled to [0, 1]: arrays (3, 1, 1). `count` is of images."""
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), SAMPLED_FRAMES)).round().astype(int))
    step = max(1, min(images.shape[1:3]) // SAMPLED_SIDE)
    pixels = images[rows, ::step, ::step].reshape(-1, 3) / 255.0
    found = {key: value.reshape(3, 1, 1) for key, value in vector_statistics(pixels).items() if key != "count"}
    return found | {"count": np.array([len(rows)])}


class Combined:
    """Statistics of several episodes together, added one by one.

    Quantiles are averages of the episodes' quantiles, as LeRobot has them: exact ones would need all values.
    """

    def __init__(self) -> None:
        self._count = 0
        self._square: NDArray[np.float64] | float = 0.0  # mean of squares
        self._found: Statistics = {}

    def add(self, new: Statistics) -> None:
        """Add an episode's."""
        count, square = int(new["count"][0]), new["std"] ** 2 + new["mean"] ** 2
        if not self._found:
            self._count, self._square, self._found = count, square, dict(new)
            return
        share = count / (self._count + count)
        old = self._found
        self._square = (1 - share) * self._square + share * square
        self._found = {key: (1 - share) * old[key] + share * new[key] for key in ("mean", *QUANTILES)}
        self._found |= {"min": np.minimum(old["min"], new["min"]), "max": np.maximum(old["max"], new["max"])}
        self._count += count

    def result(self) -> Statistics:
        """The statistics of all that was added."""
        std = np.sqrt(np.maximum(self._square - self._found["mean"] ** 2, 0.0))
        return self._found | {"std": std, "count": np.array([self._count])}
