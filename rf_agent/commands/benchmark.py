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

    env: tuple[str, ...] = ("rf/PlayTableD-v0",)
    """Environments. The simulators of several take turns, and it is said how many times as fast the first is as each of
    the others. The policy plays in the first."""
    renderer: str | None = None
    """What draws in environments that have a choice, such as rf/CalvinD-v0: tiny, egl or auto."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory or the name of a bundled policy."""
    repeats: int = 5
    """Measurements of each; the median is reported."""
    steps: int = 100
    """Environment steps of a measurement; five times as many where nothing is drawn."""
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
    if not args.env or len(set(args.env)) < len(args.env):
        raise UserError(f"--env is {' '.join(args.env) or 'empty'}: give one environment, or several different ones")
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
        speeds, ratios = speed.simulators(args.env, args.repeats, args.steps, args.renderer)
        speeds += speed.policy(args.env[0], model, args.repeats, args.steps, args.renderer)
        speeds.append(speed.training(model, args.repeats))
    parts = [
        f"{os.cpu_count()} cores",
        f"{torch.get_num_threads()} threads",
        platform.machine(),
        f"torch {torch.__version__}",
    ]
    machine = ", ".join([*parts, torch.cuda.get_device_name(device)] if device != "cpu" else parts)
    console.print(_table(f"{args.policy} on {machine}", speeds, ratios))
    if args.output:
        content = {"env": args.env[0], "policy": args.policy, "machine": machine, "versions": versions()}
        measured = {"speeds": [asdict(entry) for entry in speeds], "ratios": [asdict(entry) for entry in ratios]}
        write_json(args.output, {**content, **measured})
        console.print(f"{args.output}")


def _table(title: str, speeds: list[speed.Speed], ratios: list[speed.Ratio]) -> Table:
    table = Table("what", "median", "range", "unit", title=title)
    several = len({entry.env for entry in speeds if entry.env}) > 1
    for entry in speeds:
        name = f"{entry.env}, {entry.name}" if entry.env and several else entry.name
        table.add_row(name, f"{entry.median:.1f}", f"{entry.low:.1f} – {entry.high:.1f}", entry.unit)
    table.add_section()
    for ratio in ratios:
        name = f"{ratio.env} : {ratio.other}, {ratio.name}"
        table.add_row(name, f"{ratio.median:.2f}", f"{ratio.low:.2f} – {ratio.high:.2f}", "times as fast")
    for column in table.columns[1:3]:
        column.justify = "right"
    return table
