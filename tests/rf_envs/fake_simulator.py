"""A simulator without physics, for tests of what is built on simulators: exact, instant, easy to change.

The tool centre point follows the actions exactly. A block that is within 2 cm of a closed gripper moves with
it; any other block stays where it is. Contacts follow from where the blocks are. Tests make things happen by
writing into `scene_obs` and `robot_obs`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rf_envs.benchmark.chains import NEUTRAL_ROBOT_OBS
from rf_envs.scenes import SCENES

ROBOT, TABLE = 0, 4
LINKS = {
    "base_link": -1,
    "button_link": 0,
    "switch_link": 1,
    "slide_link": 2,
    "drawer_link": 3,
    "plank_link": 6,
}


def quaternion(euler: np.ndarray) -> tuple[float, ...]:
    """(3,) Euler angles XYZ to a quaternion (x, y, z, w)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.asarray(euler) / 2), np.sin(np.asarray(euler) / 2)
    return (
        sx * cy * cz - cx * sy * sz,
        cx * sy * cz + sx * cy * sz,
        cx * cy * sz - sx * sy * cz,
        cx * cy * cz + sx * sy * sz,
    )


class FakeSimulator:
    """See the module's text; the interface is `rf_envs.simulators.base.Simulator`."""

    renderer = "fake"

    def __init__(self, scene: str = "D"):
        self.scene = scene
        self.renders: list[str] = []
        self.closed = False
        self.reset()

    def reset(self, robot_obs: Any = None, scene_obs: Any = None) -> None:
        self.robot_obs = np.array(NEUTRAL_ROBOT_OBS if robot_obs is None else robot_obs, dtype=np.float64)
        if scene_obs is None:
            scene_obs = np.zeros(24)
            for index, x in enumerate((0.0, 0.12, 0.24)):
                scene_obs[6 + 6 * index : 12 + 6 * index] = x, -0.1, 0.46, 0, 0, np.pi / 2
        self.scene_obs = np.array(scene_obs, dtype=np.float64)

    def step(self, action: np.ndarray) -> None:
        held = self._held()
        self.robot_obs[:3] += 0.02 * action[:3]
        self.robot_obs[3:6] = (self.robot_obs[3:6] + 0.05 * action[3:6] + np.pi) % (2 * np.pi) - np.pi
        self.robot_obs[14] = 1.0 if action[6] > 0 else -1.0
        self.robot_obs[6] = 0.08 if action[6] > 0 else 0.04 if held else 0.0
        for index in held:
            self.scene_obs[6 + 6 * index : 9 + 6 * index] += 0.02 * action[:3]

    def info(self) -> dict[str, Any]:
        names = SCENES[self.scene].block_names
        held, poses = self._held(), self.scene_obs[6:].reshape(3, 6)
        blocks = {
            name: {
                "current_pos": tuple(poses[index, :3]),
                "current_orn": quaternion(poses[index, 3:]),
                "current_lin_vel": (0.0, 0.0, 0.0),
                "current_ang_vel": (0.0, 0.0, 0.0),
                "contacts": tuple(self._contact(*pair) for pair in self._touching(index, held)),
                "uid": 1 + index,
            }
            for index, name in enumerate(names)
        }
        return {
            "robot_info": {
                "tcp_pos": tuple(self.robot_obs[:3]),
                "tcp_orn": tuple(self.robot_obs[3:6]),
                "gripper_opening_width": self.robot_obs[6],
                "arm_joint_states": self.robot_obs[7:14].tolist(),
                "gripper_action": int(self.robot_obs[14]),
                "uid": ROBOT,
                "contacts": tuple(self._contact(1 + index, -1) for index in held),
            },
            "scene_info": {
                "fixed_objects": {"table": {"uid": TABLE, "links": dict(LINKS), "contacts": ()}},
                "movable_objects": blocks,
                "doors": {
                    "base__slide": {"current_state": float(self.scene_obs[0])},
                    "base__drawer": {"current_state": float(self.scene_obs[1])},
                },
                "buttons": {"base__button": {"joint_state": float(self.scene_obs[2]), "logical_state": 0}},
                "switches": {"base__switch": {"joint_state": float(self.scene_obs[3]), "logical_state": 0}},
                "lights": {
                    "lightbulb": {"logical_state": int(self.scene_obs[4])},
                    "led": {"logical_state": int(self.scene_obs[5])},
                },
            },
        }

    def render(self, camera: str, size: int) -> np.ndarray:
        self.renders.append(camera)
        state = np.concatenate([self.robot_obs, self.scene_obs])
        value = int(abs(state @ np.arange(1, 40)) * 1000) % 256
        return np.full((size, size, 3), value, dtype=np.uint8)

    def inverse_kinematics(self, position: Any, euler: Any) -> np.ndarray:
        return np.zeros(7)

    def close(self) -> None:
        self.closed = True

    def _held(self) -> list[int]:
        poses = self.scene_obs[6:].reshape(3, 6)
        near = np.linalg.norm(poses[:, :3] - self.robot_obs[:3], axis=1) < 0.02
        return [int(index) for index in np.flatnonzero(near)] if self.robot_obs[14] < 0 else []

    def _touching(self, index: int, held: list[int]) -> list[tuple[int, int]]:
        poses = self.scene_obs[6:].reshape(3, 6)
        x, y, z = poses[index, :3]
        if index in held:
            return [(ROBOT, 9), (ROBOT, 11)]
        result = []
        for other in range(3):
            dx, dy, dz = poses[other, :3] - poses[index, :3]
            if other != index and np.hypot(dx, dy) < 0.03 and abs(abs(dz) - 0.04) < 0.005:
                result.append((1 + other, -1))
        if abs(z - 0.46) < 0.005:
            result.append((TABLE, LINKS["plank_link" if y > 0.03 else "base_link"]))
        elif abs(z - 0.36) < 0.005:
            result.append((TABLE, LINKS["drawer_link"]))
        return result

    @staticmethod
    def _contact(body: int, link: int) -> tuple[Any, ...]:
        return (0, -1, body, -1, link, (0, 0, 0), (0, 0, 0), (0, 0, 1), -0.0001, 1.0)
