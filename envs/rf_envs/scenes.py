"""Layouts of the play table as data: where the fixtures stand, how far they move, which block has which size.

Lengths are metres in the world frame: x to the right, y away from the robot, z up; the table's centre is the origin.
The numbers are CALVIN's (its scene files and tables, after the scaling by 0.8), so a `scene_obs` means the same in the
embedded table and in `calvin_env`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Point = tuple[float, float, float]
Surface = tuple[Point, Point]
"""Two opposite corners of the box from which a block's centre is drawn."""

BLOCK_LENGTHS = {"small": 0.04, "middle": 0.056, "big": 0.08}
"""Length of a block; width and height are `BLOCK_WIDTH` for all sizes."""
BLOCK_WIDTH = 0.04

ROBOT_BASE: Point = (-0.34, -0.46, 0.24)
NEUTRAL_JOINTS = (-1.21779206, 1.03987646, 2.11978261, -2.34205014, -0.87015947, 1.64119353, 0.55344866)
"""Arm joint angles (rad) at the start of an episode."""
MAX_FINGER_JOINT = 0.04
"""Joint position (m) of one open finger; the opening width is the sum of both."""

TABLE_TOP = 0.44
"""Height of the table top and of the shelf behind the sliding door."""
DRAWER_FLOOR = 0.341
DRAWER_MAX = 0.22
PUSH_REACH = 0.12
"""Blocks are pushed into the drawer from so far right and left of its middle (m)."""
BUTTON_MAX = 0.02
SWITCH_MAX = 0.088
SWITCH_AXIS: Point = (0.0, 0.5, 0.8660254)
"""Direction in which the switch moves as its joint grows: up along the slanted panel."""
FIXTURE_HALF_STROKE = 0.5
"""The button triggers and the switch turns over at this fraction of their range."""


@dataclass(frozen=True)
class Scene:
    """One layout of the play table."""

    name: str
    """Letter of the CALVIN scene, or R and a number, see `rf_envs.random_scenes`."""
    block_order: tuple[str, str, str]
    """Colours of the blocks in the order of their poses in `scene_obs`."""
    block_sizes: dict[str, str]
    """Colour to a key of `BLOCK_LENGTHS`."""
    button_x: float
    """Centre of the push button and of the LED above it."""
    switch_x: float
    """Centre of the switch and of the light bulb above it."""
    drawer_x: float
    """Centre of the drawer."""
    slide_x: float
    """Centre of the sliding door at joint position 0 (its right end); it moves towards -x."""
    slide_max: float
    """Largest joint position of the sliding door."""
    plank_x: tuple[float, float]
    """Extent of the shelf behind the sliding door."""
    surfaces: dict[str, Surface]
    """Where CALVIN draws a block's centre: `table`, `slider_left`, `slider_right`."""
    wood: tuple[str, str]
    """Wood of the table and of its moving parts, keys of the texture generator."""

    def block_length(self, color: str) -> float:
        """Length of the block of that colour (m)."""
        return BLOCK_LENGTHS[self.block_sizes[color]]

    @property
    def neutral_scene_obs(self) -> tuple[float, ...]:
        """A `scene_obs` (24): all shut and off, the blocks side by side in the middle of the table's surface."""
        (x0, y0, z), (x1, y1, _) = self.surfaces["table"]
        places = (x0 + 0.05, (x0 + x1) / 2, x1 - 0.05)
        return (0.0,) * 6 + tuple(number for x in places for number in (x, (y0 + y1) / 2, z, 0.0, 0.0, math.pi / 2))

    @property
    def block_names(self) -> tuple[str, ...]:
        """CALVIN's names of the blocks (`block_red`, ...), in the order of `scene_obs`."""
        return tuple(f"block_{color}" for color in self.block_order)


def layout_surfaces(
    table_x: tuple[float, float], left_x: tuple[float, float], right_x: tuple[float, float]
) -> dict[str, Surface]:
    """The surfaces of a layout, from their extents in x: the table's, and the shelf's left and right part."""
    on_table, on_shelf = (-0.15, -0.03), (0.05, 0.12)

    def surface(x: tuple[float, float], y: tuple[float, float]) -> Surface:
        return (x[0], y[0], 0.46), (x[1], y[1], 0.46)

    return {
        "table": surface(table_x, on_table),
        "slider_left": surface(left_x, on_shelf),
        "slider_right": surface(right_x, on_shelf),
    }


SCENES = {
    "A": Scene(
        name="A",
        block_order=("pink", "blue", "red"),
        block_sizes={"pink": "small", "blue": "big", "red": "middle"},
        button_x=-0.28,
        switch_x=0.30,
        drawer_x=0.10,
        slide_x=0.04,
        slide_max=0.28,
        plank_x=(-0.36, 0.16),
        surfaces=layout_surfaces((-0.20, 0.35), (-0.32, -0.16), (-0.05, 0.13)),
        wood=("mahogany", "mahogany"),
    ),
    "B": Scene(
        name="B",
        block_order=("red", "blue", "pink"),
        block_sizes={"red": "small", "blue": "big", "pink": "middle"},
        button_x=0.28,
        switch_x=-0.32,
        drawer_x=0.18,
        slide_x=0.228,
        slide_max=0.304,
        plank_x=(-0.18, 0.34),
        surfaces=layout_surfaces((-0.35, 0.15), (-0.12, 0.06), (0.15, 0.33)),
        wood=("birch", "birch"),
    ),
    "C": Scene(
        name="C",
        block_order=("blue", "red", "pink"),
        block_sizes={"blue": "small", "red": "big", "pink": "middle"},
        button_x=-0.12,
        switch_x=-0.32,
        drawer_x=0.10,
        slide_x=0.20,
        slide_max=0.24,
        plank_x=(-0.18, 0.34),
        surfaces=layout_surfaces((0.0, 0.35), (-0.12, 0.06), (0.15, 0.30)),
        wood=("pine", "mahogany"),
    ),
    "D": Scene(
        name="D",
        block_order=("red", "blue", "pink"),
        block_sizes={"red": "middle", "blue": "small", "pink": "big"},
        button_x=-0.12,
        switch_x=0.30,
        drawer_x=0.18,
        slide_x=0.04,
        slide_max=0.28,
        plank_x=(-0.36, 0.16),
        surfaces=layout_surfaces((0.0, 0.35), (-0.32, -0.16), (-0.05, 0.13)),
        wood=("oak", "oak"),
    ),
}
