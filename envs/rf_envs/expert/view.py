"""What the expert looks at: the measured state of robot and table, in one immutable record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_envs.random_scenes import scene_named
from rf_envs.rotations import wrap_angle
from rf_envs.scenes import BLOCK_WIDTH, Scene

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """Pose and size of a block."""

    position: Vector
    axes: Vector
    """(3, 3): column i is the block's i-th axis in the world."""
    size: Vector
    """(3,): full edge lengths (m) along those axes."""

    def half_extent(self, direction: Vector) -> float:
        """Distance from the centre to the farthest point along a unit vector (m)."""
        return float(np.abs(self.axes.T @ direction) @ self.size / 2)

    def yaw(self, near: float, period: float) -> float:
        """Angle (rad) about z of the longer horizontal edge, modulo `period`, that is nearest to `near`."""
        upright = int(np.argmax(np.abs(self.axes[2])))
        flat = [i for i in range(3) if i != upright]
        x, y = self.axes[:2, max(flat, key=lambda i: self.size[i])]
        return near + float(wrap_angle(np.arctan2(y, x) - near, period))


@dataclass(frozen=True)
class View:
    """The state at one step; lengths in metres, angles in radians, world frame."""

    scene: Scene
    tcp: Vector
    euler: Vector
    width: float
    """Opening of the gripper (m)."""
    slide: float
    drawer: float
    button: float
    switch: float
    """Joint positions of the four fixtures (m)."""
    led: bool
    lightbulb: bool
    blocks: dict[str, Block]
    """By colour."""

    @property
    def door_x(self) -> float:
        """x of the middle of the sliding door, where its handle is (m)."""
        return self.scene.slide_x - self.slide

    @classmethod
    def of(cls, env: Any) -> View:
        """Read an (unwrapped) environment of this package."""
        robot, info = env.robot_info, env.scene_info
        scene = scene_named(env.scene)
        return cls(
            scene=scene,
            tcp=np.array(robot["tcp_pos"], dtype=float),
            euler=np.array(robot["tcp_orn"], dtype=float),
            width=float(robot["gripper_opening_width"]),
            slide=info["doors"]["base__slide"]["current_state"],
            drawer=info["doors"]["base__drawer"]["current_state"],
            button=info["buttons"]["base__button"]["joint_state"],
            switch=info["switches"]["base__switch"]["joint_state"],
            led=bool(info["lights"]["led"]["logical_state"]),
            lightbulb=bool(info["lights"]["lightbulb"]["logical_state"]),
            blocks={c: _block(info["movable_objects"][f"block_{c}"], scene.block_length(c)) for c in scene.block_order},
        )


def _block(info: dict[str, Any], length: float) -> Block:
    x, y, z, w = info["current_orn"]
    axes = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return Block(
        position=np.array(info["current_pos"], dtype=float),
        axes=axes,
        size=np.array([length, BLOCK_WIDTH, BLOCK_WIDTH]),
    )
