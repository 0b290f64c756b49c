"""How fast the simulator, the policy and a training step are on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def _repeated(name: str, unit: str, repeats: int, measure: Callable[[], float]) -> Speed:
    measure()  # caches, lazily made simulators and thread pools
    values = sorted(measure() for _ in range(repeats))
    return Speed(name, unit, statistics.median(values), values[0], values[-1])


def simulator(env_id: str, repeats: int, steps: int) -> list[Speed]:
    """Environment steps a second under small random motions, with both cameras at every step and none."""
    speeds = []
    for name, render_every in (("simulator, both cameras", 1), ("simulator, physics only", NEVER)):
        env = make_env(env_id, render_every)

        def measure(env: Any = env) -> float:
            rng = np.random.default_rng(0)
            env.reset(seed=0)
            actions = rng.uniform(-0.5, 0.5, (steps, *env.action_space.shape)).astype(np.float32)
            begun = time.perf_counter()
            for action in actions:
                env.step(action)
            return steps / (time.perf_counter() - begun)

        speeds.append(_repeated(name, "steps/s", repeats, measure))
    return speeds


def policy(env_id: str, model: Any, repeats: int, steps: int) -> list[Speed]:
    """Milliseconds of `act` when it looks and when it does not, and steps/s with the simulator."""
    execute = model.config.head.look_every
    env = make_env(env_id, execute)
    observation, _ = env.reset(seed=0)

    def latency(phase: int) -> float:
        model.reset()
        times = []
        for index in range(execute * 10):
            begun = time.perf_counter()
            model.act(observation)
            if min(index % execute, 1) == phase:
                times.append(time.perf_counter() - begun)
        return 1000 * statistics.median(times)

    def together() -> float:
        newest, _ = env.reset(seed=0)
        model.reset()
        begun = time.perf_counter()
        for step in range(steps):
            newest, _, terminated, truncated, _ = env.step(model.act(newest))
            if terminated or truncated:
                newest, _ = env.reset(seed=step)
        return steps / (time.perf_counter() - begun)

    speeds = [_repeated("policy, a look", "ms", repeats, lambda: latency(0))]
    if execute > 1:
        speeds.append(_repeated("policy, a queued action", "ms", repeats, lambda: latency(1)))
    return [*speeds, _repeated("simulator and policy", "steps/s", repeats, together)]


def training(model: Any, repeats: int, batch_size: int = 8) -> Speed:
    """Frames a second through loss, gradients and update of what imitation trains, on random windows."""
    import copy

    import torch

    learner = copy.deepcopy(model).train()
    learner.set_trainable()
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    config, device = model.config, model.device
    window = config.head.window
    tokens, mask = learner.tokenize(["push the red block to the left"] * batch_size)
    size = config.image.size
    generator = torch.Generator().manual_seed(0)
    batch = {
        "pixels": torch.rand(batch_size, window, len(config.views), 3, size, size, generator=generator).to(device),
        "tokens": tokens,
        "token_mask": mask,
        "actions": torch.rand(batch_size, window, config.head.chunk, 7, generator=generator).to(device),
        "mask": torch.ones(batch_size, window, dtype=torch.bool, device=device),
        "robot_obs": torch.zeros(batch_size, window, 15, device=device),
    }

    def measure() -> float:
        begun = time.perf_counter()
        for _ in range(2):
            loss, _ = learner(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        float(loss.detach())  # waits for the GPU
        return 2 * batch_size * window / (time.perf_counter() - begun)

    return _repeated("training", "frames/s", repeats, measure)
