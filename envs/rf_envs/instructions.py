"""What people say for each task.

`TRAINING` holds many wordings per task for demonstrations, `EVALUATION` one per task that is in none of them
but uses only their words. All were written for this project.
"""

from __future__ import annotations

from rf_envs.tasks import COLORS, TASKS

OPPOSITE = {"left": "right", "right": "left"}

# {c} is the color, {s} the side
_ROTATE = (
    "rotate the {c} block to the {s}",
    "turn the {c} block {s}",
    "grab the {c} block and turn it {s}",
    "spin the {c} cube towards the {s}",
    "twist the {c} block {s}",
    "give the {c} block a turn to the {s}",
    "the {c} block should be rotated {s}",
    "{s} turn for the {c} block please",
    "hold the {c} block and rotate it {s}",
    "please twist the {c} cube to the {s}",
    "make the {c} object rotate {s}",
    "turn the {c} one round to the {s}",
    "rotate {c} {s}",
    "pick the {c} block and spin it {s}",
)
_PUSH = (
    "push the {c} block to the {s}",
    "push the {c} cube {s}",
    "slide the {c} block to the {s}",
    "move the {c} block {s}",
    "shove the {c} block towards the {s}",
    "shift the {c} object to the {s}",
    "the {c} block goes to the {s}",
    "to the {s} with the {c} block",
    "nudge the {c} block {s}",
    "make the {c} cube slide {s}",
    "please move the {c} block over to the {s}",
    "bring the {c} one further {s}",
    "press against the {c} block and move it {s}",
    "sweep the {c} block along the table to the {s}",
    "push {c} {s}",
)
_LIFT_TABLE = (
    "lift the {c} block from the table",
    "pick up the {c} block",
    "lift up the {c} block",
    "take the {c} block off the table",
    "raise the {c} cube",
    "grasp the {c} block and raise it",
    "grab the {c} cube on the table",
    "the {c} block should be picked up",
    "hold the {c} block up in the air",
    "please lift the {c} object",
    "get hold of the {c} block and lift it",
    "bring the {c} block up from the table",
    "lift {c}",
    "pick the {c} one up from the table",
)
_LIFT_SLIDER = (
    "lift the {c} block from the shelf",
    "take the {c} block out of the cabinet",
    "pick up the {c} block behind the sliding door",
    "get the {c} cube out of the cabinet",
    "grab the {c} block in the cabinet",
    "from the shelf lift the {c} block",
    "reach into the cabinet and take the {c} block",
    "raise the {c} block that is on the shelf",
    "the {c} cube on the shelf should be lifted",
    "fetch the {c} block from the sliding cabinet",
    "please take the {c} object off the shelf",
    "pick the {c} one up from the shelf",
    "grasp the {c} block on the shelf and lift it",
)
_LIFT_DRAWER = (
    "lift the {c} block from the drawer",
    "get the {c} block out of the drawer",
    "pick up the {c} block in the drawer",
    "grab the {c} cube inside the drawer",
    "out of the drawer with the {c} block",
    "reach into the drawer and lift the {c} block",
    "fetch the {c} block from the drawer",
    "raise the {c} block that lies in the drawer",
    "the {c} cube in the drawer should be lifted",
    "please take the {c} object out of the drawer",
    "pick the {c} one up from the drawer",
    "grasp the {c} block in the drawer and raise it",
)
_SLIDER = (
    "move the sliding door to the {s}",
    "slide the door {s}",
    "push the door to the {s}",
    "shift the sliding door {s}",
    "take the door handle and slide it {s}",
    "the door should go to the {s}",
    "open the {o} side of the cabinet",
    "move the slider {s}",
    "close the {s} side of the cabinet with the door",
    "{s} with the sliding door",
    "make the cabinet door slide {s}",
    "please slide the cabinet door to the {s}",
    "bring the sliding door over to the {s} end",
    "sweep the door of the cabinet {s}",
)
_PLAIN: dict[str, tuple[str, ...]] = {
    "open_drawer": (
        "open the drawer",
        "pull the drawer open",
        "pull out the drawer",
        "pull the drawer handle towards you",
        "grab the drawer handle and pull",
        "the drawer should be open",
        "slide the drawer out",
        "please open the drawer under the table",
        "take the handle and draw the drawer out",
        "get the drawer open",
        "make the drawer come out",
        "move the drawer out of the table",
        "let me see what is in the drawer",
    ),
    "close_drawer": (
        "close the drawer",
        "push the drawer shut",
        "push the drawer in",
        "shut the drawer",
        "slide the drawer back in",
        "the drawer should be closed",
        "push the drawer handle away from you",
        "please close the drawer under the table",
        "get the drawer closed",
        "press against the drawer until it is shut",
        "move the drawer into the table",
        "make the drawer go back in",
        "bring the drawer back under the table",
    ),
    "place_in_slider": (
        "put the block in the cabinet",
        "place the block on the shelf",
        "lay the block you hold on the shelf",
        "put what you hold into the cabinet",
        "set the object down in the sliding cabinet",
        "the block goes on the shelf",
        "drop the block behind the sliding door",
        "please place the object in the cabinet",
        "move the held block to the shelf and let go",
        "leave the block in the cabinet",
        "release the block on the shelf",
        "into the cabinet with the block",
    ),
    "place_in_drawer": (
        "put the block in the drawer",
        "place the block inside the drawer",
        "lay the block you hold in the drawer",
        "put what you hold into the drawer",
        "set the object down in the drawer",
        "the block goes in the drawer",
        "drop the block in the drawer",
        "please place the object in the drawer",
        "move the held block to the drawer and let go",
        "leave the block in the drawer",
        "release the block over the drawer",
        "into the drawer with the block",
    ),
    "stack_block": (
        "stack the block on another block",
        "put the block on top of another one",
        "place the held block on top of a block",
        "build a tower",
        "make a tower of two blocks",
        "set the block you hold on another block",
        "stack the blocks",
        "the block goes on top of another block",
        "please stack what you hold",
        "lay one block on the other",
        "put one block on top of the other",
        "let go of the block on top of another cube",
    ),
    "unstack_block": (
        "unstack the blocks",
        "take the top block off",
        "remove the block on top",
        "take the tower apart",
        "lift the block off the other one",
        "get the upper block off the tower",
        "the tower should be taken apart",
        "please take the blocks apart",
        "pick the top block off the stack",
        "remove the upper block from the lower one",
        "move the block on top away",
        "grab the top of the stack and take it off",
    ),
    "turn_on_lightbulb": (
        "turn on the light bulb",
        "turn the bulb on",
        "switch on the yellow light",
        "push the switch up",
        "move the switch up to light the bulb",
        "slide the switch upwards",
        "make the yellow lamp light up",
        "the bulb should be on",
        "please switch the light bulb on",
        "use the switch and light up the yellow lamp",
        "light the bulb",
        "flip the switch up",
        "yellow light on",
    ),
    "turn_off_lightbulb": (
        "turn off the light bulb",
        "turn the bulb off",
        "switch off the yellow light",
        "push the switch down",
        "move the switch down to darken the bulb",
        "slide the switch downwards",
        "make the yellow lamp go dark",
        "the bulb should be off",
        "please switch the light bulb off",
        "use the switch and put out the yellow lamp",
        "darken the bulb",
        "flip the switch down",
        "yellow light off",
    ),
    "turn_on_led": (
        "turn on the led",
        "turn the green light on",
        "switch on the led",
        "press the button so that the green light goes on",
        "make the green lamp light up",
        "push the button and light the led",
        "the green light should be on",
        "hit the button until the led is on",
        "please switch the green lamp on",
        "light up the led with the button",
        "press down the button to light the green lamp",
        "get the led to light up",
        "green light on",
    ),
    "turn_off_led": (
        "turn off the led",
        "turn the green light off",
        "switch off the led",
        "press the button so that the green light goes off",
        "make the green lamp go dark",
        "push the button and darken the led",
        "the green light should be off",
        "hit the button until the led is off",
        "please switch the green lamp off",
        "put out the led with the button",
        "press down the button to darken the green lamp",
        "get the led to go dark",
        "green light off",
    ),
    "push_into_drawer": (
        "push the block into the drawer",
        "slide a block into the drawer",
        "shove the block over the edge into the drawer",
        "make the block fall into the drawer",
        "sweep the block into the open drawer",
        "push an object off the table into the drawer",
        "the block should fall into the drawer",
        "move the block over the table edge into the drawer",
        "let the block drop into the drawer with a push",
        "nudge a block until it drops into the drawer",
        "please slide the object into the drawer",
        "shift the block towards you until it falls in the drawer",
    ),
}


def _training(task: str) -> tuple[str, ...]:
    words = task.split("_")
    color = next((word for word in words if word in COLORS), "")
    side = words[-1]
    families = {
        "rotate": _ROTATE,
        "push": _PUSH,
        "move": _SLIDER,
        "lift": {"table": _LIFT_TABLE, "slider": _LIFT_SLIDER, "drawer": _LIFT_DRAWER}.get(side, ()),
    }
    if task in _PLAIN:
        return _PLAIN[task]
    return tuple(text.format(c=color, s=side, o=OPPOSITE.get(side)) for text in families[words[0]])


TRAINING: dict[str, tuple[str, ...]] = {task: _training(task) for task in TASKS}
"""Task to its wordings for demonstrations."""

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
"""Task to the wording it is asked in where nothing else is said; never one of its training wordings."""

_TASK_OF = {text: task for task in TASKS for text in (*TRAINING[task], EVALUATION[task])}


def task_of(instruction: str) -> str | None:
    """The task that a known wording asks for, whatever its case and its spaces; None for any other text."""
    return _TASK_OF.get(" ".join(instruction.lower().split()))
