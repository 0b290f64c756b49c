"""Whether a state allows a task.

`obstacle` says what keeps its check from ever being met, `possible` also whether it is sensible to ask. CALVIN
writes such conditions as symbols (see `chain_generator`); here they are read off a state info.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rf_envs.benchmark import tasks
from rf_envs.benchmark.tasks import StateInfo, held_block, rests_on_blocks, table_link, touched_bodies, touched_links
from rf_envs.geometry import DRAWER_BACK, is_reachable_on_shelf
from rf_envs.scenes import DRAWER_MAX, ROBOT_BASE, Scene

JOINT_MARGIN = 0.01
"""Metres that a joint must be able to move beyond what a check asks for."""
OPEN_DRAWER = 0.13
"""From this joint position on, one can reach into the drawer."""
TABLE_EDGE = 0.44
PUSH_TRAVEL = 0.105
BLOCK_REACH = 0.03
"""Half the width, along x, of a block that stands across."""
BUTTON_REACH = 0.04
ARM_REACH = 0.74
"""Horizontal distance (m) from the robot's base up to which a held block can be put down upright on another."""


_PLACES = {"base_link": "on the table top", "plank_link": "in the cabinet", "drawer_link": "in the drawer"}
"""Where a block is that touches a link of the table."""
_MOTIONS = {
    "base__drawer": ("the drawer can open {}", "the drawer can close {}"),
    "base__slide": ("the sliding door can move {} to the left", "the sliding door can move {} to the right"),
}
"""What a joint does as its position grows, and as it shrinks; how far is to be filled in."""
_LIGHTS = {"lightbulb": "the light bulb", "led": "the LED"}


def push_range(scene: Scene, direction: int) -> tuple[float, float]:
    """The x from which a block can be pushed right (+1) or left (-1) without meeting button or table edge."""
    low, high = -TABLE_EDGE + BLOCK_REACH, TABLE_EDGE - BLOCK_REACH
    if scene.button_x < 0.1:
        low = scene.button_x + BUTTON_REACH + BLOCK_REACH
    else:
        high = scene.button_x - BUTTON_REACH - BLOCK_REACH
    return (low, high - PUSH_TRAVEL) if direction > 0 else (low + PUSH_TRAVEL, high)


def possible(task: str, info: StateInfo, scene: Scene) -> bool:
    """Whether ``task`` can be asked for in the state ``info`` of ``scene``: no obstacle, and within the arm's reach.

    Raises:
        ValueError: the task is unknown.
    """
    entry = tasks.TASK_TABLE[tasks.check_task(task)]
    return obstacle(task, info, scene) is None and _CONDITIONS[entry.check](info, scene, *entry.arguments)


def obstacle(task: str, info: StateInfo, scene: Scene) -> str | None:
    """Why the check of ``task`` cannot be met from the state ``info``, whatever the robot does; None if it can.

    Raises:
        ValueError: the task is unknown.
    """
    entry = tasks.TASK_TABLE[tasks.check_task(task)]
    find = _OBSTACLES.get(entry.check)
    return find(info, scene, *entry.arguments) if find else None


def _named(block: str) -> str:
    """A block, such as ``block_red``, in words."""
    return f"the {block.removeprefix('block_')} block"


def _no_support(info: StateInfo, scene: Scene, block: str, distance: float) -> str | None:
    robot = info["robot_info"]["uid"]
    rests = touched_bodies(tasks.blocks(info)[block]["contacts"]) - {robot}
    return None if rests else f"{_named(block)} rests on nothing"


def _not_there(info: StateInfo, scene: Scene, block: str, height: float, link: str) -> str | None:
    there = table_link(info, link) in touched_links(tasks.blocks(info)[block]["contacts"])
    return None if there else f"{_named(block)} is not {_PLACES[link]}"


def _nothing_held(info: StateInfo, scene: Scene, link: str) -> str | None:
    return None if held_block(info) else "the robot holds no block clear of the table"


def _no_block_apart(info: StateInfo, scene: Scene) -> str | None:
    ids = {block["uid"] for block in tasks.blocks(info).values()}
    apart = any(not touched_bodies(block["contacts"]) & ids for block in tasks.blocks(info).values())
    return None if apart else "every block touches another one already"


def _no_stack(info: StateInfo, scene: Scene) -> str | None:
    stacked = any(rests_on_blocks(info, block) for block in tasks.blocks(info))
    return None if stacked else "no block rests on another one alone"


def _room(info: StateInfo, scene: Scene, joint: str, distance: float) -> float:
    """How far (m) a joint can still move in the direction of ``distance``."""
    state = info["scene_info"]["doors"][joint]["current_state"]
    return (scene.slide_max if joint == "base__slide" else DRAWER_MAX) - state if distance > 0 else state


def _no_room(info: StateInfo, scene: Scene, joint: str, distance: float) -> str | None:
    room = _room(info, scene, joint, distance)
    if room > abs(distance):
        return None
    motion = _MOTIONS[joint][distance < 0].format(f"only {100 * max(0.0, room):.1f} cm further")
    return f"{motion}, and the task asks for more than {100 * abs(distance):.0f} cm"


def _is_so_already(info: StateInfo, scene: Scene, light: str, before: int, after: int) -> str | None:
    state = info["scene_info"]["lights"][light]["logical_state"]
    return None if state == before else f"{_LIGHTS[light]} is {'on' if state else 'off'} already"


def _no_block_for_drawer(info: StateInfo, scene: Scene, source: str, target: str) -> str | None:
    alone = any(_rests_alone_on(info, block, source) for block in tasks.blocks(info))
    return None if alone else f"no block is {_PLACES[source]} and touches nothing else"


def _is_free_on(info: StateInfo, block: str, link: str) -> bool:
    """The block stands on ``link`` of the table and touches no other block."""
    contacts = tasks.blocks(info)[block]["contacts"]
    others = {other["uid"] for other in tasks.blocks(info).values()}
    return table_link(info, link) in touched_links(contacts) and not touched_bodies(contacts) & others


def _hands_free(info: StateInfo) -> bool:
    ids = {block["uid"] for block in tasks.blocks(info).values()}
    return not touched_bodies(info["robot_info"]["contacts"]) & ids


def _can_rotate(info: StateInfo, scene: Scene, block: str, degrees: float) -> bool:
    return _hands_free(info) and _is_free_on(info, block, "base_link")


def _rests_alone_on(info: StateInfo, block: str, link: str) -> bool:
    """The block touches that link of the table and nothing else."""
    return touched_links(tasks.blocks(info)[block]["contacts"]) == {table_link(info, link)}


def _can_push(info: StateInfo, scene: Scene, block: str, distance: float) -> bool:
    # a block that leans on the door at first has lost that contact in the end, and the push would never count
    low, high = push_range(scene, 1 if distance > 0 else -1)
    x = tasks.blocks(info)[block]["current_pos"][0]
    return _hands_free(info) and _rests_alone_on(info, block, "base_link") and low <= x <= high


def _can_lift(info: StateInfo, scene: Scene, block: str, height: float, link: str) -> bool:
    if not (_hands_free(info) and _is_free_on(info, block, link)):
        return False
    position = tasks.blocks(info)[block]["current_pos"]
    if link == "plank_link":
        return is_reachable_on_shelf(scene, info, position)
    return link != "drawer_link" or (_drawer(info) > OPEN_DRAWER and position[1] < DRAWER_BACK - 0.02)


def _can_move_door(info: StateInfo, scene: Scene, joint: str, distance: float) -> bool:
    return _hands_free(info) and _room(info, scene, joint, distance) > abs(distance) + JOINT_MARGIN


def _can_place(info: StateInfo, scene: Scene, link: str) -> bool:
    return link != "drawer_link" or _drawer(info) > OPEN_DRAWER


def _can_stack(info: StateInfo, scene: Scene) -> bool:
    held = held_block(info)
    return held is not None and any(
        _is_free_on(info, other, "base_link") and _is_near(block["current_pos"])
        for other, block in tasks.blocks(info).items()
        if other != held
    )


def _is_near(position: np.ndarray) -> bool:
    """The arm reaches over a block there with the fingers straight down."""
    return bool(np.linalg.norm(np.subtract(position, ROBOT_BASE)[:2]) < ARM_REACH)


def _can_unstack(info: StateInfo, scene: Scene) -> bool:
    return _hands_free(info)


def _can_switch(info: StateInfo, scene: Scene, light: str, before: int, after: int) -> bool:
    return _hands_free(info)


def _can_push_into(info: StateInfo, scene: Scene, source: str, target: str) -> bool:
    return _drawer(info) > OPEN_DRAWER


def _drawer(info: StateInfo) -> float:
    return info["scene_info"]["doors"]["base__drawer"]["current_state"]


_OBSTACLES: dict[Callable[..., bool], Callable[..., str | None]] = {
    tasks.pushed: _no_support,
    tasks.lifted: _not_there,
    tasks.placed: _nothing_held,
    tasks.pushed_into: _no_block_for_drawer,
    tasks.stacked: _no_block_apart,
    tasks.unstacked: _no_stack,
    tasks.door_moved: _no_room,
    tasks.light_switched: _is_so_already,
}
_CONDITIONS: dict[Callable[..., bool], Callable[..., bool]] = {
    tasks.rotated: _can_rotate,
    tasks.pushed: _can_push,
    tasks.lifted: _can_lift,
    tasks.placed: _can_place,
    tasks.pushed_into: _can_push_into,
    tasks.stacked: _can_stack,
    tasks.unstacked: _can_unstack,
    tasks.door_moved: _can_move_door,
    tasks.light_switched: _can_switch,
}
