"""Does the colour word decide? The same scene, told three colours: which block does the robot touch first?

Success rates cannot tell: a policy that pushes whatever block is nearest also succeeds now and then.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rf_agent.environments import Environments
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import Agent, load_agent
from rf_agent.evaluation.episode import item_seed
from rf_agent.evaluation.runner import make_env, one_thread
from rf_agent.workers import run_jobs

COLOURS = ("red", "blue", "pink")
TASKS = ("lift_{}_block_table", "push_{}_block_left", "push_{}_block_right")
SPACING = 0.10  # metres between the centres of two blocks, so that the hand fits between
BLOCK = slice(6, 24)  # of scene_obs: three rows of position and Euler angles


@dataclass(frozen=True)
class Trial:
    """One scene and one kind of task, told each colour."""

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
    policy: str
    device: str
    task: str
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

    A trial depends on the seed and its number alone.
    """
    jobs = [
        _Job(env_id, policy, device, TASKS[index % len(TASKS)], item_seed(seed, f"grounding/{index}"))
        for index in range(trials)
    ]
    results: dict[_Job, Trial] = {}
    with one_thread(policy):
        for job, trial in run_jobs(_play, jobs, min(workers, trials), Environments):
            results[job] = trial
            if on_trial:
                on_trial(trial)
    return [results[job] for job in jobs]


def _play(environments: Environments, job: _Job) -> Trial:
    agent = load_agent(job.policy, job.device)
    env = make_env(environments, job.env_id, agent.render_every)
    scene, robot = _scene(env, job.seed)
    touched = {}
    for colour in COLOURS:
        options = {"task": job.task.format(colour), "scene_obs": scene, "robot_obs": robot}
        touched[colour] = _first_touch(env, agent, job.seed, options)
    return Trial(job.task, touched)


def _scene(env: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """scene_obs (24,) with every block on the table, and robot_obs (15,).

    The environment puts a block on the table when the task needs it there, so each block's place comes from a
    reset of its own, drawn again until the three stand apart.
    """
    rng = np.random.default_rng(seed)
    for _ in range(200):
        places = {}
        for colour in COLOURS:
            options = {"task": f"lift_{colour}_block_table"}
            observation, _ = env.reset(seed=int(rng.integers(2**31)), options=options)
            rows = np.array(env.unwrapped.scene_obs)[BLOCK].reshape(3, 6)
            position = env.unwrapped.scene_info["movable_objects"][f"block_{colour}"]["current_pos"]
            # Scenes list their blocks in different orders.
            row = int(np.linalg.norm(rows[:, :3] - np.asarray(position), axis=1).argmin())
            places[row] = rows[row].copy()
        scene = np.array(env.unwrapped.scene_obs)
        scene[BLOCK] = np.concatenate([places[row] for row in range(3)])
        centres = [place[:2] for place in places.values()]
        if all(np.linalg.norm(a - b) >= SPACING for a, b in itertools.combinations(centres, 2)):
            return scene, np.array(observation["robot_obs"], np.float64)
    raise UserError(f"{env.spec.id} never drew three blocks {SPACING} m apart on the table: it is too small for this")


def _first_touch(env: Any, agent: Agent, seed: int, options: dict[str, Any]) -> str | None:
    observation, _ = env.reset(seed=seed, options=options)
    agent.reset(env, seed)
    over = False
    while not over:
        observation, _, terminated, truncated, _ = env.step(agent.act(observation))
        over = terminated or truncated
        blocks = env.unwrapped.scene_info["movable_objects"]
        bodies = {contact[2] for contact in env.unwrapped.robot_info["contacts"]}  # PyBullet: [2] is the other body
        for colour in COLOURS:
            if blocks[f"block_{colour}"]["uid"] in bodies:
                return colour
    return None


def totals(trials: Sequence[Trial]) -> dict[str, tuple[int, int]]:
    """{"named": (runs that touched the named block first, runs), "changed": (pairs that differ, pairs)}."""
    changed = [trial.changed for trial in trials]
    return {
        "named": (sum(trial.right for trial in trials), sum(len(trial.touched) for trial in trials)),
        "changed": (sum(pair[0] for pair in changed), sum(pair[1] for pair in changed)),
    }
