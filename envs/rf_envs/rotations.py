"""The few rotations that tasks, sampling and captions need.

Quaternions are (x, y, z, w). Euler angles are in radians and follow PyBullet (and scipy's lower-case "xyz"):
about the fixed axes x, then y, then z.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def wrap_angle(angle: ArrayLike, period: float = 2 * np.pi) -> Any:
    """The same angle, or each of an array, within half a period of zero."""
    return (np.asarray(angle) + period / 2) % period - period / 2


def euler_from_quaternion(quaternion: ArrayLike) -> np.ndarray:
    """(4,) quaternion to (3,) Euler angles."""
    array = np.asarray(quaternion, dtype=np.float64)
    x, y, z, w = array / np.linalg.norm(array)
    return np.array(
        [
            np.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
            np.arcsin(np.clip(2 * (w * y - z * x), -1.0, 1.0)),
            np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
        ]
    )


def relative_quaternion(start: ArrayLike, end: ArrayLike) -> np.ndarray:
    """The rotation, in the world frame, that turns orientation ``start`` into ``end``."""
    first, last = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    (a, s), (b, t) = (last[:3], last[3]), (-first[:3], first[3])
    return np.array([*(s * b + t * a + np.cross(a, b)), s * t - a @ b])
