"""The instructions of evaluations: one for each task, new to a policy but made of words that it was taught."""

from __future__ import annotations

from rf_envs.benchmark.tasks import COLORS
from rf_envs.language.instructions.words import OPPOSITE

EVALUATION: dict[str, str] = {
    **{f"rotate_{c}_block_{s}": f"rotate the {c} cube {s}" for c in COLORS for s in OPPOSITE},
    **{f"push_{c}_block_{s}": f"push the {c} object towards the {s}" for c in COLORS for s in OPPOSITE},
    **{f"lift_{c}_block_table": f"lift the {c} cube up from the table" for c in COLORS},
    **{f"lift_{c}_block_slider": f"pick up the {c} block on the shelf" for c in COLORS},
    **{f"lift_{c}_block_drawer": f"pick the {c} cube out of the drawer" for c in COLORS},
    **{f"move_slider_{s}": f"slide the door to the {s}" for s in OPPOSITE},
    "open_drawer": "pull the drawer out",
    "close_drawer": "push the drawer closed",
    "place_in_slider": "place the block you hold in the cabinet",
    "place_in_drawer": "put the held block in the drawer",
    "stack_block": "put the block you hold on top of another block",
    "unstack_block": "take the block on top off",
    "turn_on_lightbulb": "switch the yellow lamp on",
    "turn_off_lightbulb": "switch the yellow lamp off",
    "turn_on_led": "press the button and turn on the green light",
    "turn_off_led": "press the button and turn off the green light",
    "push_into_drawer": "push a block over the edge into the drawer",
}
"""Task to the instruction it is asked in where nothing else is said; never one of its training instructions."""
