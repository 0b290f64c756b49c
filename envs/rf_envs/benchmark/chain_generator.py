"""Draws CALVIN's 1000 evaluation chains, and chains to train on.

``python -m rf_envs.benchmark.chain_generator`` writes them again, in half a minute. A chain is drawn by rejection
over a symbolic model of the table: for each of the 192 start states, with that state's number as seed, five
different tasks are drawn until each is feasible when its turn comes and no two are of one kind.

Source: CALVIN, Mees et al. 2022, section V; equal to its published sequences, element for element.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from rf_envs.benchmark.chains import CHAIN_LENGTH, DATA, NUM_CHAINS, Chain, SymbolicState, chains
from rf_envs.benchmark.tasks import COLORS, TASKS

START_VALUES: dict[str, tuple[Any, ...]] = {
    "led": (0, 1),
    "lightbulb": (0, 1),
    "slider": ("right", "left"),
    "drawer": ("closed", "open"),
    **{f"{color}_block": ("table", "slider_right", "slider_left") for color in COLORS},
    "grasped": (0,),
}
"""Each symbol of a start state and its values; their order fixes the order of the states."""


NUM_TRAINING_CHAINS = 2**31
"""numpy's legacy generator takes seeds of up to 32 bits."""


class Rule:
    """One way a task changes the symbolic state: where ``condition`` holds, ``effect`` is written."""

    def __init__(self, condition: SymbolicState, **effect: Any):
        # a condition's value is what the symbol must equal, or a tuple of which it must be one
        self.condition = {key: v if isinstance(v, tuple) else (v,) for key, v in condition.items()}
        self.effect = effect

    def applies(self, state: SymbolicState) -> bool:
        return all(state[key] in allowed for key, allowed in self.condition.items())


def _block_rules(color: str) -> dict[str, list[Rule]]:
    block, on_shelf = f"{color}_block", ("slider_right", "slider_left")
    others = [f"{other}_block" for other in COLORS if other != color]
    on_table = {block: "table", "grasped": 0}
    grasp = {block: "grasped", "grasped": 1}
    # the door covers the half of the shelf on whose side it stands
    uncovered = [{block: "slider_left", "slider": "right"}, {block: "slider_right", "slider": "left"}]
    return {
        **{f"{verb}_{block}_{side}": [Rule(on_table)] for verb in ("rotate", "push") for side in ("left", "right")},
        f"lift_{block}_table": [Rule(on_table, **grasp)],
        f"lift_{block}_slider": [Rule({**place, "grasped": 0}, **grasp) for place in uncovered],
        f"lift_{block}_drawer": [Rule({block: "drawer", "drawer": "open", "grasped": 0}, **grasp)],
        "place_in_slider": [
            Rule({**grasp, "slider": side}, **{block: f"slider_{side}", "grasped": 0}) for side in ("right", "left")
        ],
        "place_in_drawer": [Rule({**grasp, "drawer": "open"}, **{block: "drawer", "grasped": 0})],
        "stack_block": [
            Rule({**grasp, other: "table"}, **{block: "stacked_top", other: "stacked_bottom", "grasped": 0})
            for other in others
        ],
        "unstack_block": [
            Rule(
                {block: "stacked_top", other: "stacked_bottom", "grasped": 0},
                **{block: "table", other: "table"},
            )
            for other in others
        ],
        "push_into_drawer": [
            Rule({**on_table, **dict.fromkeys(others, on_shelf), "drawer": "open"}, **{block: "drawer"})
        ],
    }


@functools.cache
def rules() -> dict[str, list[Rule]]:
    """The rules of each task. In a chain a task is feasible where exactly one of its rules applies."""
    table: dict[str, list[Rule]] = {task: [] for task in TASKS}
    for color in COLORS:
        for task, found in _block_rules(color).items():
            table[task] += found
    for task, symbol, before, after in (
        ("move_slider_left", "slider", "right", "left"),
        ("move_slider_right", "slider", "left", "right"),
        ("open_drawer", "drawer", "closed", "open"),
        ("close_drawer", "drawer", "open", "closed"),
        ("turn_on_lightbulb", "lightbulb", 0, 1),
        ("turn_off_lightbulb", "lightbulb", 1, 0),
        ("turn_on_led", "led", 0, 1),
        ("turn_off_led", "led", 1, 0),
    ):
        table[task] = [Rule({symbol: before, "grasped": 0}, **{symbol: after})]
    return table


def kind(task: str) -> str:
    """The kind of a task; a chain has no two of one kind."""
    kinds = {
        "open_drawer": "move drawer",
        "close_drawer": "move drawer",
        "push_into_drawer": "push into drawer",
    }
    if task in kinds:
        return kinds[task]
    if task.startswith(("rotate", "push")):
        return "move block"
    if task.startswith("lift"):
        return "lift from " + task.rsplit("_", 1)[1]
    return next((stem for stem in ("move_slider", "place_in", "turn_") if task.startswith(stem)), task)


@functools.cache
def start_states() -> list[SymbolicState]:
    """The 192 symbolic start states, in CALVIN's order."""
    states = [dict(zip(START_VALUES, values, strict=True)) for values in itertools.product(*START_VALUES.values())]

    def is_balanced(state: SymbolicState) -> bool:
        values = list(state.values())
        return values.count("table") in (1, 2) and all(values.count(f"slider_{s}") < 2 for s in ("left", "right"))

    return [state for state in states if is_balanced(state)]


class _Transitions:
    """The symbolic model as a table of integers, for checking many draws at once."""

    def __init__(self, start: SymbolicState):
        self.states = [start]
        self.numbers = {self._key(start): 0}
        self.table = np.full((0, len(TASKS)), -1)
        self._expand()

    @staticmethod
    def _key(state: SymbolicState) -> tuple[Any, ...]:
        return tuple(state.values())

    def _expand(self) -> None:
        rows: list[list[int]] = []
        while len(rows) < len(self.states):
            state = self.states[len(rows)]
            rows.append([self._successor(state, task) for task in TASKS])
        self.table = np.array(rows)

    def _successor(self, state: SymbolicState, task: str) -> int:
        found = [rule for rule in rules()[task] if rule.applies(state)]
        if len(found) != 1:
            return -1
        after = {**state, **found[0].effect}
        if self._key(after) not in self.numbers:
            self.numbers[self._key(after)] = len(self.states)
            self.states.append(after)
        return self.numbers[self._key(after)]

    def feasible(self, draws: np.ndarray) -> np.ndarray:
        """(n, 5) task numbers to (n,) bool: each task feasible when its turn comes, all of different kinds."""
        kinds = np.array([sorted({kind(task) for task in TASKS}).index(kind(task)) for task in TASKS])
        alive = np.arange(len(draws))
        state = np.zeros(len(draws), dtype=np.int64)
        for step in range(CHAIN_LENGTH):
            state = self.table[state, draws[alive, step]]
            alive, state = alive[state >= 0], state[state >= 0]
        ordered = np.sort(kinds[draws[alive]], axis=1)
        result = np.zeros(len(draws), dtype=bool)
        result[alive[(np.diff(ordered, axis=1) > 0).all(axis=1)]] = True
        return result


@functools.cache
def _transitions(start: tuple[tuple[str, Any], ...]) -> _Transitions:
    return _Transitions(dict(start))


def draw_chains(state: SymbolicState, number: int, seed: int) -> list[list[str]]:
    """The first ``number`` feasible chains from ``state`` in the random stream of ``seed``."""
    # numpy's legacy generator will never change: its choice without replacement is a permutation cut short
    random = np.random.RandomState(seed)
    transitions = _transitions(tuple(state.items()))
    found: list[list[str]] = []
    while len(found) < number:
        draws = np.array([random.permutation(len(TASKS))[:CHAIN_LENGTH] for _ in range(2000)])
        found += [[TASKS[task] for task in draw] for draw in draws[transitions.feasible(draws)]]
    return found[:number]


def generate_chains(number: int = NUM_CHAINS) -> list[Chain]:
    """Draw the chains anew: spread evenly over the start states, then shuffled."""
    states = start_states()
    shares = [len(share) for share in np.array_split(range(number), len(states))]
    result = [
        (dict(state), tasks)
        for seed, (state, share) in enumerate(zip(states, shares, strict=True))
        for tasks in draw_chains(state, share, seed)
    ]
    np.random.RandomState(0).shuffle(result)  # type: ignore[arg-type]
    return result


@functools.cache
def _evaluation_chains() -> frozenset[tuple[Any, ...]]:
    return frozenset((*state.values(), *tasks) for state, tasks in chains())


def training_chain(index: int) -> tuple[Chain, int]:
    """A chain to learn from, drawn by the rules of the evaluation chains and equal to none of them.

    Args:
        index: from 0 on; every number is another draw. All start states come in turn.

    Returns:
        The chain, and the seed of where its blocks stand.

    Raises:
        ValueError: ``index`` is no whole number from 0 to `NUM_TRAINING_CHAINS` - 1.
    """
    if isinstance(index, bool) or not isinstance(index, (int, np.integer)) or not 0 <= index < NUM_TRAINING_CHAINS:
        raise ValueError(
            f"There is no training chain {index!r}; give a whole number from 0 to {NUM_TRAINING_CHAINS - 1}."
        )
    states = start_states()
    state, seed = states[index % len(states)], len(states) + int(index)  # smaller seeds draw the evaluation chains
    for number in itertools.count(1):
        tasks = draw_chains(state, number, seed)[-1]
        if (*state.values(), *tasks) not in _evaluation_chains():
            break
    return (dict(state), tasks), seed


def write_chains(path: Path = DATA) -> None:
    """Draw the chains anew and write them as package data."""
    text = json.dumps(generate_chains(), separators=(",", ":"))
    # without a time stamp the same chains give the same file
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    write_chains()
