"""Folders of evaluations that nobody has played, as `rf-agent evaluate` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rf_agent.evaluation.journal import Journal
from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.evaluation.results import build_results, write_json

SETTINGS = {
    "env": "rf/PlayTableChainD-v0",
    "env_options": {},
    "renderer": "tiny",
    "policy": "some/policy",
    "weights": "0123456789abcdef",
    "seed": 0,
}
TASKS = ("open_drawer", "lift_red_block_table", "place_in_drawer", "rotate_blue_block_left", "push_pink_block_right")


def chain(index: int, completed: int, tasks: tuple[str, ...] = TASKS, instruction: str = "do it") -> Episode:
    """A chain that got `completed` sub-tasks far."""
    attempts = [Attempt(task, True, 40 + place, instruction) for place, task in enumerate(tasks[:completed])]
    if completed < len(tasks):
        attempts.append(Attempt(tasks[completed], False, 360, instruction))
    steps = sum(attempt.steps for attempt in attempts)
    return Episode(f"chain/{index}", tuple(attempts), steps, 2.0, index, index, float(completed), 0.5, 0.25)


def chains(lengths: list[int]) -> list[Episode]:
    """Chains 0, 1, ... that got so far."""
    return [chain(index, completed) for index, completed in enumerate(lengths)]


def random_chains(count: int, seed: int = 0, chance: float = 0.8) -> list[Episode]:
    """Chains of random tasks, each sub-task solved with `chance`."""
    from rf_agent.reporting.paper import TABLE_9

    rng = np.random.default_rng(seed)
    names = np.array(sorted(TABLE_9))
    found = []
    for index in range(count):
        tasks = tuple(map(str, rng.choice(names, 5, replace=False)))
        fails = np.flatnonzero(rng.random(5) > chance)
        found.append(chain(index, int(fails[0]) if len(fails) else 5, tasks, f"instruction {index} of this run"))
    return found


def write_run(folder: Path, episodes: list[Episode], *, finished: bool = True, **settings: Any) -> Path:
    """A folder with these episodes; `settings` change `SETTINGS`. Without `finished` it has no results.json."""
    used = SETTINGS | settings
    journal = Journal(folder, used)
    for number, episode in enumerate(episodes, start=1):
        journal.add(episode, 2.0 * number)
    if finished:
        results = build_results(
            episodes,
            env=used["env"],
            env_options=used["env_options"],
            policy=used["policy"],
            weights=used["weights"],
            seed=used["seed"],
            renderer=used["renderer"],
            seconds=2.0 * len(episodes),
            length=5,
            requested={"chains": len(episodes)} if episodes[0].chain is not None else {},
        )
        write_json(folder / "results.json", results)
    return folder
