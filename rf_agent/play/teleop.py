"""Teleoperation: from a hand at the keyboard or the gamepad to an action of the robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.play.messages import AXES

GRIPPER_STEPS = 12
"""Steps that the fingers need to close or open: time goes on for so long, though nothing else moves."""
PATIENCE = 0.4
"""Seconds after which a hand that sends nothing more rests: a tab that lost the keyboard must not drive on."""


class Teleop:
    """What the hand wants, and for how long: time moves only while it does something, and while the fingers move.

    Args:
        static_camera: where the view is, see `rf_envs.table.TableEnv.static_camera`; None drives along the table.
    """

    def __init__(self, static_camera: Mapping[str, Any] | None = None) -> None:
        self._to_world = view_axes(static_camera) if static_camera else np.eye(3)
        self.rest()

    def rest(self, gripper: float = 1.0) -> None:
        """Let go of all axes; `gripper` is what it does, as in an action (above zero opens)."""
        self._motion = np.zeros(6, np.float32)
        self._gripper = 1.0 if gripper > 0 else -1.0
        self._until, self._gripper_steps = 0.0, 0

    def drive(self, axes: Mapping[str, float], gripper: str, frame: str, now: float) -> None:
        """What the page says: amounts from -1 to 1 by name of `AXES`, and `gripper` "open", "close" or "keep".

        Args:
            frame: "view": x is right, y away and z up as one sees it; "table": along the table's own axes.
            now: seconds on any clock.
        """
        motion = np.array([axes.get(axis, 0.0) for axis in AXES], np.float32)
        if frame == "view":
            motion = np.concatenate([self._to_world @ motion[:3], self._to_world @ motion[3:]])
        # along the diagonal no faster than the action allows
        self._motion = np.clip(motion, -1, 1).astype(np.float32)
        wanted = {"open": 1.0, "close": -1.0}.get(gripper, self._gripper)
        if self._motion.any():
            self._until = now + PATIENCE
        if wanted != self._gripper:
            self._gripper, self._gripper_steps = wanted, GRIPPER_STEPS

    @property
    def gripper(self) -> str:
        """ "open" or "closed": what the hand wants of it."""
        return "open" if self._gripper > 0 else "closed"

    def active(self, now: float) -> bool:
        """Whether time goes on."""
        if now > self._until:
            self._motion[:] = 0
        return bool(self._motion.any()) or self._gripper_steps > 0

    def act(self) -> NDArray[np.float32]:
        """The next action (7,): motion by at most 1 in each entry, and the gripper at -1 or 1."""
        self._gripper_steps = max(0, self._gripper_steps - 1)
        return np.append(self._motion, np.float32(self._gripper)).astype(np.float32)


def view_axes(camera: Mapping[str, Any]) -> NDArray[np.float64]:
    """(3, 3): its columns are right, away and up of someone who stands at the camera, in the world frame."""
    away = np.subtract(camera["look_at"], camera["look_from"])[:2]
    away = away / np.linalg.norm(away)
    return np.array([[away[1], away[0], 0.0], [-away[0], away[1], 0.0], [0.0, 0.0, 1.0]])
