"""Does the colour word decide? The same scene with three colour words: which block does the robot touch first?

Success rates cannot tell: a policy that pushes whatever block is nearest also succeeds now and then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rf_agent.environments import plays_chains
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import Agent
from rf_agent.evaluation.episode import item_seed
from rf_agent.evaluation.runner import make_env
from rf_agent.evaluation.worker import RESTARTS, Who, Worker, acting
from rf_agent.workers import run_jobs


@dataclass(frozen=True)
class Trial:
    """One scene and one kind of task, with each colour word."""

    task: str
    """With `{}` for the colour."""
    touched: dict[str, str | None]
    """The colour that was named -> the colour of the block touched first, None if the robot touched none."""

    @property
    def right(self) -> int:
        """How many of the colours led to their block."""
        return sum(named == touched for named, touched in self.touched.items())

    @property
    def changed(self) -> tuple[int, int]:
        """Of how many pairs of colour words each led to another block, and how many pairs there are."""
        pairs = list(itertools.combinations(self.touched.values(), 2))
        return sum(a is not None and b is not None and a != b for a, b in pairs), len(pairs)


@dataclass(frozen=True)
class _Job:
    env_id: str
    who: Who
    kind: int
    seed: int


def grounding(
    env_id: str,
    policy: str,
    trials: int,
    *,
    seed: int = 0,
    workers: int = 1,
    device: str = "cpu",
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Play `trials` scenes with three blocks on the table, the kinds of task in turns, each in three colours.

    A trial depends on the seed and its number alone, as far as an episode of `evaluate` does. A worker that dies is
    replaced.
    """
    workers = min(workers, trials)
    results: dict[_Job, Trial] = {}
    with acting(policy, device, workers=workers) as who:
        jobs = [_Job(env_id, who, index, item_seed(seed, f"grounding/{index}")) for index in range(trials)]
        for job, trial in run_jobs(_play, jobs, workers, Worker, restarts=RESTARTS if workers > 1 else 0):
            results[job] = trial
            if on_trial:
                on_trial(trial)
    return [results[job] for job in jobs]


def _play(worker: Worker, job: _Job) -> Trial:
    agent = worker.agent(job.who)
    env = make_env(worker.environments, job.env_id, agent.render_every)
    if not hasattr(env.unwrapped, "color_trial") or plays_chains(env):
        raise UserError(f"{job.env_id} has no scenes for colour words: give one such as rf/PlayTableD-v0")
    task, options = env.unwrapped.color_trial(job.kind, job.seed)
    return Trial(task, {color: _first_touch(env, agent, job.seed, chosen) for color, chosen in options.items()})


def _first_touch(env: Any, agent: Agent, seed: int, options: dict[str, Any]) -> str | None:
    observation, _ = env.reset(seed=seed, options=options)
    agent.reset(env, seed)
    over = False
    while not over:
        observation, _, terminated, truncated, _ = env.step(agent.act(observation))
        over = terminated or truncated
        if env.unwrapped.touched_color is not None:
            return env.unwrapped.touched_color
    return None


def totals(trials: Sequence[Trial]) -> dict[str, tuple[int, int]]:
    """{"named": (runs that touched the named block first, runs), "changed": (pairs that differ, pairs)}."""
    changed = [trial.changed for trial in trials]
    return {
        "named": (sum(trial.right for trial in trials), sum(len(trial.touched) for trial in trials)),
        "changed": (sum(pair[0] for pair in changed), sum(pair[1] for pair in changed)),
    }
