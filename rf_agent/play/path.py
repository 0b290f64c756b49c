"""Where the gripper is going: the actions that a policy predicts, as a line over the static view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class PlannedPath:
    """The newest plan of a policy as a line over the static view."""

    def __init__(self) -> None:
        self.points: list[list[float]] | None = None
        """As shares of the view's edge: [right, down] for each point."""
        self._plan: NDArray[np.float32] | None = None

    def forget(self) -> None:
        """Whoever planned it does not follow it any more."""
        self.points = self._plan = None

    def show(self, plan: NDArray[np.float32] | None, observation: Mapping[str, Any], env: Any) -> None:
        """Draw a plan (K, D), one action a step, if it is a new one and the environment says where its camera is."""
        if plan is self._plan:
            return
        self._plan, self.points = plan, None
        table, robot = env.unwrapped, observation.get("robot_obs")
        camera = getattr(table, "static_camera", None)
        if plan is not None and camera is not None and robot is not None:
            points = project(predicted_path(robot[:3], plan, table.position_step), camera)
            if np.isfinite(points).all():  # JSON has no other numbers
                self.points = [[round(float(value), 4) for value in point] for point in points]


def predicted_path(position: ArrayLike, actions: ArrayLike, position_step: float) -> NDArray[np.float64]:
    """Points (K + 1, 3) in the world: from the measured position through the relative actions (K, D).

    Args:
        position: (3,) of the tool centre point (m).
        actions: their first three entries move it, by at most 1.
        position_step: metres that an entry of 1 moves by.
    """
    moves = np.clip(np.asarray(actions, np.float64)[:, :3], -1, 1) * position_step
    return np.asarray(position, np.float64) + np.vstack([np.zeros(3), np.cumsum(moves, axis=0)])


def project(points: ArrayLike, camera: Mapping[str, Any]) -> NDArray[np.float64]:
    """Points (N, 3) in a square image (N, 2): right and down from its upper left corner, as shares of its edge.

    Args:
        points: in front of the camera (m, world frame).
        camera: `look_from`, `look_at` and `up` (world frame), and `field_of_view` (degrees, from the lower to the upper
            edge).
    """
    eye = np.asarray(camera["look_from"], np.float64)
    ahead = np.subtract(camera["look_at"], eye)
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, camera["up"])
    right /= np.linalg.norm(right)
    seen = np.asarray(points, np.float64) - eye
    depth = seen @ ahead * np.tan(np.radians(camera["field_of_view"]) / 2)
    across, up = seen @ right / depth, seen @ np.cross(right, ahead) / depth
    return np.stack([(1 + across) / 2, (1 - up) / 2], axis=-1)
