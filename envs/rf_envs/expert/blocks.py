"""Skills for the blocks: lift, turn, push, place and stack.

A block's phase follows from where it is: between the fingers, at its destination, or elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rf_envs.benchmark.tasks import COLORS
from rf_envs.expert import fixtures
from rf_envs.expert.grasping import (
    CLEARANCE,
    RELIEF,
    SHELF_CLEARANCE,
    SHELF_LEAN,
    UP,
    back_out,
    carries,
    grasp,
    grasp_lean,
    is_caged,
    is_on_table,
    level_lean,
    shelf_openings,
    table_lean,
    thickness,
    way_out,
)
from rf_envs.expert.motions import DOWN, FINGER, OVERLAP, TRAVEL, Command, approach, ramp, shove
from rf_envs.expert.view import Block, Vector, View
from rf_envs.geometry import DOOR_HALF_WIDTH, DRAWER_BACK, DRAWER_FRONT, HAND_HALF_WIDTH, SHELF_FRONT
from rf_envs.scenes import DRAWER_FLOOR, DRAWER_MAX, TABLE_TOP

DRAWER_REACH = 0.14
"""How far (m) beside the drawer's middle a block still falls into it."""
WELL_BEFORE = 0.09
"""Up to this distance (m) beside the drawer's middle a block is pushed once a hand pushes it."""
HANDLE_ROOM = 0.04
"""How far (m) beside the sliding door's handle the hand passes it, on its way down behind a block."""
BEFORE_HANDLE = -0.1
"""y from which a block is so near the door that the hand comes down behind it at the handle."""
OPEN_ENOUGH = 0.11
"""From this joint position (m) on, a block fits into the drawer."""
AIM_BELOW = 0.01
"""How far (m) below its place a held block is aimed at; it is let go before."""
SPOT_GRID = 0.004
"""Distance (m) of the spots among which the free one nearest to a block is looked for. Finer than anyone sees: what
learns from the expert would take a coarse grid for places to aim at."""
SPOT_ROOM = 0.1
"""Distance (m) from other blocks at which a block is put down, where there is room."""
DOOR_ROOM = 0.05
"""Distance (m) of a block on the shelf from door and wall, so that the fingers beside it can open."""
INSIDE = 0.02
"""How much further (m) from door and wall a block is aimed at, where there is room: at a goal just within reach of an
edge the sideways motion fades before who learns from it can tell on which side of the edge it is."""


def lift(view: View, color: str, loose: bool = False) -> Command:
    """Grasp the block (`loose`: see `grasp`) and pull it out the way the gripper came; move door or drawer first if
    they cover it."""
    block = view.blocks[color]
    return (
        _uncover(view, block)
        or fixtures.unhook(view)
        or grasp(view, block, loose=loose)
        or Command(view.tcp + way_out(view, block), view.euler[2], grasp_lean(view, block))
    )


def rotate(view: View, color: str, direction: float) -> Command:
    """Grasp the block and turn it where it stands; `direction` is +1 to the left, -1 to the right."""
    block = view.blocks[color]
    # the turn counts on the table: put the block down again where it has crept up with the fingers
    sink = TABLE_TOP + block.half_extent(UP) - block.position[2]
    goal = view.tcp + sink * UP
    return grasp(view, block, -0.004) or Command(goal, view.euler[2] + 0.4 * direction, grasp_lean(view, block))


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
    """Push a block over the table's edge into the open drawer: red before blue before pink, of those before it.

    As in `stack`, the choice is one that can be seen: of two blocks about as near to the edge it would not be. A block
    beside the drawer is first pushed sideways, and further than it must be: a policy that takes the hand away a little
    early, or late, is right, too. So is one before the sliding door's handle, where no hand fits behind it.
    """
    if view.drawer < OPEN_ENOUGH:
        return fixtures.open_drawer(view)
    if (leave := fixtures.unhook(view)) is not None:
        return leave
    table = [color for color, block in view.blocks.items() if is_on_table(block)] or list(view.blocks)
    aside = {color: view.blocks[color].position[0] - view.scene.drawer_x for color in table}
    for color in table:
        inwards = np.array([-np.sign(aside[color]), 0.0, 0.0])
        if WELL_BEFORE < abs(aside[color]) < DRAWER_REACH and _is_pushing(view, view.blocks[color], inwards):
            return push(view, color, inwards)
    inside = [color for color in table if abs(aside[color]) < DRAWER_REACH]
    if not inside:
        color = min(table, key=lambda color: abs(aside[color]))
        return push(view, color, np.array([-np.sign(aside[color]), 0.0, 0.0]))
    color = min(inside, key=lambda color: (_is_before_handle(view, view.blocks[color]), COLORS.index(color)))
    block = view.blocks[color]
    if _is_before_handle(view, block):
        return push(view, color, np.array([1.0 if block.position[0] > view.door_x else -1.0, 0.0, 0.0]))
    towards = np.array([0.0, -1.0, 0.0])
    touch = block.half_extent(towards) + FINGER
    contact = block.position + [0, 0, 0.008] - touch * towards
    yaw = block.yaw(DOWN[2], np.pi / 2)
    lean = table_lean(contact, yaw)
    gap = float(np.clip(0.012 - contact[1], 0.004, 0.03))
    way = shove(view.tcp, contact, towards, gap, CLEARANCE * back_out(lean, yaw), 0.015, hold=0.022)
    return Command(way, yaw, lean, speed=0.6)


def unstack(view: View) -> Command:
    """Lift the block that stands on another.

    The task is done as soon as it is off, so that few states are labelled with closing fingers. One that learns from
    the labels comes down turned by half a radian; told to go up again and turn from there, it hovers for ever.
    """
    return lift(view, max(view.blocks, key=lambda color: view.blocks[color].position[2]), loose=True)


def stack(view: View) -> Command:
    """Put the held block on one on the table: on red before blue before pink.

    Where the instruction leaves a choice, it must be one that a policy can see, and that does not flip as the hand
    moves: near a tie between two distances, a regression would learn the mean of both.
    """
    block = _carried(view)
    others = [view.blocks[color] for color in COLORS if view.blocks[color] is not block]
    below = next((b for b in others if is_on_table(b)), others[0])
    spot = below.position + [0, 0, below.half_extent(UP) + block.half_extent(UP)]
    return _put(view, block, spot, Release(CLEARANCE, above=0.022, within=0.016, radius=0.016), level_lean(view, block))


def place_in_drawer(view: View) -> Command:
    """Let the held block down into the open drawer, where no other block lies."""
    block = _carried(view)
    y = min((DRAWER_FRONT - view.drawer + DRAWER_BACK) / 2, -0.24)
    places = view.scene.drawer_x + np.linspace(-0.1, 0.1, 1 + round(0.2 / SPOT_GRID))
    spot, _ = _free_spot(view, block, places, y, DRAWER_FLOOR)
    return _put(view, block, spot, Release(TRAVEL - spot[2], above=0.07, within=0.045, radius=0.035))


def place_in_slider(view: View) -> Command:
    """Let the held block down onto the shelf, at the free place nearest to it on either side of the sliding door.

    With the door in the middle both sides are as good. The nearer is the choice that a policy can follow: of two about
    as wide it would not see which is wider, and goes back and forth between them; where the nearer is asked for, every
    step towards one side makes that side more certain.
    """
    block = _carried(view)
    places, margins = [], []
    for left, right in shelf_openings(view):
        slack = (right - left) / 2 - DOOR_ROOM
        if slack >= 0:
            margin = min(INSIDE, slack)
            reach = slack - margin
            x = (left + right) / 2 + np.linspace(-reach, reach, 1 + round(2 * reach / SPOT_GRID))
            places.append(x)
            margins.append(np.full_like(x, margin))
    spot, index = _free_spot(view, block, np.concatenate(places), 0.075, TABLE_TOP)
    margin = float(np.concatenate(margins)[index])
    release = Release(SHELF_CLEARANCE, above=0.035, within=0.025 + margin, radius=0.016 + margin)
    return _put(view, block, spot, release, np.array([0.0, SHELF_LEAN]), DOWN[2])


@dataclass(frozen=True)
class Release:
    """How exactly a held block is put down; all in metres.

    As roughly as the task allows: who learns from these labels sees the hand within a centimetre or two, and must be
    sure in between that it may come down and let go. Where these regions are small it hovers beside them for ever.
    """

    clearance: float
    """Height above the spot at which the block is carried."""
    above: float
    """Height above the spot from which it may fall."""
    within: float
    """How far beside the spot it may be let go."""
    radius: float
    """How far beside the spot it may come down; at twice that it stays at its height."""


def _put(
    view: View, block: Block, spot: Vector, release: Release, lean: Vector | None = None, yaw: float | None = None
) -> Command:
    """Carry the block to `spot` (its centre at rest), let go near it, and back out."""
    lean = np.zeros(2) if lean is None else lean
    error = block.position - spot
    arrived = float(np.hypot(*error[:2])) < release.within and -0.02 < error[2] < release.above
    carried = carries(view, block)
    if arrived and (carried or is_caged(view, block)):
        free = 0.1 * ramp(view.width, thickness(view, block) + 0.005, thickness(view, block) + 0.02)
        leave = max(free, RELIEF) * back_out(lean, view.euler[2])
        return Command(view.tcp + leave, view.euler[2], lean, open=True)
    # a block that has slipped is put down as it is: to grasp it anew would be to drop it
    picking = None if carried else grasp(view, block)
    if picking is not None:
        return picking
    # aim below where the hand opens: towards a goal that is reached actions fade, and a policy comes to a halt there
    goal = spot - AIM_BELOW * UP + view.tcp - block.position
    way_in = (release.clearance + AIM_BELOW) * back_out(lean, DOWN[2])
    return Command(approach(view.tcp, goal, way_in, release.radius), view.euler[2] if yaw is None else yaw, lean)


def _uncover(view: View, block: Block) -> Command | None:
    """Move the sliding door or the drawer away where it leaves the hand no room at the block; None elsewhere."""
    x, y, z = block.position
    if z < TABLE_TOP:
        in_the_way = view.drawer < OPEN_ENOUGH or y > DRAWER_BACK - 0.02
        return fixtures.open_drawer(view) if in_the_way and view.drawer < DRAWER_MAX - 0.01 else None
    side = np.sign(x - view.door_x)
    room = view.slide if side < 0 else view.scene.slide_max - view.slide
    if y > SHELF_FRONT and abs(x - view.door_x) < DOOR_HALF_WIDTH + HAND_HALF_WIDTH and room > 0.005:
        return fixtures.unhook(view) or fixtures.move_slider(view, np.array([-side, 0.0, 0.0]))
    return None


def _carried(view: View) -> Block:
    """The block that is held or, after it slipped, the one next to the gripper."""
    return min(view.blocks.values(), key=lambda block: float(np.linalg.norm(block.position - view.tcp)))


def _free_spot(view: View, block: Block, x: Vector, y: float, surface: float) -> tuple[Vector, int]:
    """Where the block's centre comes to rest: at the place nearest to it that has room to the other blocks.

    Args:
        view: the state.
        block: what is put down.
        x: possible places (n,).
        y: of all of them.
        surface: height of what it is put on.

    Returns:
        the block's centre (3,) there, and the index of the place.
    """
    crowded = np.zeros_like(x)
    for other in view.blocks.values():
        if other is not block:
            room = np.hypot(x - other.position[0], y - other.position[1])
            crowded = np.maximum(crowded, SPOT_ROOM - room)
    free = np.flatnonzero(crowded <= 0)
    if not len(free):
        free = np.array([np.argmin(crowded)])
    best = int(free[np.argmin(np.abs(x[free] - block.position[0]))])
    return np.array([x[best], y, surface + block.half_extent(UP)]), best


def _is_pushing(view: View, block: Block, direction: Vector) -> bool:
    """Whether the gripper is right behind the block, as low as it pushes."""
    offset = block.position - view.tcp
    ahead = float(offset @ direction) - block.half_extent(direction) - FINGER
    return bool(-OVERLAP < ahead < 0.015 and abs(offset[1]) < 0.02 and abs(offset[2]) < 0.03)


def _is_before_handle(view: View, block: Block) -> bool:
    """Whether the sliding door's handle leaves the hand no room behind the block."""
    x, y, _ = block.position
    return bool(y > BEFORE_HANDLE and abs(x - view.door_x) < HANDLE_ROOM)


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
