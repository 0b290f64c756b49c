"""One episode: an agent in an environment, from reset to its end, and what came of it."""

from __future__ import annotations

import time
import warnings
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rf_agent import watchdog
from rf_agent.environments import instructed
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import Agent
from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.evaluation.video import Recorder

ALL_CHAINS = 1000
"""Chains of the benchmark."""
LONG = 10_000
"""Steps after which an episode is said not to have ended: eleven minutes of a robot that acts 15 times in a second."""


@dataclass(frozen=True)
class Item:
    """An episode to be played. It fixes everything random, so that the result depends on no other episode.

    Args:
        key: its name, unique within an evaluation.
        seed: for `env.reset` and for agents that draw numbers.
        options: for `env.reset`.
        chain: index of the chain, or None for an episode with a single task.
        scored: whether its outcome means something; with free text the environment's task does not.
        instruction: what the policy is asked, whatever the environment asks; None for its words.
    """

    key: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    chain: int | None = None
    scored: bool = True
    instruction: str | None = None


def item_seed(seed: int, key: str) -> int:
    """The seed of the item `key` in an evaluation with `seed`, whatever the other items and their order."""
    return int(np.random.SeedSequence([seed, zlib.crc32(key.encode())]).generate_state(1)[0])


def task_items(tasks: list[str], episodes_per_task: int, seed: int) -> list[Item]:
    """`episodes_per_task` episodes of each task, in turns: early results say something about all."""
    keys = [(task, f"{task}/{index}") for index in range(episodes_per_task) for task in tasks]
    return [Item(key, item_seed(seed, key), {"task": task}) for task, key in keys]


def episode_items(env_id: str, episodes: int, seed: int) -> list[Item]:
    """Episodes of an environment that names no tasks."""
    keys = [f"{task_name(env_id)}/{index}" for index in range(episodes)]
    return [Item(key, item_seed(seed, key)) for key in keys]


def task_name(env_id: str) -> str:
    """What the task of an environment without named tasks is called: its id, without namespace and version."""
    return env_id.rpartition(":")[2].rpartition("/")[2].rpartition("-v")[0] or env_id


def chain_items(chains: int, seed: int) -> list[Item]:
    """The first `chains` chains of the benchmark."""
    return [
        Item(f"chain/{index}", item_seed(seed, f"chain/{index}"), {"chain": index}, index) for index in range(chains)
    ]


def play(env: Any, agent: Agent, item: Item, recorder: Recorder | None = None, caption: str = "") -> Episode:
    """Play `item` to its end.

    In chains a positive reward means that a task was solved, and `info["task"]` names the next one. Elsewhere the last
    `info` says whether the episode was a success, in `is_success` or `success`. If it does not, a positive reward
    counts as in chains where `info` names a `task`; where it names none there is no attempt, and only the rewards
    count.

    Args:
        env: a Gymnasium environment.
        recorder: sees every step; `caption` is written into its frames.
    """
    begun = time.perf_counter()
    where = f"{env.spec.id if env.spec else type(env.unwrapped).__name__}, {item.key},"
    rendered = _render_seconds(env)
    observation, info = env.reset(seed=item.seed, options=dict(item.options))
    agent.reset(env, item.seed)
    attempts: list[Attempt] = []
    by_reward = "chain" in info or ("task" in info and not {"is_success", "success"} & info.keys())
    steps, attempt_steps, total, acting, over = 0, 0, 0.0, 0.0, False
    while not over:
        watchdog.alive(where)
        task = str(info.get("task", item.key.rpartition("/")[0]))
        instruction = str(info.get("instruction", "")) if item.instruction is None else item.instruction
        if recorder:
            recorder.add(observation, instruction, caption)
        asked = time.perf_counter()
        try:
            action = agent.act(instructed(observation, info, item.instruction))
        except ValueError as error:  # such as what is not finite
            raise UserError(f"{item.key}, step {steps}: {error}") from error
        acting += time.perf_counter() - asked
        check_action(action, env.action_space, f"{item.key}, step {steps}")
        observation, reward, terminated, truncated, info = env.step(action)
        if not np.isfinite(reward):
            raise UserError(f"{item.key}, step {steps}: the environment gave a reward that is not finite, {reward}")
        steps, attempt_steps, total = steps + 1, attempt_steps + 1, total + float(reward)
        over = terminated or truncated
        if steps == LONG and not over:
            warnings.warn(
                f"{where} has not ended after {LONG:,} steps: if nothing ends the environment's episodes, register it "
                "with max_episode_steps",
                stacklevel=2,
            )
        success = bool(reward > 0) if by_reward else info.get("is_success", info.get("success")) if over else None
        if success or (over and success is not None):
            attempts.append(Attempt(task, bool(success), attempt_steps, instruction))
            attempt_steps = 0
    if recorder:
        known = item.scored and attempts
        outcome = ("success" if attempts[-1].success else "failure") if known else "not scored"
        recorder.add(observation, instruction, caption, outcome)
    return Episode(
        item.key,
        tuple(attempts),
        steps,
        round(time.perf_counter() - begun, 3),
        item.seed,
        item.chain,
        total,
        round(acting, 3),
        round(_render_seconds(env) - rendered, 3),
    )


def check_action(action: Any, space: Any, where: str) -> None:
    """Refuse an action that is no number or of another shape than the space of a continuous action.

    Raises:
        UserError: it does; the text begins with `where`.
    """
    shape = getattr(space, "shape", None)
    if not shape:  # discrete actions: the environment knows best
        return
    if np.shape(action) != shape:
        raise UserError(
            f"{where}: the policy gave an action of shape {np.shape(action)}, but the environment takes {shape}"
        )
    if not np.isfinite(action).all():
        raise UserError(f"{where}: the policy gave an action that is not finite, {np.asarray(action).tolist()}")


def _render_seconds(env: Any) -> float:
    return float(getattr(env.unwrapped, "render_seconds", 0.0))
