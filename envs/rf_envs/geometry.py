"""Where the parts of the table are, from a scene's numbers and the joints in `scene_info`.

All positions are (3,) arrays in the world frame, in metres.
"""

from __future__ import annotations

import numpy as np

from rf_envs.benchmark.tasks import StateInfo
from rf_envs.scenes import DRAWER_FLOOR, SWITCH_AXIS, Scene

DOOR_HALF_WIDTH = 0.14
SHELF_FRONT = 0.03
"""y from which a block is on the shelf."""
DRAWER_HALF_WIDTH = 0.177
DRAWER_BACK = -0.18
"""y of the table's front edge: what is in the drawer and behind it is out of sight and out of reach."""
DRAWER_FRONT = -0.158
"""y of the inside of the drawer's front when it is closed."""
FINGER_ROOM = 0.056
"""From the middle of the gripper to the outside of an open finger (m)."""
GRASP_SHIFT = 0.012
"""How far off its middle (m) a block can still be grasped well."""
HAND_HALF_WIDTH = 0.1
HAND_DEPTH = 0.1
"""y up to which the leaning hand, which is wider than the fingers, stays in front of the panel."""
PANEL_SHIFT = 0.05
"""The static camera looks past the door at a slant: a shelf block appears this much further right (x)."""


def joint_positions(info: StateInfo) -> np.ndarray:
    """(4,): the joints of slider, drawer, button and switch (m), as at the head of a `scene_obs`."""
    state = info["scene_info"]
    return np.array(
        [
            state["doors"]["base__slide"]["current_state"],
            state["doors"]["base__drawer"]["current_state"],
            state["buttons"]["base__button"]["joint_state"],
            state["switches"]["base__switch"]["joint_state"],
        ]
    )


def fixture_positions(scene: Scene, joints: np.ndarray) -> dict[str, np.ndarray]:
    """Centres of the things one acts on or looks at, by the name that captions give them.

    Args:
        scene: the scene.
        joints: (4,) as returned by `joint_positions`.
    """
    slider, drawer, button, switch = joints
    return {
        "drawer handle": np.array([scene.drawer_x, -0.249 - drawer, 0.36]),
        "sliding door handle": np.array([scene.slide_x - slider, 0.0155, 0.5696]),
        "switch": np.array([scene.switch_x, 0.0184, 0.5287]) + switch * np.array(SWITCH_AXIS),
        "button": np.array([scene.button_x, -0.12, 0.484 - button]),
        "lightbulb": np.array([scene.switch_x, 0.16, 0.676]),
        "led": np.array([scene.button_x, 0.16, 0.656]),
    }


def _door_x(scene: Scene, info: StateInfo) -> float:
    return scene.slide_x - info["scene_info"]["doors"]["base__slide"]["current_state"]


def is_reachable_on_shelf(scene: Scene, info: StateInfo, position: np.ndarray) -> bool:
    """Whether door and panel leave a block on the shelf free for the fingers, and the hand behind them."""
    x, y, _ = position
    gap = min(abs(x - _door_x(scene, info)) - DOOR_HALF_WIDTH, x - scene.plank_x[0], scene.plank_x[1] - x)
    return bool(gap > FINGER_ROOM - GRASP_SHIFT and (gap > HAND_HALF_WIDTH or y < HAND_DEPTH))


def place_of(scene: Scene, position: np.ndarray) -> str:
    """Where a block's centre is: ``table``, ``slider_left``, ``slider_right``, ``drawer`` or ``air``."""
    x, y, z = position
    if z < DRAWER_FLOOR + 0.06:
        return "drawer" if z > DRAWER_FLOOR and y < DRAWER_BACK + 0.2 else "air"
    if z > 0.50:
        return "air"
    if y > SHELF_FRONT:
        return "slider_left" if x < sum(scene.plank_x) / 2 else "slider_right"
    return "table"


def is_visible(scene: Scene, info: StateInfo, position: np.ndarray) -> bool:
    """Whether the static camera sees a block there: not behind the door, not inside the closed drawer."""
    where = place_of(scene, position)
    if where == "drawer":
        return bool(position[1] < DRAWER_BACK - 0.015)
    if where in ("slider_left", "slider_right"):
        return bool(abs(position[0] + PANEL_SHIFT - _door_x(scene, info)) > DOOR_HALF_WIDTH)
    return True
