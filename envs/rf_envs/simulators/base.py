"""What the environments ask of a simulator of CALVIN's table.

A simulator knows nothing of tasks, rewards or instructions. Everything it tells has CALVIN's meaning and order
(observation vectors of the `calvin_env` package; poses in the world frame, metres and radians).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONTROL_FREQUENCY = 30
"""Actions per second."""
PHYSICS_FREQUENCY = 240
MAX_RELATIVE_POSITION = 0.02
"""Metres by which an action component of 1 moves the target of the end effector."""
MAX_RELATIVE_ROTATION = 0.05
"""Radians by which an action component of 1 turns the target of the end effector."""
CAMERAS = ("static", "gripper")
STATIC_FROM = (2.871459009488717, -2.166602199425597, 2.555159848480571)
STATIC_TO = (-0.026242351159453392, -0.0302329882979393, 0.3920000493526459)
STATIC_UP = (0.4041403970338857, 0.22629790978217404, 0.8862616969685161)
"""Where CALVIN's static camera is, what it looks at and what is up in its image (m, world frame)."""
STATIC_FIELD_OF_VIEW = 10.0
"""Of the static camera, in degrees, from the lower to the upper edge of its square image."""


class Simulator(Protocol):
    """One table with its robot."""

    scene: str
    """Name of the scene, see `rf_envs.random_scenes.scene_named`."""
    renderer: str
    """Name of the renderer; scores depend on it, so every result names it."""

    def reset(self, robot_obs: ArrayLike | None = None, scene_obs: ArrayLike | None = None) -> None:
        """Put robot (15,) and scene (24,) into a state; `None` means the neutral one."""

    def step(self, action: NDArray[np.float64]) -> None:
        """Apply one action (7,) in [-1, 1] for 1/30 s: relative pose of the target, gripper > 0 opens."""

    @property
    def robot_obs(self) -> NDArray[np.float64]:
        """(15,): tcp position, Euler XYZ, opening width, seven arm joints, last gripper action."""

    @property
    def scene_obs(self) -> NDArray[np.float64]:
        """(24,): slider, drawer, button, switch, lightbulb, led, then position and Euler XYZ of three blocks."""

    def info(self) -> dict[str, Any]:
        """`robot_info` and `scene_info` in CALVIN's structure."""

    def render(self, camera: str, size: int) -> NDArray[np.uint8]:
        """A fresh image (size, size, 3) of the `static` or `gripper` camera."""

    def inverse_kinematics(self, position: ArrayLike, euler: ArrayLike) -> NDArray[np.float64]:
        """Arm joint angles (7,) that bring the tcp to a pose (m, rad)."""

    def close(self) -> None:
        """Release the simulator; using it afterwards is an error."""
