"""Pairs of states with the verdict of CALVIN's task oracle on them: how they are kept in ``data/``.

`record_oracle` makes them, `test_oracle_agreement` holds our checks against them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).parent / "data" / "oracle_pairs.json.gz"
POSE_FIELDS = ("current_pos", "current_orn")
VELOCITY_FIELDS = ("current_lin_vel", "current_ang_vel")
TABLE_LINKS = ("base_link", "drawer_link", "plank_link")


class Pair(NamedTuple):
    """What happened between two states."""

    start: dict[str, Any]
    """State info when the tasks were given."""
    now: dict[str, Any]
    play: str
    """Scene and kind of play, such as ``"A random"``."""
    done: frozenset[str]
    """The tasks that CALVIN's oracle calls done."""


def compact(info: dict[str, Any]) -> dict[str, Any]:
    """The part of a state info that a task check reads, as JSON; of a contact, the other body and its link.

    Velocities are rounded to 1e-6, which saves a quarter of the file; the oracle judges what is stored.
    """
    robot, scene = info["robot_info"], info["scene_info"]
    table = scene["fixed_objects"]["table"]
    return {
        "robot_info": {"uid": robot["uid"], "contacts": _contacts(robot)},
        "scene_info": {
            "fixed_objects": {
                "table": {"uid": table["uid"], "links": {link: table["links"][link] for link in TABLE_LINKS}}
            },
            "movable_objects": {name: _compact_block(block) for name, block in scene["movable_objects"].items()},
            "doors": {name: {"current_state": door["current_state"]} for name, door in scene["doors"].items()},
            "lights": {name: {"logical_state": light["logical_state"]} for name, light in scene["lights"].items()},
        },
    }


def expand(state: dict[str, Any]) -> dict[str, Any]:
    """A compact state with its contacts as PyBullet returns them, the fields that no check reads being None."""
    scene = state["scene_info"]
    blocks = {name: block | {"contacts": _points(block)} for name, block in scene["movable_objects"].items()}
    return {
        "robot_info": state["robot_info"] | {"contacts": _points(state["robot_info"])},
        "scene_info": scene | {"movable_objects": blocks},
    }


def write_pairs(pairs: Iterable[tuple[dict[str, Any], dict[str, Any], str, Iterable[str]]], path: Path = DATA) -> None:
    """Write (start, now, play, done) with compact states; a state object that occurs again is stored once."""
    numbers: dict[int, int] = {}
    states: list[dict[str, Any]] = []
    rows = []
    for start, now, play, done in pairs:
        for state in (start, now):
            if numbers.setdefault(id(state), len(states)) == len(states):
                states.append(state)
        rows.append((numbers[id(start)], numbers[id(now)], play, sorted(done)))
    text = json.dumps({"states": states, "pairs": rows}, separators=(",", ":"))
    # without a time stamp the same pairs give the same file
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_pairs(path: Path = DATA) -> list[Pair]:
    """The stored pairs, their states in CALVIN's structure."""
    stored = json.loads(gzip.decompress(path.read_bytes()))
    states = [expand(state) for state in stored["states"]]
    return [Pair(states[start], states[now], play, frozenset(done)) for start, now, play, done in stored["pairs"]]


def _compact_block(block: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": block["uid"],
        **{name: block[name] for name in POSE_FIELDS},
        **{name: [round(speed, 6) for speed in block[name]] for name in VELOCITY_FIELDS},
        "contacts": _contacts(block),
    }


def _contacts(thing: dict[str, Any]) -> list[tuple[int, int]]:
    return sorted({(contact[2], contact[4]) for contact in thing["contacts"]})


def _points(thing: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
    return tuple((None, None, body, None, link) for body, link in thing["contacts"])
