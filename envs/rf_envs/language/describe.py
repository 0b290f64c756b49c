"""The table in words: what a vision-language model learns from before it learns to act.

From a state info come captions, questions with answers, and *objects*: a phrase, the object it is about and
where that object is. Phrases are names ("the red block") and instructions ("push the red block to the left"),
because a policy reads both. What door and drawer hide from the static camera is not described. What the arm hides is:
in some random states there is a block of which no pixel is in the image.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from rf_envs.benchmark.tasks import COLORS, StateInfo, blocks, touched_bodies
from rf_envs.geometry import fixture_positions, is_visible, joint_positions, place_of
from rf_envs.language import phrases
from rf_envs.language.instructions import TRAINING
from rf_envs.rotations import euler_from_quaternion, wrap_angle
from rf_envs.scenes import BLOCK_LENGTHS, BLOCK_WIDTH, DRAWER_MAX, Scene

TASK_OBJECTS: dict[str, str] = {
    **{f"{verb}_{c}_block_{s}": f"{c} block" for verb in ("rotate", "push") for c in COLORS for s in ("left", "right")},
    **{f"lift_{c}_block_{place}": f"{c} block" for c in COLORS for place in ("table", "slider", "drawer")},
    "open_drawer": "drawer handle",
    "close_drawer": "drawer handle",
    "move_slider_left": "sliding door handle",
    "move_slider_right": "sliding door handle",
    "turn_on_lightbulb": "switch",
    "turn_off_lightbulb": "switch",
    "turn_on_led": "button",
    "turn_off_led": "button",
}
"""Task to the object its instructions are about; the other tasks are about no single object."""
MAX_CAPTIONS = 6
MAX_QUESTIONS = 10
INSTRUCTIONS_PER_OBJECT = 3


class ObjectPosition(TypedDict):
    """A phrase and where its object is."""

    text: str
    name: str
    position: list[float]
    """(3,), metres in the world frame."""
    yaw: float | None
    """Direction of a block's long side, radians in [0, pi); None for what has no such direction."""


class Gripper(TypedDict):
    """Where the gripper is."""

    position: list[float]
    euler: list[float]
    width: float


class Description(TypedDict):
    """One state in words; JSON can hold it."""

    captions: list[str]
    questions: list[tuple[str, str]]
    objects: list[ObjectPosition]
    gripper: Gripper


@dataclass(frozen=True)
class VisibleBlock:
    """A visible block, as far as words need it."""

    color: str
    position: np.ndarray
    yaw: float | None
    where: str
    """``table``, ``slider_left``, ``slider_right``, ``drawer``, ``hand``, ``air``, or the color below it."""


def describe(info: StateInfo, scene: Scene, rng: np.random.Generator | None = None) -> Description:
    """Put a state into words.

    Args:
        info: the state info.
        scene: its scene.
        rng: chooses the phrases; None for a choice that depends on the state alone.

    Returns:
        captions, questions with answers, objects and the gripper's pose.
    """
    robot = info["robot_info"]
    if rng is None:
        seen = [robot["tcp_pos"], *(block["current_pos"] for block in blocks(info).values())]
        rng = np.random.default_rng(zlib.crc32(np.array(seen).tobytes()))
    visible = {block.color: block for block in _visible_blocks(info, scene)}
    facts = _facts(info, scene, visible, rng)
    captions = [facts.captions[i] for i in rng.permutation(len(facts.captions))[: MAX_CAPTIONS - 1]]
    captions.append(phrases.join([facts.captions[i] for i in rng.permutation(len(facts.captions))[:2]]))
    return Description(
        captions=captions,
        questions=[facts.questions[i] for i in rng.permutation(len(facts.questions))[:MAX_QUESTIONS]],
        objects=_objects(info, scene, visible, rng),
        gripper=Gripper(
            position=[float(x) for x in robot["tcp_pos"]],
            euler=[float(x) for x in robot["tcp_orn"]],
            width=float(robot["gripper_opening_width"]),
        ),
    )


def block_yaw(scene: Scene, color: str, quaternion: Any) -> float | None:
    """Direction of a block's long side in [0, pi), or None if it does not lie flat.

    A cube looks the same after a quarter turn; of its two directions the one nearer to pi/2 is taken.
    """
    roll, pitch, yaw = euler_from_quaternion(quaternion)
    if abs(wrap_angle(roll, np.pi)) > 0.35 or abs(pitch) > 0.35:
        return None
    if scene.block_length(color) == BLOCK_LENGTHS["small"] == BLOCK_WIDTH:
        return float(np.pi / 2 + wrap_angle(yaw - np.pi / 2, np.pi / 2))
    return float(yaw % np.pi)


def _visible_blocks(info: StateInfo, scene: Scene) -> list[VisibleBlock]:
    ids = {block["uid"]: name.removeprefix("block_") for name, block in blocks(info).items()}
    result = []
    for name, block in blocks(info).items():
        color, position = name.removeprefix("block_"), np.array(block["current_pos"])
        if not is_visible(scene, info, position):
            continue
        touched = touched_bodies(block["contacts"])
        where = place_of(scene, position)
        below = [ids[uid] for uid in touched if uid in ids]
        below = [c for c in below if position[2] - blocks(info)[f"block_{c}"]["current_pos"][2] > BLOCK_WIDTH / 2]
        if below:
            where = below[0]
        elif touched == {info["robot_info"]["uid"]}:
            where = "hand"
        result.append(VisibleBlock(color, position, block_yaw(scene, color, block["current_orn"]), where))
    return result


class _Facts:
    """Captions and questions as they are collected."""

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self.captions: list[str] = []
        self.questions: list[tuple[str, str]] = []

    def add_caption(self, key: str, **words: str) -> None:
        self.captions.append(self._pick(phrases.CAPTIONS[key]).format(**words))

    def add_question(self, key: str, answer: str, **words: str) -> None:
        self.questions.append((self._pick(phrases.QUESTIONS[key]).format(**words), answer))

    def _pick(self, choices: tuple[str, ...]) -> str:
        return choices[int(self._rng.integers(len(choices)))]


def _facts(info: StateInfo, scene: Scene, visible: dict[str, VisibleBlock], rng: np.random.Generator) -> _Facts:
    facts = _Facts(rng)
    _fixture_facts(info, scene, facts)
    for block in visible.values():
        if block.where in COLORS:
            facts.add_caption("stacked", c=block.color, below=block.where)
            facts.add_question("what is on", f"the {block.color} block", c=block.where)
            facts.add_question("where", f"on the {block.where} block", c=block.color)
        elif block.where != "air":
            place = phrases.PLACES[block.where]
            facts.add_caption("block", c=block.color, place=place)
            facts.add_question("where", place, c=block.color)
            if sum(other.where == block.where for other in visible.values()) == 1:
                facts.add_question("which block", block.color, place=place)
    held = [block.color for block in visible.values() if block.where == "hand"]
    facts.add_caption("holding" if held else "empty hand", c="".join(held))
    facts.add_question("hand", f"the {held[0]} block" if held else "nothing")
    _relation_facts(visible, facts)
    on_table = [block for block in visible.values() if block.where == "table"]
    facts.add_question("how many", phrases.NUMBERS[len(on_table)])
    if len(on_table) > 1:
        names = [block.color for block in sorted(on_table, key=lambda block: block.position[0])]
        facts.add_caption("order", names=phrases.join([f"the {color} block" for color in names]))
        facts.add_question("leftmost", names[0])
        facts.add_question("rightmost", names[-1])
    return facts


def _fixture_facts(info: StateInfo, scene: Scene, facts: _Facts) -> None:
    slider, drawer, *_ = joint_positions(info)
    opening = drawer / DRAWER_MAX
    state = "closed" if opening < 0.1 else "open" if opening > 0.8 else "partly open"
    facts.add_caption("drawer", state=state)
    facts.add_question("drawer", state)
    side = slider / scene.slide_max
    state = "on the right" if side < 0.2 else "on the left" if side > 0.8 else "in the middle"
    facts.add_caption("door", state=state)
    facts.add_question("door", state)
    lights = info["scene_info"]["lights"]
    for key in ("lightbulb", "led"):
        state = "on" if lights[key]["logical_state"] else "off"
        facts.add_caption(key, state=state)
        facts.add_question(key, "yes" if state == "on" else "no")


def _relation_facts(visible: dict[str, VisibleBlock], facts: _Facts) -> None:
    flat = [block for block in visible.values() if block.where in ("table", "slider_left", "slider_right")]
    for one in flat:
        for other in flat:
            dx, dy = (one.position - other.position)[:2]
            if one is other or one.where != other.where and "table" not in (one.where, other.where):
                continue
            if abs(dx) > 0.05:
                side = "right" if dx > 0 else "left"
                facts.add_caption("side", c=one.color, s=side, other=other.color)
                facts.add_question("side", side, c=one.color, other=other.color)
            if one.where == other.where == "table" and abs(dy) > 0.05:
                facts.add_caption("behind" if dy > 0 else "in front", c=one.color, other=other.color)


def _is_about(task: str, name: str, visible: dict[str, VisibleBlock]) -> bool:
    """Whether the task's instructions are about the object called ``name``, and true of where it is."""
    if TASK_OBJECTS[task] != name:
        return False
    place = task.rsplit("_", 1)[1]
    return not task.startswith("lift") or visible[name.split()[0]].where.startswith(place)


def _objects(
    info: StateInfo, scene: Scene, visible: dict[str, VisibleBlock], rng: np.random.Generator
) -> list[ObjectPosition]:
    known: dict[str, tuple[np.ndarray, float | None]] = {
        name: (position, None) for name, position in fixture_positions(scene, joint_positions(info)).items()
    }
    known |= {f"{block.color} block": (block.position, block.yaw) for block in visible.values()}

    def position_of(text: str, name: str) -> ObjectPosition:
        position, yaw = known[name]
        return ObjectPosition(text=text, name=name, position=[round(float(x), 5) for x in position], yaw=yaw)

    result = []
    for name in known:
        names = phrases.names_of(name)
        result.append(position_of(names[0], name))
        result.append(position_of(names[int(rng.integers(1, len(names)))], name))
        sentences = [text for task in TASK_OBJECTS if _is_about(task, name, visible) for text in TRAINING[task]]
        if sentences:
            chosen = rng.choice(len(sentences), INSTRUCTIONS_PER_OBJECT, replace=False)
            result += [position_of(sentences[int(i)], name) for i in chosen]
    return result
