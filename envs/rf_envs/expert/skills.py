"""The table from CALVIN's task names to skills: functions from the measured state to a command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from rf_envs.benchmark.tasks import COLORS
from rf_envs.expert import blocks, fixtures, grasping
from rf_envs.expert.motions import Command
from rf_envs.expert.view import View

Skill = Callable[[View], Command]


def _with_free_hand(skill: Skill, held: str | None = None, pushed: str | None = None, hooked: bool = False) -> Skill:
    """The skill, after letting go of what an earlier task left in or before the hand.

    Args:
        skill: what to do then.
        held: the block that may stay between the fingers.
        pushed: the block that may stay before them.
        hooked: whether the hand may stay behind the drawer's bar, because the skill pulls at it or leaves it itself.
    """

    def free_handed(view: View) -> Command:
        return (
            grasping.let_go(view, held)
            or grasping.step_back(view, pushed)
            or (None if hooked else fixtures.unhook(view))
            or skill(view)
        )

    return free_handed


SIDES = {"left": np.array([-1.0, 0.0, 0.0]), "right": np.array([1.0, 0.0, 0.0])}

_FREE_HANDED: dict[str, Skill] = {
    "open_drawer": fixtures.open_drawer,
    "close_drawer": fixtures.close_drawer,
    **{f"move_slider_{side}": partial(fixtures.move_slider, direction=SIDES[side]) for side in SIDES},
    "turn_on_led": partial(fixtures.press_button, goal=True),
    "turn_off_led": partial(fixtures.press_button, goal=False),
    "turn_on_lightbulb": partial(fixtures.turn_switch, goal=True),
    "turn_off_lightbulb": partial(fixtures.turn_switch, goal=False),
    **{
        f"lift_{color}_block_{place}": partial(blocks.lift, color=color)
        for color in COLORS
        for place in ("table", "slider", "drawer")
    },
    **{
        f"push_{color}_block_{side}": partial(blocks.push, color=color, direction=SIDES[side])
        for color in COLORS
        for side in SIDES
    },
    **{
        f"rotate_{color}_block_{side}": partial(blocks.rotate, color=color, direction=turn)
        for color in COLORS
        for side, turn in (("left", 1.0), ("right", -1.0))
    },
}
SKILLS: dict[str, Skill] = {
    **{
        task: _with_free_hand(
            skill,
            held=task.split("_")[1] if task.startswith(("lift", "rotate")) else None,
            pushed=task.split("_")[1] if task.startswith("push") else None,
            hooked=task.startswith(("open", "lift")),
        )
        for task, skill in _FREE_HANDED.items()
    },
    "push_into_drawer": lambda view: grasping.let_go(view) or blocks.push_into_drawer(view),
    "place_in_drawer": blocks.place_in_drawer,
    "place_in_slider": blocks.place_in_slider,
    "stack_block": blocks.stack,
    "unstack_block": blocks.unstack,
}
"""CALVIN's name of a task to the skill that solves it."""
