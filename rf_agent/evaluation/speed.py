"""How fast the simulator and the policy are on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rf_agent.environments import Environments, instructed, is_ours
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import NEVER
from rf_agent.evaluation.runner import make_env


@dataclass(frozen=True)
class Speed:
    """One measurement: the median, the lowest and the highest of its repeats."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    env: str | None = None
    """The environment that was measured, if any."""

    @classmethod
    def of(cls, name: str, unit: str, values: list[float], env: str | None = None) -> Speed:
        """Of the values of the repeats."""
        return cls(name, unit, statistics.median(values), min(values), max(values), env)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the environment `env` is as `other`: median, lowest and highest of the repeats."""

    name: str
    env: str
    other: str
    median: float
    low: float
    high: float


def repeated(name: str, unit: str, repeats: int, measure: Callable[[], float]) -> Speed:
    """Of so many measurements, after one that does not count."""
    measure()  # caches, lazily made simulators and thread pools
    return Speed.of(name, unit, [measure() for _ in range(repeats)])


def simulators(
    env_ids: Sequence[str], repeats: int, steps: int, renderer: str | None = None
) -> tuple[list[Speed], list[Ratio]]:
    """Environment steps a second under small random motions, with both cameras at every step and with none.

    The environments take turns, so that whatever else the machine does slows all of them, and each repeat gives
    ratios of its own.

    Args:
        env_ids: which; other environments than this project's have no row without cameras.
        repeats: measurements of each.
        steps: environment steps of a measurement with cameras; without, five times as many.
        renderer: for environments that have a choice.

    Returns:
        The speeds, and how many times as fast the first environment is as each of the others.

    Raises:
        UserError: a renderer was given that none of the environments draws with.
    """
    speeds, ratios = [], []
    with Environments() as environments:
        # a step without cameras is over so soon that a measurement needs more of them
        for name, render_every, count in (("both cameras", 1, steps), ("physics only", NEVER, 5 * steps)):
            measured = [env_id for env_id in env_ids if render_every == 1 or is_ours(env_id)]
            envs = {env_id: _open(environments, env_id, render_every, renderer) for env_id in measured}
            rounds = [{env_id: _steps_per_second(envs[env_id], count) for env_id in envs} for _ in range(repeats + 1)]
            del rounds[0]  # caches and lazily made simulators
            for env_id, env in envs.items():
                what = f"{name} ({_renderer(env)})" if render_every == 1 else name
                speeds.append(Speed.of(f"simulator, {what}", "steps/s", [values[env_id] for values in rounds], env_id))
            for other in measured[1:]:
                values = [values[measured[0]] / values[other] for values in rounds]
                ratios.append(Ratio(name, measured[0], other, statistics.median(values), min(values), max(values)))
            used = [_renderer(env) for env in envs.values()]
            if render_every == 1 and renderer not in (None, "auto", *used):
                raise UserError(f"--renderer is {renderer}, but {' and '.join(env_ids)} draw with {' and '.join(used)}")
            environments.close()
    return speeds, ratios


def _open(environments: Environments, env_id: str, render_every: int, renderer: str | None) -> Any:
    """This process's environment, with the renderer if it has a choice."""
    env = _made(environments, env_id, render_every, renderer)
    if not hasattr(env.action_space, "low"):
        raise UserError(f"the actions of {env_id} are {env.action_space}: give an environment with a Box of them")
    return env


def _made(environments: Environments, env_id: str, render_every: int, renderer: str | None) -> Any:
    if renderer is None:
        return make_env(environments, env_id, render_every)
    options = {"render_every": render_every} if is_ours(env_id) else {}
    try:
        return environments.get(env_id, **options, renderer=renderer)
    except ValueError as error:
        if not isinstance(error.__cause__, TypeError):
            raise
        return environments.get(env_id, **options)  # it knows no renderers


def _renderer(env: Any) -> str:
    return str(getattr(env.unwrapped, "renderer", "its own renderer"))


def _steps_per_second(env: Any, steps: int) -> float:
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    actions = rng.uniform(-0.5, 0.5, (steps, *env.action_space.shape)).astype(np.float32)
    begun = time.perf_counter()
    for action in actions:
        env.step(action)
    return steps / (time.perf_counter() - begun)


def policy(env_id: str, model: Any, repeats: int, steps: int, renderer: str | None = None) -> list[Speed]:
    """Milliseconds of `act` at an observation step and at a queued action, and steps/s with the simulator."""
    with Environments() as environments:
        return _policy(_open(environments, env_id, model.config.head.replan_every, renderer), model, repeats, steps)


def _policy(env: Any, model: Any, repeats: int, steps: int) -> list[Speed]:
    replan_every = model.config.head.replan_every
    observation = instructed(*env.reset(seed=0))

    def latency(phase: int) -> float:
        model.reset()
        times = []
        for index in range(replan_every * 10):
            begun = time.perf_counter()
            model.act(observation)
            if min(index % replan_every, 1) == phase:
                times.append(time.perf_counter() - begun)
        return 1000 * statistics.median(times)

    def together() -> float:
        newest = instructed(*env.reset(seed=0))
        model.reset()
        begun = time.perf_counter()
        for step in range(steps):
            seen, _, terminated, truncated, info = env.step(model.act(newest))
            newest = instructed(seen, info)
            if terminated or truncated:
                newest = instructed(*env.reset(seed=step))
                model.reset()
        return steps / (time.perf_counter() - begun)

    speeds = [repeated("policy, an observation step", "ms", repeats, lambda: latency(0))]
    if replan_every > 1:
        speeds.append(repeated("policy, a queued action", "ms", repeats, lambda: latency(1)))
    return [*speeds, repeated("simulator and policy", "steps/s", repeats, together)]
