"""The benchmark from Python: any agent in any Gymnasium environment, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rf_agent.environments import Environments
from rf_agent.errors import UserError
from rf_agent.evaluation import custom
from rf_agent.evaluation.agents import Agent, Execution, fingerprint, has_network, load_agent
from rf_agent.evaluation.episode import play
from rf_agent.evaluation.metrics import CHAIN_LENGTH, Episode
from rf_agent.evaluation.results import build_results
from rf_agent.evaluation.runner import check_counts, choose_items, env_facts, make_env, requested, with_renderer
from rf_agent.evaluation.worker import one_thread


def evaluate_agent(
    agent: Any,
    env_id: str,
    *,
    chains: int | None = None,
    episodes_per_task: int | None = None,
    tasks: Sequence[str] = (),
    seed: int = 0,
    env_options: Mapping[str, Any] | None = None,
    on_episode: Callable[[Episode], None] | None = None,
) -> dict[str, Any]:
    """Play the episodes that `rf-agent evaluate` would play, and return what it writes to `results.json`.

    Args:
        agent: an object with `act(observation)` (and `reset()`, if it remembers anything), one with
            Stable-Baselines3's `predict`, or a name that `--policy` takes. For a name torch computes with one thread,
            as in the command.
        env_id: Gymnasium id. Of environments whose `info` names no task, `success_rate` counts the last `info`'s
            `is_success` or `success`, and `return` the rewards.
        chains: in environments of chains, how many; 100 if not given.
        episodes_per_task: in others, episodes of each task; 20 if not given.
        tasks: which; all of the environment if none are given, also for a checkpoint of which the command plays the
            tasks that it was trained on.
        seed: of the scenes.
        env_options: further arguments of the environment.
        on_episode: called with each episode as it finishes.

    Raises:
        UserError: the agent is none, or gives what is no action of the environment; or what is asked does not fit the
            environment.
        ValueError: there is no such environment or task.

    Examples:
        >>> results = evaluate_agent(policy, "rf/PlayTableChainD-v0", chains=10)
        >>> results["average_length"]["mean"]
    """
    if isinstance(tasks, str):
        raise UserError(f"tasks is {tasks!r}: give a list of names, such as [{tasks!r}]")
    check_counts(chains, episodes_per_task)
    name = agent if isinstance(agent, str) else None
    player: Agent = custom.as_agent(agent) if name is None else load_agent(name)
    facts = env_facts(env_id, tasks, env_options)  # closes what it asks: with EGL a process has one simulator
    options = with_renderer(env_id, env_options or {}, facts.renderer)
    items = choose_items(env_id, facts, chains, episodes_per_task, tasks, seed)
    with Environments() as environments, one_thread(name) if name is not None else contextlib.nullcontext():
        env = make_env(environments, env_id, player.render_every, env_options=options)
        episodes = []
        for item in items:
            episodes.append(play(env, player, item))
            if on_episode:
                on_episode(episodes[-1])
    return build_results(
        episodes,
        env=env_id,
        env_options=options,
        policy=type(agent).__name__ if name is None else name,
        weights=None if name is None else fingerprint(name),
        seed=seed,
        renderer=facts.renderer,
        seconds=sum(episode.seconds for episode in episodes),
        length=CHAIN_LENGTH if facts.chained else 1,
        execution=asdict(Execution().resolved(name)) if name is not None and has_network(name) else {},
        requested=requested(facts, items),
    )
