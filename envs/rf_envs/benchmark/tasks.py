"""The 34 tasks of CALVIN as data, and the checks that tell when one is done.

A check compares two *state infos*, the dictionaries ``{"robot_info": ..., "scene_info": ...}`` in CALVIN's
structure that every simulator returns: ``start``, taken when the task was given, and ``now``. Of a contact,
which is a PyBullet contact point, only entry 2 (the other body) and entry 4 (that body's link) are read.

Source: CALVIN, Mees et al. 2022, section IV; the thresholds are those of its task oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rf_envs.errors import check_choice
from rf_envs.rotations import euler_from_quaternion, relative_quaternion

StateInfo = dict[str, Any]
COLORS = ("red", "blue", "pink")

ROTATE_MAX_TILT = 30.0
"""A turned block may not tip more than this about x or y, in degrees."""
ROTATE_MAX_TRAVEL = 0.1
"""A turned block may not move further than this, in metres."""
MAX_STACK_SPEED = 1.0
"""Each velocity component of a stacked block stays below this, in m/s and rad/s."""


def touched_bodies(contacts: Iterable[Any]) -> set[int]:
    """The ids of the bodies on the other side of ``contacts``."""
    return {contact[2] for contact in contacts}


def touched_links(contacts: Iterable[Any]) -> set[tuple[int, int]]:
    """The (body, link) pairs on the other side of ``contacts``."""
    return {(contact[2], contact[4]) for contact in contacts}


def table_link(info: StateInfo, link: str) -> tuple[int, int]:
    """The (body, link) pair of a link of the table, such as ``"drawer_link"``."""
    table = info["scene_info"]["fixed_objects"]["table"]
    return table["uid"], table["links"][link]


def blocks(info: StateInfo) -> dict[str, dict[str, Any]]:
    """The movable objects by name: ``block_red``, ``block_blue``, ``block_pink``."""
    return info["scene_info"]["movable_objects"]


def held_block(info: StateInfo) -> str | None:
    """The block in the robot's hand: the one body that the robot touches, itself touching only the robot."""
    touched = touched_bodies(info["robot_info"]["contacts"])
    if len(touched) != 1:
        return None
    for name, block in blocks(info).items():
        if block["uid"] in touched:
            alone = touched_bodies(block["contacts"]) == {info["robot_info"]["uid"]}
            return name if alone else None
    return None


def _travel(start: StateInfo, now: StateInfo, block: str) -> np.ndarray:
    """How far a block has moved since ``start``: (3,), metres."""
    return np.subtract(blocks(now)[block]["current_pos"], blocks(start)[block]["current_pos"])


def _is_slow(block: dict[str, Any]) -> bool:
    speeds = np.abs([*block["current_lin_vel"], *block["current_ang_vel"]])
    return bool((speeds < MAX_STACK_SPEED).all())


def rotated(start: StateInfo, now: StateInfo, block: str, degrees: float) -> bool:
    """The block turned upright by more than ``degrees`` (> 0: to the left), without travelling."""
    if np.linalg.norm(_travel(start, now, block)) > ROTATE_MAX_TRAVEL:
        return False
    if not touched_bodies(blocks(now)[block]["contacts"]) - {now["robot_info"]["uid"]}:
        return False
    turn = relative_quaternion(blocks(start)[block]["current_orn"], blocks(now)[block]["current_orn"])
    x, y, z = np.degrees(euler_from_quaternion(turn))
    upright = abs(x) < ROTATE_MAX_TILT and abs(y) < ROTATE_MAX_TILT
    far_enough = degrees < z < 180.0 if degrees > 0 else -180.0 < z < degrees
    return bool(upright and far_enough)


def pushed(start: StateInfo, now: StateInfo, block: str, distance: float) -> bool:
    """The block moved by more than ``distance`` along x (> 0: to the right), still on what it stood on."""
    robot = now["robot_info"]["uid"]
    below = {pair for pair in touched_links(blocks(start)[block]["contacts"]) if pair[0] != robot}
    still = {pair for pair in touched_links(blocks(now)[block]["contacts"]) if pair[0] != robot}
    if not below or not below <= still:
        return False
    x = _travel(start, now, block)[0]
    return bool(x > distance if distance > 0 else x < distance)


def lifted(start: StateInfo, now: StateInfo, block: str, height: float, link: str) -> bool:
    """The block, from ``link`` of the table, is more than ``height`` higher and only the robot touches it."""
    return bool(
        _travel(start, now, block)[2] > height
        and touched_bodies(blocks(now)[block]["contacts"]) == {now["robot_info"]["uid"]}
        and table_link(start, link) in touched_links(blocks(start)[block]["contacts"])
    )


def placed(start: StateInfo, now: StateInfo, link: str) -> bool:
    """The block that the robot held lies on ``link`` of the table and the robot has let go of it."""
    block = held_block(start)
    if block is None:
        return False
    let_go = blocks(now)[block]["uid"] not in touched_bodies(now["robot_info"]["contacts"])
    return let_go and table_link(now, link) in touched_links(blocks(now)[block]["contacts"])


def pushed_into(start: StateInfo, now: StateInfo, source: str, target: str) -> bool:
    """Some block that touched nothing but the table's ``source`` link now touches its ``target`` link."""
    # CALVIN means to exclude blocks that the robot still touches, but its test never holds;
    # ours does the same so that results stay comparable
    return any(
        touched_links(blocks(start)[block]["contacts"]) == {table_link(start, source)}
        and table_link(now, target) in touched_links(blocks(now)[block]["contacts"])
        for block in blocks(start)
    )


def stacked(start: StateInfo, now: StateInfo) -> bool:
    """Some block that touched no other block now rests, slowly, on blocks alone."""
    ids = {block["uid"] for block in blocks(start).values()}
    for name, block in blocks(now).items():
        touched = touched_bodies(block["contacts"])
        was_free = not touched_bodies(blocks(start)[name]["contacts"]) & ids
        if was_free and touched and touched <= ids and _is_slow(block):
            return True
    return False


def unstacked(start: StateInfo, now: StateInfo) -> bool:
    """Some block that rested on blocks alone touches no block any more."""
    ids = {block["uid"] for block in blocks(start).values()}
    return any(
        rests_on_blocks(start, name) and not touched_bodies(blocks(now)[name]["contacts"]) & ids
        for name in blocks(start)
    )


def rests_on_blocks(info: StateInfo, block: str) -> bool:
    """The block touches other blocks and nothing else, and moves slowly."""
    ids = {other["uid"] for other in blocks(info).values()}
    touched = touched_bodies(blocks(info)[block]["contacts"])
    return bool(touched) and touched <= ids and _is_slow(blocks(info)[block])


def door_moved(start: StateInfo, now: StateInfo, joint: str, distance: float) -> bool:
    """A sliding joint moved by more than ``distance`` metres in its direction (> 0: left, or open)."""
    before, after = (info["scene_info"]["doors"][joint]["current_state"] for info in (start, now))
    moved = after - before
    return bool(moved > distance if distance > 0 else moved < distance)


def light_switched(start: StateInfo, now: StateInfo, light: str, before: int, after: int) -> bool:
    """The light went from ``before`` to ``after`` (0 off, 1 on)."""
    states = [info["scene_info"]["lights"][light]["logical_state"] for info in (start, now)]
    return states == [before, after]


@dataclass(frozen=True)
class Task:
    """One task: its name and the check, with its arguments, that tells when it is done."""

    name: str
    check: Callable[..., bool]
    arguments: tuple[Any, ...] = ()

    def is_done(self, start: StateInfo, now: StateInfo) -> bool:
        """Whether the task was fulfilled between ``start`` and ``now``."""
        return self.check(start, now, *self.arguments)


def _all_tasks() -> Iterable[Task]:
    for color in COLORS:
        yield Task(f"rotate_{color}_block_right", rotated, (f"block_{color}", -60.0))
        yield Task(f"rotate_{color}_block_left", rotated, (f"block_{color}", 60.0))
    for color in COLORS:
        yield Task(f"push_{color}_block_right", pushed, (f"block_{color}", 0.1))
        yield Task(f"push_{color}_block_left", pushed, (f"block_{color}", -0.1))
    yield Task("move_slider_left", door_moved, ("base__slide", 0.15))
    yield Task("move_slider_right", door_moved, ("base__slide", -0.15))
    yield Task("open_drawer", door_moved, ("base__drawer", 0.12))
    yield Task("close_drawer", door_moved, ("base__drawer", -0.12))
    for color in COLORS:
        yield Task(f"lift_{color}_block_table", lifted, (f"block_{color}", 0.05, "base_link"))
        yield Task(f"lift_{color}_block_slider", lifted, (f"block_{color}", 0.03, "plank_link"))
        yield Task(f"lift_{color}_block_drawer", lifted, (f"block_{color}", 0.05, "drawer_link"))
    yield Task("place_in_slider", placed, ("plank_link",))
    yield Task("place_in_drawer", placed, ("drawer_link",))
    yield Task("stack_block", stacked)
    yield Task("unstack_block", unstacked)
    yield Task("turn_on_lightbulb", light_switched, ("lightbulb", 0, 1))
    yield Task("turn_off_lightbulb", light_switched, ("lightbulb", 1, 0))
    yield Task("turn_on_led", light_switched, ("led", 0, 1))
    yield Task("turn_off_led", light_switched, ("led", 1, 0))
    yield Task("push_into_drawer", pushed_into, ("base_link", "drawer_link"))


TASK_TABLE: dict[str, Task] = {task.name: task for task in _all_tasks()}
TASKS: tuple[str, ...] = tuple(TASK_TABLE)
"""The 34 names, in CALVIN's order."""


def check_task(name: object) -> str:
    """Return ``name`` if it is a task.

    Raises:
        ValueError: it is not; the message suggests the closest names.
    """
    return check_choice("task", name, TASKS, "rf_envs.TASKS lists the 34 names.")


def is_done(task: str, start: StateInfo, now: StateInfo) -> bool:
    """Whether ``task`` was fulfilled between the state infos ``start`` and ``now``."""
    return TASK_TABLE[check_task(task)].is_done(start, now)


def achieved(start: StateInfo, now: StateInfo) -> set[str]:
    """The names of all tasks fulfilled between the state infos ``start`` and ``now``."""
    return {name for name, task in TASK_TABLE.items() if task.is_done(start, now)}
