"""The instructions that `describe` fills in."""

from __future__ import annotations

NUMBERS = ("none", "one", "two", "three")
PLACES = {
    "table": "on the table",
    "slider_left": "on the left of the shelf",
    "slider_right": "on the right of the shelf",
    "drawer": "in the drawer",
    "hand": "in the gripper",
}
# {c} is a color, {s} a side
CAPTIONS: dict[str, tuple[str, ...]] = {
    "block": (
        "the {c} block is {place}",
        "there is a {c} block {place}",
        "{place} there is a {c} block",
        "a {c} block lies {place}",
        "the {c} cube can be seen {place}",
        "the {c} object is {place}",
    ),
    "stacked": (
        "the {c} block is on top of the {below} block",
        "the {c} block is stacked on the {below} block",
        "the {below} block is under the {c} block",
        "a tower with {c} on {below}",
    ),
    "holding": (
        "the gripper holds the {c} block",
        "the robot has the {c} block in its hand",
        "the {c} block is held by the robot",
        "the hand is closed around the {c} block",
    ),
    "empty hand": (
        "the gripper is empty",
        "the robot holds nothing",
        "there is no block in the hand",
        "the hand of the robot is empty",
    ),
    "drawer": (
        "the drawer is {state}",
        "a table whose drawer is {state}",
        "the drawer under the table is {state}",
    ),
    "door": (
        "the sliding door is {state}",
        "the door of the cabinet is {state}",
        "the slider stands {state}",
    ),
    "lightbulb": (
        "the light bulb is {state}",
        "the yellow light is {state}",
        "the yellow lamp is switched {state}",
    ),
    "led": ("the led is {state}", "the green light is {state}", "the green lamp is switched {state}"),
    "side": (
        "the {c} block is to the {s} of the {other} block",
        "the {c} cube is further {s} than the {other} one",
        "{s} of the {other} block is the {c} block",
    ),
    "behind": (
        "the {c} block is behind the {other} block",
        "the {c} cube lies further back than the {other} one",
    ),
    "in front": (
        "the {c} block is in front of the {other} block",
        "the {c} cube is nearer to the robot than the {other} one",
    ),
    "order": ("from left to right {names}", "on the table from left to right are {names}"),
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "where": (
        "where is the {c} block?",
        "where can the {c} cube be found?",
        "in which place is the {c} block?",
        "tell me where the {c} block is",
    ),
    "which block": (
        "which block is {place}?",
        "what color is the block {place}?",
        "what is the color of the cube {place}?",
    ),
    "what is on": ("what is on top of the {c} block?", "which block is on the {c} block?"),
    "hand": (
        "what is in the gripper?",
        "what does the robot hold?",
        "which block is held by the robot?",
        "is there a block in the hand?",
    ),
    "drawer": ("is the drawer open or closed?", "what is the state of the drawer?", "is the drawer open?"),
    "door": ("where is the sliding door?", "on which side is the door?", "where does the slider stand?"),
    "lightbulb": ("is the light bulb on?", "is the yellow light on?", "does the yellow lamp light up?"),
    "led": ("is the led on?", "is the green light on?", "does the green lamp light up?"),
    "side": (
        "is the {c} block left or right of the {other} block?",
        "on which side of the {other} block is the {c} block?",
    ),
    "how many": ("how many blocks are on the table?", "what is the number of blocks on the table?"),
    "leftmost": ("which block on the table is furthest left?", "what is the leftmost block on the table?"),
    "rightmost": ("which block on the table is furthest right?", "what is the rightmost block on the table?"),
}
NAMES: dict[str, tuple[str, ...]] = {
    "block": ("the {c} block", "the {c} cube", "a {c} block", "the {c} object", "the block that is {c}"),
    "drawer handle": (
        "the drawer handle",
        "the handle of the drawer",
        "the bar to pull the drawer",
        "the drawer",
    ),
    "sliding door handle": (
        "the sliding door handle",
        "the handle of the sliding door",
        "the door handle",
        "the sliding door",
        "the slider",
    ),
    "switch": ("the switch", "the switch of the light bulb", "the switch for the yellow lamp"),
    "button": ("the button", "the button of the led", "the button for the green lamp", "the push button"),
    "lightbulb": ("the light bulb", "the bulb", "the yellow lamp", "the yellow light"),
    "led": ("the led", "the green lamp", "the green light"),
}


def names_of(thing: str) -> tuple[str, ...]:
    """What one may call a thing with a canonical name such as "red block"; the usual name comes first."""
    color, _, kind = thing.partition(" ")
    if kind == "block":
        return tuple(text.format(c=color) for text in NAMES["block"])
    return NAMES[thing]


def join(parts: list[str]) -> str:
    """ "a", "a and b", or "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
