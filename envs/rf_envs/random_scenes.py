"""Layouts of the play table drawn at random, to learn from tables that are none of CALVIN's four.

Scenes A to D have a fixture each at two or three places in all: whoever learns from three of them can remember which
one it sees instead of looking where things are. A drawn layout has its fixtures anywhere that the table has room for
them, blocks of other sizes and other woods.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from rf_envs.benchmark.preconditions import push_range
from rf_envs.geometry import DOOR_HALF_WIDTH
from rf_envs.scenes import BLOCK_LENGTHS, PUSH_REACH, SCENES, Scene, layout_surfaces

PREFIX = "R"
SHELF_LENGTH = 0.52
LEFT_SHELF, RIGHT_SHELF = -0.36, -0.18
"""Left end (x, m) of CALVIN's shelf where it is on the left (A and D), and where it is on the right (B and C)."""
LIGHTS_APART = 0.16
"""Least distance in x of the LED's middle from the light bulb's."""
BUTTON_ROOM = (0.08, 0.13)
"""How far right and left of the button blocks begin to lie at the start of an episode."""
BLOCKS_EDGE = 0.35
"""Blocks begin within this x (m), as in CALVIN's scenes."""
ROOM, DRAWER_ROOM, PUSH_ROOM = 0.2, 0.085, 0.03
"""Least width (m) of where blocks lie, of its part before the drawer (in scene B it is 9 cm), and of where pushes to
the right and to the left begin."""
DOOR_ROOM = 0.01
"""Least distance in x (m) of the sliding door from the switch's handle."""
SWITCH_HALF_LENGTH = 0.06
ALIKE = {"button_x": 0.05, "drawer_x": 0.03}
"""A layout is like a known one if its shelf is on the same side and these are nearer to that one's (m)."""


def scene_named(name: str) -> Scene:
    """One of CALVIN's scenes by its letter, or a drawn one: R0, R1, ..."""
    if isinstance(name, str) and name in SCENES:
        return SCENES[name]
    return random_scene(layout_number(name))


def layout_number(name: str) -> int:
    """The number behind the R.

    Raises:
        ValueError: there is no such scene.
    """
    if not isinstance(name, str) or not re.fullmatch(PREFIX + r"(0|[1-9][0-9]*)", name):
        raise ValueError(f"Unknown scene {name!r}; give A, B, C or D, or R and a number for a layout drawn at random.")
    return int(name.removeprefix(PREFIX))


@functools.lru_cache(maxsize=64)
def random_scene(number: int) -> Scene:
    """The layout of that number: the same one on every machine, with room for all tasks, and none `ALIKE` A to D."""
    rng = np.random.default_rng([number, 0x7AB1E])
    while True:
        scene = _draw(number, rng)
        if _has_room(scene) and not any(_alike(scene, known) for known in SCENES.values()):
            return scene


def _draw(number: int, rng: np.random.Generator) -> Scene:
    on_the_left = bool(rng.random() < 0.5)
    if on_the_left:
        shelf = LEFT_SHELF + rng.uniform(-0.03, 0.03)
        switch = rng.uniform(0.28, 0.36)
        slide = shelf + 0.40 + rng.uniform(-0.01, 0.01)
    else:
        shelf = RIGHT_SHELF + rng.uniform(-0.02, 0.04)
        switch = rng.uniform(-0.37, -0.29)
        slide = shelf + 0.38 + rng.uniform(0.0, 0.02)
    button = rng.uniform(-0.32, 0.32)
    while abs(button - switch) < LIGHTS_APART:
        button = rng.uniform(-0.32, 0.32)
    drawer = rng.uniform(0.0, 0.21)
    sides = (button + BUTTON_ROOM[0], BLOCKS_EDGE), (-BLOCKS_EDGE, button - BUTTON_ROOM[1])
    colors = [str(color) for color in rng.permutation(["red", "blue", "pink"])]
    woods = tuple(f"drawn{rng.integers(10_000)}" for _ in range(2))
    return Scene(
        name=f"{PREFIX}{number}",
        block_order=(colors[0], colors[1], colors[2]),
        block_sizes=dict(zip(rng.permutation(colors).tolist(), BLOCK_LENGTHS, strict=True)),
        button_x=round(button, 4),
        switch_x=round(switch, 4),
        drawer_x=round(drawer, 4),
        slide_x=round(slide, 4),
        slide_max=round(rng.uniform(0.22, 0.28), 4),
        plank_x=(round(shelf, 4), round(shelf + SHELF_LENGTH, 4)),
        surfaces=layout_surfaces(
            max(sides, key=lambda side: _width(_before_drawer(side, drawer))),
            (shelf + 0.05, shelf + 0.21),
            (shelf + 0.32, shelf + 0.48),
        ),
        wood=(woods[0], woods[0] if rng.random() < 0.5 else woods[1]),
    )


def _has_room(scene: Scene) -> bool:
    """Whether blocks lie apart at the start, and there is a place to push them from: right, left, into the drawer."""
    table = _table_x(scene)
    pushes = [_common(table, push_range(scene, direction)) for direction in (-1, 1)]
    return (
        _width(table) > ROOM
        and _width(_before_drawer(table, scene.drawer_x)) > DRAWER_ROOM
        and min(map(_width, pushes)) > PUSH_ROOM
        and _door_to_switch(scene) > DOOR_ROOM
    )


def _door_to_switch(scene: Scene) -> float:
    """Least distance in x between the sliding door and the switch's handle beside it."""
    if scene.switch_x > 0:
        return scene.switch_x - SWITCH_HALF_LENGTH - (scene.slide_x + DOOR_HALF_WIDTH)
    return scene.slide_x - scene.slide_max - DOOR_HALF_WIDTH - (scene.switch_x + SWITCH_HALF_LENGTH)


def _table_x(scene: Scene) -> tuple[float, float]:
    (left, *_), (right, *_) = scene.surfaces["table"]
    return left, right


def _before_drawer(x: tuple[float, float], drawer: float) -> tuple[float, float]:
    """The part of an extent from which a block can be pushed into the drawer."""
    return _common(x, (drawer - PUSH_REACH, drawer + PUSH_REACH))


def _common(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return max(one[0], other[0]), min(one[1], other[1])


def _width(x: tuple[float, float]) -> float:
    return x[1] - x[0]


def _alike(scene: Scene, known: Scene) -> bool:
    same_side = (scene.switch_x > 0) == (known.switch_x > 0)
    return same_side and all(abs(getattr(scene, x) - getattr(known, x)) < near for x, near in ALIKE.items())
