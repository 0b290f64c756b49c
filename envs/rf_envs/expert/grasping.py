"""The hand and a block: getting the fingers around it, and away from it again."""

from __future__ import annotations

import numpy as np

from rf_envs.expert.motions import DOWN, FINGER, MAX_LEAN, TRAVEL, Command, approach, ramp
from rf_envs.expert.view import Block, Vector, View
from rf_envs.geometry import DOOR_HALF_WIDTH, DRAWER_HALF_WIDTH, FINGER_ROOM, GRASP_SHIFT, SHELF_FRONT
from rf_envs.rotations import wrap_angle
from rf_envs.scenes import BLOCK_WIDTH, ROBOT_BASE, TABLE_TOP

UP = np.array([0.0, 0.0, 1.0])
CLEARANCE = TRAVEL - TABLE_TOP - BLOCK_WIDTH / 2
"""Height (m) above a block's centre at which the gripper passes over blocks beside it."""
SHELF_CLEARANCE = 0.14
"""The same for a block on the shelf: in front of the slanted panel and above the door's handle."""
SHELF_LEAN = 0.7
"""Forward tilt (rad) with which the hand fits between the shelf and the panel's upper edge."""
GRASP_SINK = 0.002
"""How far (m) below the block's centre the fingers close."""
LOOSE_TURN = 0.6
"""Angle (rad) between fingers and faces from which a free block still turns between the fingers as they close."""
NARROW = 0.007
"""Error (m) in the direction in which the fingers open that is good enough to come in between walls."""
RELIEF = 0.003
"""How far (m) at a time the gripper eases up while its fingers do not open."""


def grasp(view: View, block: Block, sink: float = GRASP_SINK, loose: bool = False) -> Command | None:
    """Go over the block with the fingers along its faces, come down around it, close; None once held.

    Args:
        view: the state.
        block: what to grasp.
        sink: how far (m) below the block's centre the fingers close.
        loose: come down and close however the hand is turned, up to `LOOSE_TURN`.
    """
    yaw, lean, retreat = _grasp_yaw(block), grasp_lean(view, block), way_out(view, block)
    goal = _grasp_point(view, block) - sink * UP
    if holds(view, block):
        return None
    turned = abs(float(wrap_angle(yaw - view.euler[2])))
    across, along, height = _in_gripper(view, goal)
    caged = is_caged(view, block)
    may_close = turned < LOOSE_TURN if loose else abs(along) < 0.014 and abs(height) < 0.010 and turned < 0.2
    if caged and (view.width < 0.07 or may_close):
        return Command(goal, yaw, lean)
    if view.width < 0.06 and height < 0.05:
        return Command(view.tcp + 0.6 * retreat, yaw, lean, open=True)
    misaligned = max(turned / (LOOSE_TURN if loose else 0.12), 0.0 if is_on_table(block) else abs(across) / NARROW)
    return Command(approach(view.tcp, goal, retreat, 0.012, misaligned), yaw, lean, open=True)


def holds(view: View, block: Block) -> bool:
    """Whether the fingers have closed on the block."""
    return is_caged(view, block) and view.width < thickness(view, block) + 0.003


def carries(view: View, block: Block) -> bool:
    """Whether the fingers have closed on the block in the air, however it has slipped between them."""
    near = float(np.linalg.norm(block.position - view.tcp)) < 0.05
    closed = 0.012 < view.width < thickness(view, block) + 0.003
    return bool(near and closed and block.position[2] - block.half_extent(UP) > TABLE_TOP + 0.01)


def is_caged(view: View, block: Block) -> bool:
    across, along, height = _in_gripper(view, block.position - GRASP_SINK * UP)
    return abs(along) < 0.022 and abs(height) < 0.018 and abs(across) < max(view.width / 2 - 0.008, 0.014)


def let_go(view: View, keep: str | None = None) -> Command | None:
    """Open the fingers and back out where they are around a block that the task is not about; None elsewhere."""
    for color, block in view.blocks.items():
        across, along, height = _in_gripper(view, block.position)
        around = abs(across) < 0.03 and abs(along) < 0.03 and -0.02 < height < 0.045
        if color != keep and around and view.width > 0.02:
            lean = wrap_angle(DOWN[:2] - view.euler[:2])
            free = ramp(view.width, thickness(view, block) + 0.006, thickness(view, block) + 0.016)
            # fingers that press on the table or twist the block jam: ease up, and turn along with its sides
            leave = max(0.1 * free, RELIEF) * back_out(lean, view.euler[2])
            return Command(view.tcp + leave, block.yaw(view.euler[2], np.pi / 2), lean, open=True)
    return None


def step_back(view: View, keep: str | None = None) -> Command | None:
    """Back away from a block that the closed fingers have just pushed; None elsewhere.

    The arm would follow the push that was asked for a little further, and go on touching the block.
    """
    for color, block in view.blocks.items():
        apart = view.tcp - block.position
        aside = apart * [1, 1, 0] / max(float(np.hypot(*apart[:2])), 1e-6)
        gap = float(apart @ aside) - block.half_extent(aside) - FINGER
        if color != keep and view.width < 0.02 and abs(apart[2]) < 0.03 and -0.02 < gap < 0.01:
            return Command(view.tcp + 0.06 * aside + [0, 0, 0.02], view.euler[2], wrap_angle(DOWN[:2] - view.euler[:2]))
    return None


def table_lean(goal: Vector, yaw: float) -> Vector:
    """Tilt of the gripper (2,) for work at a place on the table, see `Command.lean`.

    It points away from the robot's base where the arm ends, and forward where the door's handle is above.
    """
    outward = goal[:2] - np.array(ROBOT_BASE[:2])
    distance = float(np.linalg.norm(outward))
    x, y = MAX_LEAN * ramp(distance, 0.72, 0.82) * outward / distance
    y = max(y, MAX_LEAN * ramp(goal[1], -0.08, -0.04))
    return np.array([x * np.sin(yaw) - y * np.cos(yaw), x * np.cos(yaw) + y * np.sin(yaw)])


def back_out(lean: Vector, yaw: float) -> Vector:
    """Direction (3,) opposite to where a leaning gripper points, of height 1."""
    sin, cos = np.sin(yaw), np.cos(yaw)
    sideways, forward = np.tan(lean)
    return np.array([-sideways * sin - forward * cos, sideways * cos - forward * sin, 1.0])


def level_lean(view: View, block: Block) -> Vector:
    """Tilt (2,) with which the held block stands upright; one from the shelf was grasped by a leaning gripper."""
    axis = block.axes[:, int(np.argmax(np.abs(block.axes[2])))]
    axis = axis * np.sign(axis[2])
    tilt = np.arctan2(axis[0] * np.cos(view.euler[2]) + axis[1] * np.sin(view.euler[2]), axis[2])
    return np.array([0.0, np.clip(DOWN[1] - view.euler[1] + tilt, 0.0, SHELF_LEAN)])


def grasp_lean(view: View, block: Block) -> Vector:
    """Tilt (2,) for grasping the block where it is: forward only, so that both finger tips are level."""
    x, y, z = block.position
    if z < TABLE_TOP:
        return np.array([0.0, MAX_LEAN * ramp(y, -0.26, -0.21)])
    if y > SHELF_FRONT:
        return np.array([0.0, SHELF_LEAN])
    return np.array([0.0, table_lean(block.position, _grasp_yaw(block))[1]])


def way_out(view: View, block: Block) -> Vector:
    """From the block to where the gripper may move sideways (3,), m."""
    z = block.position[2]
    height = SHELF_CLEARANCE if block.position[1] > SHELF_FRONT else max(CLEARANCE, TRAVEL - z)
    return height * back_out(grasp_lean(view, block), _grasp_yaw(block))


def _grasp_yaw(block: Block) -> float:
    """Gripper yaw (rad) with which the fingers close across the block's shorter side."""
    sides = sorted(np.delete(block.size, int(np.argmax(np.abs(block.axes[2])))))
    yaw = block.yaw(DOWN[2], np.pi if sides[1] - sides[0] > 1e-3 else np.pi / 2)
    if block.position[1] > SHELF_FRONT:
        # in between panel and door the hand has to come in straight; closing turns the block
        yaw = DOWN[2] + 0.4 * (yaw - DOWN[2])
    return float(yaw)


def _grasp_point(view: View, block: Block) -> Vector:
    """Where the tcp closes on the block; off its middle where a wall leaves no room for the open fingers."""
    x, y, z = block.position
    if is_on_table(block):
        return block.position
    if z < TABLE_TOP:
        low, high = view.scene.drawer_x - DRAWER_HALF_WIDTH, view.scene.drawer_x + DRAWER_HALF_WIDTH
    else:
        low, high = min(shelf_openings(view), key=lambda gap: abs(x - sum(gap) / 2))
        y -= np.clip(y - 0.095, 0.0, GRASP_SHIFT)
    x += np.clip(np.clip(x, low + FINGER_ROOM, max(low, high - FINGER_ROOM)) - x, -GRASP_SHIFT, GRASP_SHIFT)
    return np.array([x, y, z])


def shelf_openings(view: View) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of x left and right of the sliding door where the shelf is open."""
    left, right = view.scene.plank_x
    return (left, view.door_x - DOOR_HALF_WIDTH), (view.door_x + DOOR_HALF_WIDTH, right)


def is_on_table(block: Block) -> bool:
    return bool(block.position[2] > TABLE_TOP and block.position[1] < SHELF_FRONT)


def thickness(view: View, block: Block) -> float:
    """Extent of the block between the fingers (m)."""
    return 2 * block.half_extent(np.array([np.sin(view.euler[2]), -np.cos(view.euler[2]), 0.0]))


def _in_gripper(view: View, point: Vector) -> tuple[float, float, float]:
    """Offset (m) of the gripper from a point: in the direction the fingers open, across it, and up."""
    sin, cos = np.sin(view.euler[2]), np.cos(view.euler[2])
    x, y, z = view.tcp - point
    return float(x * sin - y * cos), float(x * cos + y * sin), float(z)
