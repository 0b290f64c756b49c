"""`rf-agent grounding`: does the colour word decide which block is touched?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rf_agent.errors import UserError
from rf_agent.evaluation.agents import fingerprint, pick_device
from rf_agent.evaluation.grounding import Trial, grounding, totals
from rf_agent.evaluation.metrics import wilson_interval
from rf_agent.evaluation.results import interval, percent
from rf_agent.files import check_result_path, write_json
from rf_agent.progress import RichReporter
from rf_agent.workers import usable_cores


@dataclass(kw_only=True)
class Args:
    """The same scene with three colour words: which block does the robot touch first?"""

    env: str = "rf/PlayTableD-v0"
    """Environment of single tasks."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory, the name of a bundled policy, `expert` or `random`."""
    trials: int = 30
    """Scenes; each is played with three colour words."""
    workers: int = usable_cores()
    """Simulator processes."""
    seed: int = 0
    """Seed of the scenes."""
    device: str = "auto"
    """Where the policy computes: auto, cpu, cuda, ..."""
    output: Path | None = None
    """A JSON file for the result."""


def run(args: Args) -> None:
    """Play the trials and print the rates."""
    if args.output:
        check_result_path(args.output)
    if args.trials < 1 or args.workers < 1:
        raise UserError(f"--trials is {args.trials} and --workers {args.workers}: give 1 or more of both")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}: give 0 or more")
    device = pick_device(args.policy, args.device)
    fingerprint(args.policy)
    done: list[Trial] = []
    with RichReporter("grounding") as reporter:

        def progress(trial: Trial) -> None:
            done.append(trial)
            right, runs = totals(done)["named"]
            reporter.update(len(done) / args.trials, f"{right} of {runs} runs touched the named block first")

        trials = grounding(
            args.env,
            args.policy,
            args.trials,
            seed=args.seed,
            workers=args.workers,
            device=device,
            on_trial=progress,
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(_table(trials))
    if args.output:
        rates = {name: {"count": n, "total": total} for name, (n, total) in totals(trials).items()}
        content = {"env": args.env, "policy": args.policy, "seed": args.seed, **rates}
        write_json(args.output, {**content, "trials": [asdict(trial) for trial in trials]})
        console.print(f"{args.output}")


def _table(trials: list[Trial]) -> Table:
    table = Table("first block touched", "count", "rate", "95 % interval")
    for column in table.columns[1:]:
        column.justify = "right"
    for task in dict.fromkeys(trial.task for trial in trials):
        some = [trial for trial in trials if trial.task == task]
        if some:
            _row(table, f"named block first: {task.format('*')}", some, "named")
    table.add_section()
    _row(table, "named block first: all", trials, "named")
    _row(table, "other colour, other block (pairs)", trials, "changed")
    return table


def _row(table: Table, name: str, trials: list[Trial], which: str) -> None:
    count, total = totals(trials)[which]
    # the runs and pairs of a trial begin alike, so that they are no independent tries
    ends = wilson_interval(count / total * len(trials), len(trials))
    table.add_row(name, f"{count}/{total}", percent(count / total), interval(*ends))
