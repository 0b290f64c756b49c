"""Skills for the blocks: grasp, lift, turn, push, place and stack.

A block's phase follows from where it is: between the fingers, at its destination, or elsewhere.
"""

from __future__ import annotations

import numpy as np

from rf_envs.expert import fixtures
from rf_envs.expert.motions import DOWN, FINGER, MAX_LEAN, TRAVEL, Command, approach, ramp, shove
from rf_envs.expert.view import Block, Vector, View, wrap
from rf_envs.scenes import BLOCK_WIDTH, DRAWER_FLOOR, DRAWER_MAX, ROBOT_BASE, TABLE_TOP

CLEARANCE = TRAVEL - TABLE_TOP - BLOCK_WIDTH / 2
"""Height (m) above a block's centre at which the gripper passes over blocks beside it."""
SHELF_CLEARANCE = 0.14
"""The same for a block on the shelf: in front of the slanted panel and above the door's handle."""
SHELF_LEAN = 0.8
"""Forward tilt (rad) with which the hand fits between the shelf and the panel's upper edge."""
GRASP_SINK = 0.002
"""How far (m) below the block's centre the fingers close."""
SHELF_FRONT, DRAWER_BACK = 0.03, -0.18
DRAWER_FRONT = -0.158
"""y of the inside of the drawer's front while the drawer is closed."""
DOOR_HALF_WIDTH = 0.14
DRAWER_REACH = 0.14
"""How far (m) beside the drawer's middle a block still falls into it."""
OPEN_ENOUGH = 0.11
"""From this joint position (m) on, a block fits into the drawer."""
RELIEF = 0.003
"""How far (m) at a time the gripper eases up while its fingers do not open."""
FINGER_ROOM = 0.056
"""From the tcp to the outside of an open finger (m)."""


def lift(view: View, color: str) -> Command:
    """Grasp the block and pull it out the way the gripper came; move door or drawer first if they cover it."""
    block = view.blocks[color]
    return _uncover(view, block) or grasp(view, block) or Command(view.tcp + _way_in(view, block), view.euler[2], _lean(view, block))


def rotate(view: View, color: str, direction: float) -> Command:
    """Grasp the block and turn it where it stands; `direction` is +1 to the left, -1 to the right."""
    block = view.blocks[color]
    # held down, or the block would creep up with the fingers and leave the table
    goal = np.array([*view.tcp[:2], TABLE_TOP + block.half_extent(UP) - GRASP_SINK - 0.002])
    return grasp(view, block) or Command(goal, view.euler[2] + 0.4 * direction, _lean(view, block))


def push(view: View, color: str, direction: Vector) -> Command:
    """Come down beside the block and sweep it sideways, closed fingers following its middle."""
    block = view.blocks[color]
    touch = block.half_extent(direction) + FINGER
    contact = block.position + [0, 0, 0.008] - touch * direction
    yaw = block.yaw(DOWN[2], np.pi / 2)
    lean = table_lean(contact + 0.05 * direction, yaw)
    gap = _room_behind(view, block, direction) - touch
    way = shove(view.tcp, contact, direction, gap, CLEARANCE * back_out(lean, yaw), 0.018, hold=0.022)
    return Command(way, yaw, lean, speed=0.6)


def push_into_drawer(view: View) -> Command:
    """Push the block that is nearest to the table's edge over it, into the open drawer."""
    if view.drawer < OPEN_ENOUGH:
        return fixtures.open_drawer(view)
    table = [color for color, block in view.blocks.items() if _is_on_table(block)] or list(view.blocks)
    aside = {color: view.blocks[color].position[0] - view.scene.drawer_x for color in table}
    inside = [color for color in table if abs(aside[color]) < DRAWER_REACH]
    if not inside:
        color = min(table, key=lambda color: abs(aside[color]))
        return push(view, color, np.array([-np.sign(aside[color]), 0.0, 0.0]))
    block = min((view.blocks[color] for color in inside), key=lambda b: b.position[1])
    towards = np.array([0.0, -1.0, 0.0])
    touch = block.half_extent(towards) + FINGER
    contact = block.position + [0, 0, 0.008] - touch * towards
    yaw = block.yaw(DOWN[2], np.pi / 2)
    lean = table_lean(contact, yaw)
    gap = float(np.clip(0.012 - contact[1], 0.004, 0.03))
    way = shove(view.tcp, contact, towards, gap, CLEARANCE * back_out(lean, yaw), 0.015, hold=0.022)
    return Command(way, yaw, lean, speed=0.6)


def unstack(view: View) -> Command:
    """Lift the block that stands on another."""
    return lift(view, max(view.blocks, key=lambda color: view.blocks[color].position[2]))


def stack(view: View) -> Command:
    """Put the held block on the nearest one on the table."""
    block = _carried(view)
    others = [b for b in view.blocks.values() if b is not block]
    below = min([b for b in others if _is_on_table(b)] or others, key=lambda b: float(np.linalg.norm(b.position - view.tcp)))
    spot = below.position + [0, 0, below.half_extent(UP) + block.half_extent(UP)]
    return _put(view, block, spot, CLEARANCE, 0.008, _level(view, block))


def place_in_drawer(view: View) -> Command:
    """Let the held block down into the open drawer, where no other block lies."""
    block = _carried(view)
    y = min((DRAWER_FRONT - view.drawer + DRAWER_BACK) / 2, -0.24)
    spots = [np.array([view.scene.drawer_x + x, y, DRAWER_FLOOR]) for x in np.linspace(-0.1, 0.1, 9)]
    spot = _free_spot(view, block, spots) + [0, 0, block.half_extent(UP)]
    return _put(view, block, spot, TRAVEL - spot[2], 0.03)


def place_in_slider(view: View) -> Command:
    """Let the held block down onto the shelf, beside the sliding door."""
    block = _carried(view)
    low, high = max(shelf_openings(view), key=lambda gap: gap[1] - gap[0])
    slack = max((high - low) / 2 - 0.04, 0.0)
    spots = [np.array([x, 0.075, TABLE_TOP]) for x in (low + high) / 2 + slack * np.linspace(-1, 1, 9)]
    spot = _free_spot(view, block, spots) + [0, 0, block.half_extent(UP)]
    return _put(view, block, spot, SHELF_CLEARANCE, 0.02, np.array([0.0, SHELF_LEAN]), DOWN[2])


UP = np.array([0.0, 0.0, 1.0])


def grasp(view: View, block: Block) -> Command | None:
    """Go over the block with the fingers along its faces, come down around it, close; None once held."""
    yaw, lean, way_in = _grasp_yaw(block), _lean(view, block), _way_in(view, block)
    goal = _grasp_point(view, block)
    if holds(view, block):
        return None
    turned = abs(float(wrap(yaw - view.euler[2])))
    across, along, height = _in_gripper(view, goal)
    caged = _is_caged(view, block)
    if caged and (view.width < 0.07 or (abs(along) < 0.014 and abs(height) < 0.010 and turned < 0.2)):
        return Command(goal, yaw, lean)
    if view.width < 0.06 and height < 0.05:
        return Command(view.tcp + 0.6 * way_in, yaw, lean, open=True)
    return Command(approach(view.tcp, goal, way_in, 0.012, turned / 0.12), yaw, lean, open=True)


def holds(view: View, block: Block) -> bool:
    """Whether the fingers have closed on the block."""
    return _is_caged(view, block) and view.width < _thickness(view, block) + 0.003


def let_go(view: View, keep: str | None = None) -> Command | None:
    """Open the fingers and back out where they are around a block that the task is not about; None elsewhere."""
    for color, block in view.blocks.items():
        across, along, height = _in_gripper(view, block.position)
        around = abs(across) < 0.03 and abs(along) < 0.03 and -0.02 < height < 0.045
        if color != keep and around and view.width > 0.02:
            lean = wrap(DOWN[:2] - view.euler[:2])
            free = ramp(view.width, _thickness(view, block) + 0.006, _thickness(view, block) + 0.016)
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
        if color != keep and view.width < 0.02 and abs(apart[2]) < 0.03 and 0 < gap + 0.005 < 0.015:
            return Command(view.tcp + 0.06 * aside + [0, 0, 0.02], view.euler[2], wrap(DOWN[:2] - view.euler[:2]))
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


def _put(
    view: View,
    block: Block,
    spot: Vector,
    clearance: float,
    above: float,
    lean: Vector | None = None,
    yaw: float | None = None,
) -> Command:
    """Carry the block to `spot` (its centre at rest), let go within `above` of it, and back out."""
    lean = np.zeros(2) if lean is None else lean
    error = block.position - spot
    arrived = float(np.hypot(*error[:2])) < 0.025 and -0.02 < error[2] < above
    if arrived and _is_caged(view, block):
        free = 0.1 * ramp(view.width, _thickness(view, block) + 0.005, _thickness(view, block) + 0.02)
        leave = max(free, RELIEF) * back_out(lean, view.euler[2])
        return Command(view.tcp + leave, view.euler[2], lean, open=True)
    picking = grasp(view, block)
    if picking is not None:
        return picking
    goal = spot + [0, 0, above / 2] + view.tcp - block.position
    way_in = clearance * back_out(lean, DOWN[2])
    return Command(approach(view.tcp, goal, way_in, 0.012), view.euler[2] if yaw is None else yaw, lean)


def _uncover(view: View, block: Block) -> Command | None:
    """Move the sliding door or the drawer away where it leaves the hand no room at the block; None elsewhere."""
    x, y, z = block.position
    if z < TABLE_TOP:
        in_the_way = view.drawer < OPEN_ENOUGH or y > DRAWER_BACK - 0.02
        return fixtures.open_drawer(view) if in_the_way and view.drawer < DRAWER_MAX - 0.01 else None
    door = view.scene.slide_x - view.slide
    side = np.sign(x - door)
    room = view.slide if side < 0 else view.scene.slide_max - view.slide
    if y > SHELF_FRONT and abs(x - door) < DOOR_HALF_WIDTH + FINGER_ROOM - 0.012 and room > 0.005:
        return fixtures.move_slider(view, np.array([-side, 0.0, 0.0]))
    return None


def _is_on_table(block: Block) -> bool:
    return bool(block.position[2] > TABLE_TOP and block.position[1] < SHELF_FRONT)


def _level(view: View, block: Block) -> Vector:
    """Tilt (2,) with which the held block stands upright; one from the shelf was grasped by a leaning gripper."""
    axis = block.axes[:, int(np.argmax(np.abs(block.axes[2])))]
    axis = axis * np.sign(axis[2])
    tilt = np.arctan2(axis[0] * np.cos(view.euler[2]) + axis[1] * np.sin(view.euler[2]), axis[2])
    return np.array([0.0, np.clip(DOWN[1] - view.euler[1] + tilt, 0.0, SHELF_LEAN)])


def _carried(view: View) -> Block:
    """The block that is held or, after it slipped, the one next to the gripper."""
    return min(view.blocks.values(), key=lambda block: float(np.linalg.norm(block.position - view.tcp)))


def _free_spot(view: View, block: Block, spots: list[Vector]) -> Vector:
    """The spot nearest to the block among those with room around them (or with the most room)."""
    others = [b.position[:2] for b in view.blocks.values() if b is not block]

    def cost(spot: Vector) -> tuple[float, float]:
        room = min((float(np.linalg.norm(spot[:2] - other)) for other in others), default=1.0)
        return max(0.0, 0.1 - room), float(np.linalg.norm(spot[:2] - block.position[:2]))

    return min(spots, key=cost)


def _room_behind(view: View, block: Block, direction: Vector) -> float:
    """Distance (m) behind the block's centre at which the fingers come down, short of the next block."""
    touch = block.half_extent(direction) + FINGER
    room = touch + 0.03
    for other in view.blocks.values():
        between = float((block.position - other.position) @ direction)
        if other is not block and between > 0 and abs(other.position[1] - block.position[1]) < 0.06:
            middle = (between - other.half_extent(direction) + block.half_extent(direction)) / 2
            room = float(np.clip(middle, touch + 0.005, room))
    return room


def _lean(view: View, block: Block) -> Vector:
    """Tilt (2,) for grasping the block where it is: forward only, so that both finger tips are level."""
    x, y, z = block.position
    if z < TABLE_TOP:
        return np.array([0.0, MAX_LEAN * ramp(y, -0.26, -0.21)])
    if y > SHELF_FRONT:
        return np.array([0.0, SHELF_LEAN])
    return np.array([0.0, table_lean(block.position, _grasp_yaw(block))[1]])


def _way_in(view: View, block: Block) -> Vector:
    """From the block to where the gripper may move sideways (3,), m."""
    z = block.position[2]
    height = SHELF_CLEARANCE if block.position[1] > SHELF_FRONT else max(CLEARANCE, TRAVEL - z)
    return height * back_out(_lean(view, block), _grasp_yaw(block))


def _grasp_yaw(block: Block) -> float:
    """Gripper yaw (rad) with which the fingers close across the block's shorter side."""
    sides = sorted(np.delete(block.size, int(np.argmax(np.abs(block.axes[2])))))
    yaw = block.yaw(DOWN[2], np.pi if sides[1] - sides[0] > 1e-3 else np.pi / 2)
    if block.position[1] > SHELF_FRONT:
        # in between panel and door the hand has to come in straight; closing turns the block
        yaw = DOWN[2] + 0.4 * (yaw - DOWN[2])
    return float(yaw)


def _grasp_point(view: View, block: Block) -> Vector:
    """Where the tcp closes on the block; on the shelf off its middle where there is no room for the hand."""
    goal = block.position - GRASP_SINK * UP
    if block.position[1] > SHELF_FRONT:
        x = block.position[0]
        low, high = min(shelf_openings(view), key=lambda gap: abs(x - sum(gap) / 2))
        goal[0] = x + np.clip(np.clip(x, low + FINGER_ROOM, max(low, high - FINGER_ROOM)) - x, -0.012, 0.012)
        goal[1] -= np.clip(block.position[1] - 0.095, 0.0, 0.012)
    return goal


def shelf_openings(view: View) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of x left and right of the sliding door where the shelf is open."""
    door = view.scene.slide_x - view.slide
    left, right = view.scene.plank_x
    return (left, door - DOOR_HALF_WIDTH), (door + DOOR_HALF_WIDTH, right)


def _is_caged(view: View, block: Block) -> bool:
    across, along, height = _in_gripper(view, block.position - GRASP_SINK * UP)
    return abs(along) < 0.022 and abs(height) < 0.018 and abs(across) < max(view.width / 2 - 0.008, 0.014)


def _thickness(view: View, block: Block) -> float:
    """Extent of the block between the fingers (m)."""
    return 2 * block.half_extent(np.array([np.sin(view.euler[2]), -np.cos(view.euler[2]), 0.0]))


def _in_gripper(view: View, point: Vector) -> tuple[float, float, float]:
    """Offset (m) of the gripper from a point: in the direction the fingers open, across it, and up."""
    sin, cos = np.sin(view.euler[2]), np.cos(view.euler[2])
    x, y, z = view.tcp - point
    return float(x * sin - y * cos), float(x * cos + y * sin), float(z)
