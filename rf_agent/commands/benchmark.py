"""`rf-agent benchmark`: speed of simulator, policy and trainer on this machine."""

from __future__ import annotations

import copy
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from rf_agent.errors import UserError
from rf_agent.evaluation import speed
from rf_agent.evaluation.agents import Execution, has_network, load_policy, pick_device
from rf_agent.files import check_result_path, write_json
from rf_agent.unused import refuse_unused
from rf_agent.versions import versions


@dataclass(kw_only=True)
class Args:
    """Measure the speed of simulator, policy and trainer here."""

    what: tyro.conf.Positional[Literal["all", "train"]] = "all"
    """`train` compares training with a trainer that computes every window by itself: speed, and the most memory."""
    env: tuple[str, ...] = ("rf/PlayTableD-v0",)
    """Environments. The simulators of several take turns, and it is said how many times as fast the first is as each of
    the others. The policy plays in the first."""
    renderer: str | None = None
    """What draws in environments that have a choice, such as rf/CalvinD-v0: tiny, egl or auto."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory or the name of a bundled policy."""
    preset: str | None = None
    """Measure a control step of this preset's network instead, by part, without any environment."""
    random_weights: bool = False
    """Give the preset random weights: nothing is downloaded."""
    dtype: tuple[str, ...] = ()
    """Number format of the policy's network, float32 if not given; of a preset's, bfloat16 if not given, several are
    measured one after the other. Training is measured in float32."""
    environments: tuple[int, ...] = (1,)
    """Numbers of environments in which the preset's network acts at once."""
    compile: bool = False
    """Compile the network that acts."""
    sequences: int = 8
    """Sequences of a training step."""
    sequence_length: int = 16
    """Observation steps of a training sequence."""
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

    from rf_agent.training.speed import Trainer

    for name in ("repeats", "steps", "threads", "sequences", "sequence_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}: give 1 or more")
    _refuse_unused(args)
    if args.output is not None:
        check_result_path(args.output)
    if args.preset is not None:
        return _control_step(args, args.preset)
    if args.what == "train":
        return _training(args)
    if len(args.dtype) > 1:
        raise UserError(f"--dtype is {' '.join(args.dtype)}: give one; several are measured of a --preset")
    if not args.env or len(set(args.env)) < len(args.env):
        raise UserError(f"--env is {' '.join(args.env) or 'empty'}: give one environment, or several different ones")
    if not has_network(args.policy):
        raise UserError(
            f"--policy {args.policy} has no network to measure: give a checkpoint directory or a bundled name"
        )
    device = pick_device(args.policy, args.device)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model = load_policy(args.policy, device)
    trainer = Trainer("first pass", copy.deepcopy(model), args.sequences, args.sequence_length)
    execution = Execution(dtype=args.dtype[0] if args.dtype else "float32", compile=args.compile)
    if args.dtype or args.compile:
        model = load_policy(args.policy, device, execution)
    console = Console(soft_wrap=True, highlight=False)
    with console.status("measuring"):
        speeds, ratios = speed.simulators(args.env, args.repeats, args.steps, args.renderer)
        speeds += speed.policy(args.env[0], model, args.repeats, args.steps, args.renderer)
        speeds.append(speed.repeated("training, frames of all windows", "frames/s", args.repeats, trainer.measure))
    machine = _machine(device)
    way = f" in {execution.dtype}{', compiled' if execution.compile else ''}" if args.dtype or args.compile else ""
    console.print(_table(f"{args.policy}{way} on {machine}", speeds, ratios))
    if args.output:
        content = {"env": args.env[0], "policy": args.policy, "machine": machine, "versions": versions()}
        budget = {name: getattr(args, name) for name in ("repeats", "steps", "sequences", "sequence_length")}
        how = {"dtype": execution.dtype, "compile": execution.compile, **budget}
        measured = {"speeds": [asdict(entry) for entry in speeds], "ratios": [asdict(entry) for entry in ratios]}
        write_json(args.output, {**content, **how, **measured})
        console.print(f"{args.output}")


UNUSED = {
    "--preset": ("what", "env", "renderer", "policy", "sequences", "sequence_length", "steps"),
    "train": ("env", "renderer", "dtype", "compile", "environments", "random_weights", "steps"),
    "a policy": ("random_weights", "environments"),
}
"""Options that say nothing about what is measured."""


def _refuse_unused(args: Args) -> None:
    mode = "--preset" if args.preset is not None else "train" if args.what == "train" else "a policy"
    refuse_unused(args, UNUSED[mode], f"{mode} is measured", positional=("what",))


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


def _training(args: Args) -> None:
    """Measure and print how fast imitation trains."""
    import torch

    from rf_agent.training.speed import compare

    if not has_network(args.policy):
        raise UserError(f"--policy {args.policy} does not learn: give a checkpoint directory or a bundled name")
    device = pick_device(args.policy, args.device)
    if args.threads is not None:
        torch.set_num_threads(args.threads)  # the processes that train have as many, and the table says so
    console = Console(soft_wrap=True, highlight=False)
    with console.status("measuring"):
        sides = compare(args.policy, device, args.repeats, args.sequences, args.sequence_length, args.threads)
    table = Table("training", "frames/s", "range", "times as fast", "memory", "of it", title=_machine(device))
    for column in table.columns[1:]:
        column.justify = "right"
    first = sides[0]
    for side in sides:
        scale = side.frames_per_second / statistics.median(side.windows_per_second)
        rates = [scale * value for value in side.windows_per_second]
        table.add_row(
            side.name,
            f"{side.frames_per_second:.0f}",
            f"{min(rates):.0f} – {max(rates):.0f}",
            f"{side.frames_per_second / first.frames_per_second:.1f}",
            f"{side.peak_bytes / 2**20:.0f} MiB",
            f"{side.peak_bytes / max(first.peak_bytes, 1):.0%}",
        )
    console.print(table)
    console.print("frames/s: of all windows learned, a frame counted in each that holds it; memory: beyond the model's")
    if args.output:
        amount = {name: getattr(args, name) for name in ("repeats", "sequences", "sequence_length")}
        content = {"policy": args.policy, "machine": _machine(device), "versions": versions(), **amount}
        write_json(args.output, {**content, "training": [asdict(side) for side in sides]})
        console.print(f"{args.output}")


def _control_step(args: Args, preset: str) -> None:
    """Measure and print what one control step of the preset's network costs."""
    import torch

    from rf_agent.devices import resolve_device, resolve_dtype
    from rf_agent.evaluation import step_cost
    from rf_agent.memory import reset_peak

    device = resolve_device(args.device)
    dtypes = [resolve_dtype(name) for name in args.dtype or ("bfloat16",)]
    if not args.environments or min(args.environments) < 1:
        raise UserError(f"--environments is {args.environments}: give numbers from 1 on")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    console = Console(soft_wrap=True, highlight=False)
    machine, costs = _machine(str(device)), []
    for dtype in dtypes:
        reset_peak(device)  # of the format before
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
