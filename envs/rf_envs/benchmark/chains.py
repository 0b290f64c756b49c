"""CALVIN's long-horizon benchmark: 1000 chains of five tasks, and the states from which they start.

The chains come from `chain_generator` and are shipped in ``data/chains.json.gz``.
"""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rf_envs.benchmark.tasks import COLORS
from rf_envs.scenes import DRAWER_MAX, SCENES, SWITCH_MAX, Point, Scene

SymbolicState = dict[str, Any]
Chain = tuple[SymbolicState, list[str]]

CHAIN_LENGTH = 5
NUM_CHAINS = 1000
DATA = Path(__file__).parents[1] / "data" / "chains.json.gz"

NEUTRAL_ROBOT_OBS = (
    (0.02586889, -0.2313129, 0.5712808)  # tcp position (m)
    + (3.09045411, -0.02908596, 1.50013585)  # tcp Euler angles (rad)
    + (0.07999963,)  # opening width (m)
    + (
        -1.21779124,
        1.03987629,
        2.11978254,
        -2.34205014,
        -0.87015899,
        1.64119093,
        0.55344928,
    )  # arm joints (rad)
    + (1.0,)  # gripper action
)
"""The robot's observation (15,) at the start of every chain."""
YAW_RANGE = (np.pi / 2 - np.pi / 8, np.pi / 2 + np.pi / 8)
"""A block starts with its long side along y, give or take 22.5 degrees."""


@functools.cache
def _shipped_chains() -> list[Chain]:
    return [(state, tasks) for state, tasks in json.loads(gzip.decompress(DATA.read_bytes()))]


def chains() -> list[Chain]:
    """CALVIN's 1000 chains in order: ``(symbolic start state, five task names)``, as fresh copies."""
    return [(dict(state), list(tasks)) for state, tasks in _shipped_chains()]


def chain(index: int) -> Chain:
    """One of the 1000 chains.

    Raises:
        ValueError: ``index`` is not a whole number from 0 to 999.
    """
    if isinstance(index, bool) or not isinstance(index, (int, np.integer)) or not 0 <= index < NUM_CHAINS:
        raise ValueError(f"There is no chain {index!r}; give a whole number from 0 to {NUM_CHAINS - 1}.")
    state, tasks = _shipped_chains()[int(index)]
    return dict(state), list(tasks)


@dataclass(frozen=True)
class StartPlaces:
    """Where a block's centre is at the start of a chain (m)."""

    table: tuple[Point, Point]
    slider_left: Point
    slider_right: Point


_TABLE: tuple[Point, Point] = ((0.0500000896, -0.120000177, 0.459990009), (0.229995412, -0.11999514, 0.45999001))
_LEFT: Point = (-0.240851662, 0.0924044687, 0.460990009)
_RIGHT: Point = (0.070341633, 0.0924044687, 0.460990009)


def _along(place: Point, x: float) -> Point:
    return (x, *place[1:])


START_PLACES = {
    "A": StartPlaces(_TABLE, _LEFT, _RIGHT),
    "B": StartPlaces((_along(_TABLE[0], -0.13), _along(_TABLE[1], 0.05)), _along(_LEFT, -0.04), _along(_RIGHT, 0.27)),
    "C": StartPlaces(_TABLE, _along(_LEFT, -0.04), _along(_RIGHT, 0.25)),
    "D": StartPlaces(_TABLE, _LEFT, _RIGHT),
}
"""CALVIN's places fit its evaluation scene D. Where another scene's surfaces differ, the places move with them."""


def state_seed(state: SymbolicState) -> int:
    """The 32-bit seed that CALVIN derives from a symbolic start state.

    It is the FNV-1 hash of the state's printed values. CALVIN's hash library sees Python text as UTF-16 and
    starts from 0 instead of FNV's offset basis, so other implementations of FNV-1 give other seeds.
    """
    value = 0
    for byte in f"dict_values({list(state.values())})".encode("utf-16-le"):
        value = (value * 16777619 & 0xFFFFFFFF) ^ byte
    return value


def initial_state(
    state: SymbolicState, scene: Scene = SCENES["D"], seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The robot and scene observation at the start of a chain.

    Args:
        state: the chain's symbolic start state, as returned by `chains`.
        scene: the scene; the numbers equal CALVIN's in scene D.
        seed: of the blocks' places and angles; None for CALVIN's, which it derives from the state.

    Returns:
        ``robot_obs`` (15,) and ``scene_obs`` (24,), float64.
    """
    random = np.random.RandomState(state_seed(state) if seed is None else seed)
    places = START_PLACES[scene.name]
    slots = [np.array(place) for place in places.table]
    random.shuffle(slots)  # type: ignore[arg-type]

    scene_obs = np.zeros(24)
    scene_obs[0] = scene.slide_max if state["slider"] == "left" else 0.0
    scene_obs[1] = DRAWER_MAX if state["drawer"] == "open" else 0.0
    scene_obs[3] = SWITCH_MAX * state["lightbulb"]
    scene_obs[4:6] = state["lightbulb"], state["led"]
    # blue makes way for a red block on the table; pink always has the second place
    red_on_table = state["red_block"] == "table"
    slot = {"red": slots[0], "blue": slots[1 if red_on_table else 0], "pink": slots[1]}
    for color in COLORS:
        where = state[f"{color}_block"]
        start = 6 + 6 * scene.block_order.index(color)
        scene_obs[start : start + 3] = slot[color] if where == "table" else getattr(places, where)
        scene_obs[start + 5] = random.uniform(*YAW_RANGE)
    return np.array(NEUTRAL_ROBOT_OBS), scene_obs
