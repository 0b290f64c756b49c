"""What one control step of a policy costs: time, memory and arithmetic, by part of the network.

Needs no environment and no trained weights, so that the full-size policies of the paper can be measured anywhere.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from rf_agent.acting.compiled import eager_step
from rf_agent.base_policy import BasePolicy
from rf_agent.checkpoint import CheckpointError
from rf_agent.errors import UserError
from rf_agent.memory import peak_memory
from rf_agent.nn.initialization import EmptyInit, cast_uninitialized
from rf_agent.policies import load_policy, policy_class
from rf_agent.policy_model import PolicyModel
from rf_agent.presets import find_checkpoint, preset
from rf_agent.tokenizer import build_tokenizer

INSTRUCTION = "push the red block to the left"
SIDES = (200, 84)
"""Sides of the first two cameras' images, in pixels, as in CALVIN; further ones are as large as the first."""


@dataclass(frozen=True)
class Part:
    """A part of the network, or all of it."""

    name: str
    parameters: int
    weight_bytes: int
    flops: int
    """Operations of one observation step of one environment; a multiplication and an addition count as two."""
    milliseconds: float
    """Median time in one observation step of one environment."""


@dataclass(frozen=True)
class StepTime:
    """An observation step of several environments at once: median, lowest and highest time of all its repeats."""

    environments: int
    milliseconds: float
    low: float
    high: float


@dataclass(frozen=True)
class StepCost:
    """What was measured of one policy."""

    dtype: str
    text_tokens: int
    parts: tuple[Part, ...]
    """In the order in which a step runs through them, then what comes before them, then the sum; empty for compiled
    policies, which have no parts."""
    steps: tuple[StepTime, ...]
    peak_bytes: int
    """Most memory that this process has held until now; of the GPU where the policy is on one."""


def build(name: str, random: bool, dtype: torch.dtype, device: torch.device | str = "cpu") -> BasePolicy:
    """The policy of a preset: with `random` weights, or else the trained one that comes with the package.

    Raises:
        UserError: there is no such preset, or no trained policy of it.
    """
    if random:
        return random_policy(name, dtype, device)
    preset(name)  # its error says which there are
    try:
        return load_policy(find_checkpoint(name), device, dtype)
    except CheckpointError as error:
        raise UserError(f"no trained {name!r} comes with this installation: add --random-weights") from error


def random_policy(
    name: str, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu", seed: int = 0
) -> BasePolicy:
    """A policy to be measured: the preset `name` with random weights and a tokenizer of its own.

    It is built at once in `dtype`, without the initial values of a policy that shall learn.
    """
    config = preset(name)
    tokenizer = build_tokenizer([INSTRUCTION], config.language.model["vocab_size"])
    with EmptyInit():
        policy = policy_class(config.type)(config, tokenizer)
    cast_uninitialized(policy, dtype)
    policy = policy.to(device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(seed)
    for key, parameter in policy.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.02, generator=generator)
        else:  # scales of norms and gates are 1, biases 0
            parameter.fill_(0.0 if key.endswith("bias") else 1.0)
    return policy


def measure(policy: BasePolicy, environments: tuple[int, ...] = (1,), repeats: int = 5) -> StepCost:
    """What observation steps of `policy` cost, in so many environments at once."""
    compiled = policy._step is not eager_step
    measured = []
    for count in environments:
        given = observation(policy, count)
        policy.reset()
        for _ in range(2):  # caches, thread pools, compilation
            policy.predict_action_chunk(given)
        times = sorted(_timed(policy, given) for _ in range(repeats))
        measured.append(StepTime(count, statistics.median(times), times[0], times[-1]))
    policy.reset()
    parts = () if compiled else _parts(policy, observation(policy, 1), repeats)
    policy.reset()
    tokens = policy.tokenize([INSTRUCTION])[0].shape[1]
    dtype = str(policy.dtype).removeprefix("torch.")
    return StepCost(dtype, tokens, parts, tuple(measured), peak_memory(policy.device))


def observation(policy: BasePolicy, n: int) -> dict[str, Any]:
    """Random camera images of `n` environments, in the sizes of the play table's."""
    rng = np.random.default_rng(0)
    sides = zip(policy.config.views, itertools.chain(SIDES, itertools.repeat(SIDES[0])), strict=False)
    images = {view: rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8) for view, side in sides}
    state = np.zeros((n, policy.config.state.dim), dtype=np.float32)
    return {**images, policy.config.state.key: state, "instruction": [INSTRUCTION] * n}


def _timed(policy: BasePolicy, given: dict[str, Any]) -> float:
    """Milliseconds of one observation step; it ends with the actions on the CPU, so that a GPU has finished."""
    begun = time.perf_counter()
    policy.predict_action_chunk(given)
    return 1000 * (time.perf_counter() - begun)


def _parts(policy: BasePolicy, given: dict[str, Any], repeats: int) -> tuple[Part, ...]:
    """Cost of each part, and of all of them."""

    def clock() -> float:
        if policy.device.type == "cuda":
            torch.cuda.synchronize(policy.device)
        return 1000 * time.perf_counter()

    runs = [_by_part(policy, given, clock) for _ in range(repeats + 1)][1:]
    times = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    counter = FlopCount()
    with counter, sdpa_kernel(SDPBackend.MATH):  # its products are counted, those in fused kernels are not
        flops = _by_part(policy, given, lambda: counter.total, PolicyModel.step)
    modules: dict[str, list[nn.Module]] = {
        **policy.stages,
        "head": [policy.head],
        "images and text": [],
        "in all": [policy],
    }
    parts = []
    for name, its in modules.items():
        own = [p for module in its for p in module.parameters()]
        size = sum(p.numel() * p.element_size() for p in own)
        parts.append(Part(name, sum(p.numel() for p in own), size, int(flops[name]), times[name]))
    return tuple(parts)


def _by_part(
    policy: BasePolicy, given: dict[str, Any], read: Callable[[], float], step: Callable[..., Any] = eager_step
) -> dict[str, float]:
    """By how much what `read` returns grows in each part during one step."""
    grown = dict.fromkeys(policy.stages, 0.0)
    running: list[tuple[str, float]] = []
    network = 0.0

    def metered(*arguments: Any) -> Any:
        nonlocal network
        begun = read()
        out = step(*arguments)
        network += read() - begun
        return out

    with ExitStack() as stack:
        for name, modules in policy.stages.items():
            for module in modules:
                # of a language model of `transformers` the part without its output layer runs
                stack.enter_context(_grows(getattr(module, "base_model", module), read, grown, name, running))
        stack.callback(setattr, policy, "_step", policy._step)
        policy._step = metered
        begun = read()
        policy.predict_action_chunk(given)
        total = read() - begun
    return {**grown, "head": network - sum(grown.values()), "images and text": total - network, "in all": total}


@contextmanager
def _grows(
    module: nn.Module, read: Callable[[], float], grown: dict[str, float], name: str, running: list[tuple[str, float]]
) -> Iterator[None]:
    """While `module` runs, what `read` returns grows `grown[name]`, and not that of the part which runs it.

    `running` holds the parts that run, the innermost last, and what `read` returned when they began.
    """

    def end(*_: Any) -> None:
        grew = read() - running.pop()[1]
        grown[name] += grew
        if running:
            grown[running[-1][0]] -= grew

    hooks = (
        module.register_forward_pre_hook(lambda *_: running.append((name, read()))),
        module.register_forward_hook(end, always_call=True),  # an exception may leave out the last decoder layer
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class FlopCount(TorchDispatchMode):
    """Counts the operations of matrix products and convolutions, as torch's flop counter does."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket not in flop_registry:
            with self:  # of what consists of others, these are counted
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        return out


def tables(title: str, cost: StepCost) -> list[Table]:
    """The figures as tables, to be printed."""
    rows = []
    if cost.parts:
        by_part = Table("part", "parameters", "weights", "GFLOP", "ms", "share", title=title)
        total = cost.parts[-1]
        for part in cost.parts:
            by_part.add_row(
                part.name,
                f"{part.parameters / 1e6:,.1f} M",
                f"{part.weight_bytes / 1e6:,.0f} MB",
                f"{part.flops / 1e9:,.2f}",
                f"{part.milliseconds:,.1f}",
                f"{part.milliseconds / total.milliseconds:.0%}",
            )
        by_part.rows[-2].end_section = True
        rows.append(by_part)
    by_count = Table("environments", "ms a step", "range", "ms per environment", title=None if rows else title)
    for step in cost.steps:
        times = f"{step.milliseconds:,.1f}", f"{step.low:,.1f} – {step.high:,.1f}"
        by_count.add_row(str(step.environments), *times, f"{step.milliseconds / step.environments:,.1f}")
    for table in (*rows, by_count):
        for column in table.columns[1:]:
            column.justify = "right"
    return [*rows, by_count]
