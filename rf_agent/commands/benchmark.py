"""`rf-agent benchmark`: speed of simulator, policy and trainer on this machine."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rf_agent.errors import UserError
from rf_agent.evaluation import speed
from rf_agent.evaluation.agents import SCRIPTED, load_policy, pick_device
from rf_agent.evaluation.report import versions, write_json


@dataclass(kw_only=True)
class Args:
    """Measure the speed of simulator, policy and trainer here."""

    env: str = "rf/PlayTableD-v0"
    """Environment of single tasks."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory or the name of a bundled policy."""
    preset: str | None = None
    """Measure a control step of this preset's network instead, by part, without any environment."""
    random_weights: bool = False
    """Give the preset random weights: nothing is downloaded."""
    dtype: tuple[str, ...] = ("bfloat16",)
    """Number formats of the preset's network, measured one after the other."""
    environments: tuple[int, ...] = (1,)
    """Numbers of environments in which the preset's network acts at once."""
    compile: bool = False
    """Compile the preset's network."""
    repeats: int = 5
    """Measurements of each; the median is reported."""
    steps: int = 100
    """Environment steps of a measurement."""
    device: str = "auto"
    """Where the policy computes: auto, cpu, cuda, ..."""
    threads: int | None = None
    """CPU threads of the policy; torch's choice if not given."""
    output: Path | None = None
    """A JSON file for the result."""


def run(args: Args) -> None:
    """Measure and print a table."""
    import torch

    for name in ("repeats", "steps", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}: give 1 or more")
    if args.preset is not None:
        return _control_step(args, args.preset)
    if args.policy in SCRIPTED:
        raise UserError(
            f"--policy {args.policy} has no network to measure: give a checkpoint directory or a bundled name"
        )
    device = pick_device(args.policy, args.device)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model = load_policy(args.policy, device)
    console = Console(soft_wrap=True, highlight=False)
    with console.status("measuring"):
        speeds = speed.simulator(args.env, args.repeats, args.steps)
        speeds += speed.policy(args.env, model, args.repeats, args.steps)
        speeds.append(speed.training(model, args.repeats))
    machine = _machine(device)
    table = Table("what", "median", "range", "unit", title=f"{args.policy} on {machine}")
    for entry in speeds:
        table.add_row(entry.name, f"{entry.median:.1f}", f"{entry.low:.1f} – {entry.high:.1f}", entry.unit)
    for column in table.columns[1:3]:
        column.justify = "right"
    console.print(table)
    if args.output:
        measured = [asdict(entry) for entry in speeds]
        content = {"env": args.env, "policy": args.policy, "machine": machine, "versions": versions()}
        write_json(args.output, {**content, "speeds": measured})
        console.print(f"{args.output}")


def _machine(device: str) -> str:
    """What computes, in words."""
    import torch

    parts = [
        f"{os.cpu_count()} cores",
        f"{torch.get_num_threads()} threads",
        platform.machine(),
        f"torch {torch.__version__}",
    ]
    return ", ".join([*parts, torch.cuda.get_device_name(device)] if device != "cpu" else parts)


def _control_step(args: Args, preset: str) -> None:
    """Measure and print what one control step of the preset's network costs."""
    import torch

    from rf_agent.devices import resolve_device, resolve_dtype
    from rf_agent.evaluation import step_cost

    device = resolve_device(args.device)
    dtypes = [resolve_dtype(name) for name in args.dtype]
    if not args.environments or min(args.environments) < 1:
        raise UserError(f"--environments is {args.environments}: give numbers from 1 on")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    console = Console(soft_wrap=True, highlight=False)
    machine, costs = _machine(str(device)), []
    for dtype in dtypes:
        with console.status("measuring"):
            policy = step_cost.build(preset, args.random_weights, dtype, device)
            if args.compile:
                policy.compile_acting()
            costs.append(step_cost.measure(policy, args.environments, args.repeats))
            del policy
        console.print(*step_cost.tables(f"{preset} in {costs[-1].dtype} on {machine}", costs[-1]), sep="\n")
        console.print(f"most memory held: {costs[-1].peak_bytes / 1e9:.2f} GB")
    if args.output:
        content = {"preset": preset, "machine": machine, "versions": versions()}
        write_json(args.output, {**content, "costs": [asdict(cost) for cost in costs]})
        console.print(f"{args.output}")
