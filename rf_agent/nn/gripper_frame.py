"""Relative motions of CALVIN's gripper: as the world sees them, and as the gripper itself does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROTATION_UNIT = 0.05
"""Radians that a 1 in an action turns the gripper by (CALVIN's `max_rel_orn`)."""


def rotation(euler: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of Euler angles (..., 3) in radians: turned about the world's x, then y, then z.

    These are the simulator's angles (PyBullet). HULC's code multiplies the three in the other order.
    """
    (cx, cy, cz), (sx, sy, sz) = euler.cos().unbind(-1), euler.sin().unbind(-1)
    rows = (
        (cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz),
        (cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz),
        (-sy, sx * cy, cx * cy),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def euler_angles(matrix: Tensor) -> Tensor:
    """Inverse of `rotation`, (..., 3, 3) -> (..., 3) in radians. At a pitch of a quarter turn it is not unique."""
    x = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    y = torch.asin((-matrix[..., 2, 0]).clamp(-1.0, 1.0))
    z = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return torch.stack((x, y, z), dim=-1)


def to_gripper_frame(motion: Tensor, orientation: Tensor) -> Tensor:
    """A motion in the world's frame as the gripper sees it, which is how HULC predicts actions.

    Args:
        motion: (..., 6) a shift, and changes of the gripper's Euler angles in units of `ROTATION_UNIT`.
        orientation: (..., 3) Euler angles of the gripper in radians.

    Returns:
        (..., 6): the shift along the gripper's axes, and Euler angles, in the same unit, of the turn that takes the
        gripper from its orientation to the next, about its own axes. A shift keeps its length, not its largest entry.
    """
    motion, orientation = motion.float(), orientation.float()
    back = rotation(orientation).transpose(-1, -2)
    shift = (back @ motion[..., :3, None])[..., 0]
    turn = back @ rotation(orientation + ROTATION_UNIT * motion[..., 3:])
    return torch.cat((shift, euler_angles(turn) / ROTATION_UNIT), dim=-1)


def to_world_frame(motion: Tensor, orientation: Tensor) -> Tensor:
    """Inverse of `to_gripper_frame`, with the same shapes."""
    motion, orientation = motion.float(), orientation.float()
    own = rotation(orientation)
    shift = (own @ motion[..., :3, None])[..., 0]
    change = euler_angles(own @ rotation(ROTATION_UNIT * motion[..., 3:])) - orientation
    change = torch.remainder(change + math.pi, 2 * math.pi) - math.pi  # angles jump at a full turn
    return torch.cat((shift, change / ROTATION_UNIT), dim=-1)
