"""Skills for what is fixed to the table: drawer, sliding door, button and switch.

Positions are of the tool centre point, in metres and in the world frame; the fixtures move with their joints.
"""

from __future__ import annotations

import numpy as np

from rf_envs.expert.motions import DOWN, FINGER, MAX_LEAN, TIP, TRAVEL, Command, approach, shove
from rf_envs.expert.view import Vector, View
from rf_envs.rotations import wrap_angle
from rf_envs.scenes import SWITCH_AXIS

AWAY, TOWARDS = np.array([0.0, 1.0, 0.0]), np.array([0.0, -1.0, 0.0])
"""Away from the robot and towards it."""
HOOK_HEIGHT = 0.362
"""The bar of the drawer reaches up to 0.38, so the finger tips overlap it by most of its height."""
BUTTON_TOP = 0.487


def open_drawer(view: View) -> Command:
    """Hook the fingers behind the bar from above and pull."""
    bar = _drawer_bar(view, -0.228)
    return Command(shove(view.tcp, bar, TOWARDS, 0.018, (0, 0, TRAVEL - bar[2]), 0.015))


def unhook(view: View) -> Command | None:
    """Straight up from between the drawer and its bar, which would come along sideways; None elsewhere."""
    bar = _drawer_bar(view, -0.228)
    x, y, _ = np.abs(view.tcp - bar)
    if x < 0.09 and y < 0.03 and view.tcp[2] < HOOK_HEIGHT + 0.08:
        return Command(view.tcp + [0, 0, 0.1], lean=wrap_angle(DOWN[:2] - view.euler[:2]))
    return None


def close_drawer(view: View) -> Command:
    """Push the bar from the front."""
    bar = _drawer_bar(view, -0.271)
    return Command(shove(view.tcp, bar, AWAY, 0.035, (0, 0, TRAVEL - bar[2]), 0.02))


def _drawer_bar(view: View, y: float) -> Vector:
    # any place along the bar does: take the nearest one
    x = np.clip(view.tcp[0], view.scene.drawer_x - 0.05, view.scene.drawer_x + 0.05)
    return np.array([x, y - view.drawer, HOOK_HEIGHT])


def move_slider(view: View, direction: Vector) -> Command:
    """Put the fingers beside the door's upright handle and sweep it along."""
    handle = np.array([view.door_x, 0.008, 0.545])
    return Command(shove(view.tcp, handle - (0.02 + FINGER) * direction, direction, 0.035, (0, -0.06, 0.06), 0.018))


def press_button(view: View, goal: bool) -> Command:
    """Press the button down; where it is down already and the LED still wrong, let it come up first."""
    top = np.array([view.scene.button_x, -0.12, BUTTON_TOP + TIP])
    if view.button > 0.008 and view.led != goal:
        return Command(top + [0, 0, 0.04])
    pressed = top - [0, 0, 0.03]
    return Command(approach(view.tcp, pressed, (0, 0, TRAVEL - pressed[2]), 0.015))


def turn_switch(view: View, goal: bool) -> Command:
    """Push the bar along its slanted panel: up from the front for on, down from behind its top for off."""
    slope = np.array(SWITCH_AXIS)
    bar = np.array([0.0, 0.018, 0.529]) + slope * view.switch
    # any place along the bar does, and its near part is easier to reach
    near, far = sorted(view.scene.switch_x - np.sign(view.scene.switch_x) * np.array([0.035, 0.005]))
    bar[0] = np.clip(view.tcp[0], near, far)
    if goal:
        way = shove(view.tcp, bar + [0, -0.026, -0.006], (0, 0.8, 0.6), 0.03, (0, -0.05, 0.05), 0.014)
    else:
        behind = bar + 0.016 * slope + [0, 0.009, -0.005 + TIP]
        way = shove(view.tcp, behind, (0, -0.4, -0.917), 0.03, (0, -0.02, 0.04), 0.014)
    # with the fingers straight down the arm would end short of the far corner
    return Command(way, lean=np.array([MAX_LEAN if view.scene.switch_x > 0 else 0.0, 0.0]))
