"""CALVIN's robot, as parts of a configuration."""

from __future__ import annotations

from typing import Any

from rf_agent.robot_config import ActionConfig, StateConfig

CALVIN_VIEWS = ("rgb_static", "rgb_gripper")
"""CALVIN's cameras: one that stands beside the table, one at the gripper."""


def calvin() -> dict[str, Any]:
    """CALVIN's robot, as arguments of a `PolicyConfig`: relative motion (x, y, z, Euler angles) and the gripper.

    Of its state the policy reads the pose and the last gripper action, as the reference implementation does.
    """
    return {
        "views": CALVIN_VIEWS,
        "action": ActionConfig(dim=7, gripper=6),
        "state": StateConfig(key="robot_obs", dim=15, entries=(0, 1, 2, 3, 4, 5), binary=14),
        "fps": 30.0,
    }
