"""Random states of the table: starts that allow a given task.

A start is proposed from the scene's numbers, put into the simulator and accepted if `possible` says so: the
rules live there, and a proposal only has to be a good guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rf_envs.benchmark.chains import NEUTRAL_ROBOT_OBS, YAW_RANGE
from rf_envs.benchmark.preconditions import possible, push_range
from rf_envs.benchmark.tasks import COLORS, StateInfo, blocks
from rf_envs.geometry import DRAWER_BACK, DRAWER_FRONT, DRAWER_HALF_WIDTH
from rf_envs.rotations import wrap_angle
from rf_envs.scenes import BLOCK_WIDTH, DRAWER_FLOOR, DRAWER_MAX, PUSH_REACH, SWITCH_MAX, TABLE_TOP, Scene
from rf_envs.simulators.base import Simulator

MAX_TRIES = 200
SPACING = 0.09
"""Smallest distance of two blocks on one surface (m): the gripper's fingers fit between."""
SETTLE_STEPS = 3
"""Steps to let blocks come to rest, or a hand close on its block, before the episode begins."""
SHELF_Y = (0.046, 0.157)
"""The room for a block on the shelf, between the door and the back wall."""
HALF = BLOCK_WIDTH / 2
OVERLAP = 1e-4
"""How deep things are put into what they rest on (m): boxes that merely meet count as not touching."""
HELD_WIDTH = BLOCK_WIDTH - 2 * OVERLAP
"""Opening width of a gripper that holds a block (m)."""


class NoStartError(ValueError):
    """No start that allows the task was found."""


@dataclass(frozen=True)
class Layout:
    """What a task needs of its start; what is not said is drawn freely."""

    slide: tuple[float, float]
    drawer: tuple[float, float]
    lights: Mapping[str, int]
    places: Mapping[str, str]
    """Color to ``table``, ``slider_left``, ``slider_right``, ``drawer``, ``held``, or the color below it."""
    table_x: tuple[float, float]
    """Where along the table the task's own block may stand."""
    color: str | None
    """The color of the task's own block."""


def draw_start(
    task: str,
    scene: Scene,
    simulator: Simulator,
    rng: np.random.Generator,
    robot_obs: np.ndarray | None = None,
) -> StateInfo:
    """Put the simulator into a random state that allows ``task``.

    Args:
        task: one of the 34 names.
        scene: the simulator's scene.
        simulator: is reset.
        rng: the source of all randomness.
        robot_obs: (15,) where the robot is; None for CALVIN's neutral pose.

    Returns:
        The state info of the start.

    Raises:
        NoStartError: no start was found, which only a ``robot_obs`` that is in the way can cause.
    """
    robot = np.array(NEUTRAL_ROBOT_OBS if robot_obs is None else robot_obs, dtype=np.float64)
    if robot_obs is not None:  # the pose follows from the joints, whatever was given with them
        simulator.reset(robot)
        robot[:6] = simulator.robot_obs[:6]
    for _ in range(MAX_TRIES):
        layout = _layout(task, scene, rng)
        scene_obs = _place(layout, scene, rng, robot)
        if scene_obs is None:
            continue
        holds = "held" in layout.places.values()
        start = robot.copy()
        if holds:
            start[6], start[14] = HELD_WIDTH, -1.0
        simulator.reset(start, scene_obs)
        for _ in range(SETTLE_STEPS):
            simulator.step(np.array([0.0] * 6 + [start[14]]))
        info = simulator.info()
        if possible(task, info, scene):
            return info
    raise NoStartError(
        f"Found no start that allows the task {task!r} in scene {scene.name} within {MAX_TRIES} tries; give "
        "a scene_obs, or a robot_obs whose gripper is clear of the table."
    )


def restore(simulator: Simulator, robot_obs: np.ndarray | None, scene_obs: np.ndarray) -> StateInfo:
    """Put the simulator into a given state and return its info.

    A block that the numbers leave a hair above its support first comes to rest: tasks ask what it stood on.
    """
    simulator.reset(robot_obs, scene_obs)
    for _ in range(SETTLE_STEPS):
        info = simulator.info()
        if all(block["contacts"] for block in blocks(info).values()):
            break
        simulator.step(np.array([0.0] * 6 + [simulator.robot_obs[14]]))
    return simulator.info()


def _layout(task: str, scene: Scene, rng: np.random.Generator) -> Layout:
    """What ``task`` needs, with its own choices (which block, which side) already drawn."""
    slide, drawer = (0.0, scene.slide_max), (0.0, DRAWER_MAX)
    lights: dict[str, int] = {}
    places: dict[str, str] = {}
    table_x = (scene.surfaces["table"][0][0], scene.surfaces["table"][1][0])
    first, second, _ = rng.permutation(COLORS).tolist()
    color = next((word for word in task.split("_") if word in COLORS), None)

    if task.startswith(("rotate", "push", "lift")):
        color = color or first
        places[color] = "table"
    if task.endswith("_drawer") and task not in ("open_drawer", "close_drawer"):
        drawer = (0.16, DRAWER_MAX)
    if task.endswith("_slider") and color:
        left = rng.random() < 0.5
        places[color] = "slider_left" if left else "slider_right"
        # the door must stand on the other side
        slide = (0.0, 0.03) if left else (scene.slide_max - 0.03, scene.slide_max)
    elif task.startswith("lift") and task.endswith("_drawer"):
        places[str(color)] = "drawer"
    elif task.startswith("place"):
        places[first] = "held"
    elif task == "stack_block":
        places |= {first: "held", second: "table"}
    elif task == "unstack_block":
        places |= {first: second, second: "table"}
    elif task == "push_into_drawer":
        table_x = _overlap(table_x, (scene.drawer_x - PUSH_REACH, scene.drawer_x + PUSH_REACH))
    elif task.startswith("push"):
        table_x = _overlap(table_x, push_range(scene, 1 if task.endswith("right") else -1))
    elif task.startswith("turn"):
        _, switch, light = task.split("_")
        lights[light] = int(switch == "off")
    elif task == "move_slider_left":
        slide = (0.0, scene.slide_max - 0.165)
    elif task == "move_slider_right":
        slide = (0.165, scene.slide_max)
    elif task == "open_drawer":
        drawer = (0.0, DRAWER_MAX - 0.135)
    elif task == "close_drawer":
        drawer = (0.135, DRAWER_MAX)
    return Layout(slide, drawer, lights, places, table_x, color)


def _place(layout: Layout, scene: Scene, rng: np.random.Generator, robot_obs: np.ndarray) -> np.ndarray | None:
    """A scene_obs (24,) of the layout, or None if the blocks came too close to one another."""
    scene_obs = np.zeros(24)
    scene_obs[0] = draw_joint(rng, layout.slide, scene.slide_max)
    drawer = scene_obs[1] = draw_joint(rng, layout.drawer, DRAWER_MAX)
    bulb = layout.lights.get("lightbulb", int(rng.integers(2)))
    scene_obs[3], scene_obs[4] = bulb * SWITCH_MAX, bulb
    scene_obs[5] = layout.lights.get("led", int(rng.integers(2)))

    poses: dict[str, np.ndarray] = {}
    places = dict(layout.places)
    for color in COLORS:
        places.setdefault(color, _free_place(rng, drawer))
    # a block on another comes after the one below
    for color in sorted(COLORS, key=lambda color: places[color] in COLORS):
        place, yaw = places[color], rng.uniform(*YAW_RANGE)
        if place == "held":
            poses[color] = held_pose(robot_obs[:3], robot_obs[3:6])
        elif place in COLORS:
            poses[color] = on_top_of(poses[place], yaw, rng)
        else:
            x_range = layout.table_x if color == layout.color and place == "table" else None
            poses[color] = on_surface(scene, place, color, yaw, drawer, rng, x_range)
    if not are_apart([poses[color] for color in COLORS if places[color] not in (*COLORS, "held")]):
        return None
    return write_poses(scene, scene_obs, poses)


def _free_place(rng: np.random.Generator, drawer: float) -> str:
    if drawer > 0.16 and rng.random() < 0.1:
        return "drawer"
    return str(rng.choice(["table", "table", "slider_left", "slider_right"]))


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return max(one[0], other[0]), min(one[1], other[1])


def draw_joint(rng: np.random.Generator, allowed: tuple[float, float], largest: float) -> float:
    """A joint position within ``allowed``, half of the time at an end of the joint if that is allowed."""
    ends = [end for end in (0.0, largest) if allowed[0] <= end <= allowed[1]]
    if ends and rng.random() < 0.5:
        return float(rng.choice(ends))
    return float(rng.uniform(*allowed))


def on_surface(
    scene: Scene,
    place: str,
    color: str,
    yaw: float,
    drawer: float,
    rng: np.random.Generator,
    x_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """A random pose (6,) of a block on the table, on a half of the shelf or in the drawer."""
    reach = scene.block_length(color) / 2 * abs(np.sin(yaw)) + HALF * abs(np.cos(yaw))
    if place == "drawer":
        x = scene.drawer_x + rng.uniform(-1, 1) * (DRAWER_HALF_WIDTH - 0.05)
        y = rng.uniform(DRAWER_FRONT - drawer + reach + 0.005, DRAWER_BACK - reach)
        return np.array([x, y, DRAWER_FLOOR + HALF - OVERLAP, 0.0, 0.0, yaw])
    (x0, y0, _), (x1, y1, _) = scene.surfaces[place]
    if place != "table":
        y0, y1 = _overlap((y0, y1), (SHELF_Y[0] + reach, SHELF_Y[1] - reach))
    x = rng.uniform(*(x_range or (x0, x1)))
    return np.array([x, rng.uniform(y0, max(y0, y1)), TABLE_TOP + HALF - OVERLAP, 0.0, 0.0, yaw])


def on_top_of(below: np.ndarray, yaw: float, rng: np.random.Generator) -> np.ndarray:
    """A pose (6,) on top of a block, roughly centred."""
    x, y = below[:2] + rng.uniform(-0.005, 0.005, 2)
    return np.array([x, y, below[2] + BLOCK_WIDTH - OVERLAP, 0.0, 0.0, yaw])


def held_pose(position: np.ndarray, euler: np.ndarray) -> np.ndarray:
    """The pose (6,) of a block held by a gripper at a tcp pose, its long side along the fingers."""
    # the gripper points down: half a turn about its own x axis makes the block stand upright
    return np.array([*position, wrap_angle(euler[0] + np.pi), *euler[1:]])


def are_apart(poses: list[np.ndarray], spacing: float = SPACING) -> bool:
    """Whether blocks at those poses leave room for the gripper between them."""
    return all(
        np.linalg.norm(one[:2] - other[:2]) >= spacing
        for index, one in enumerate(poses)
        for other in poses[:index]
        if abs(one[2] - other[2]) < HALF
    )


def write_poses(scene: Scene, scene_obs: np.ndarray, poses: Mapping[str, np.ndarray]) -> np.ndarray:
    """``scene_obs`` with the blocks' poses in the scene's order."""
    for index, color in enumerate(scene.block_order):
        scene_obs[6 + 6 * index : 12 + 6 * index] = poses[color]
    return scene_obs
