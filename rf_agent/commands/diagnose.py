"""`rf-agent diagnose`: why a policy scores zero."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rf_agent.diagnosis.report import show, write
from rf_agent.diagnosis.run import Diagnosis, diagnose
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import pick_device
from rf_agent.evaluation.options import parse_options
from rf_agent.files import check_result_folder
from rf_agent.progress import RichReporter


@dataclass(kw_only=True)
class Args:
    """Say why a policy scores zero: replay recorded actions in the environment, compare the policy's actions with them
    and the environment's observations with the recorded ones, and check the checkpoint."""

    policy: str
    """A checkpoint directory, the name of a bundled policy, `expert` or `random` (replay and observations alone)."""
    demos: Path
    """Demonstrations that the policy should be able to repeat: an HDF5 file, or the folder of a data set of CALVIN,
    LeRobot or Minari."""
    env: str
    """Environment of single tasks in which it scores zero."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environment as NAME=VALUE, see `rf-agent rollout --help`."""
    episodes: int = 8
    """Demonstrations to look at."""
    replay: bool = True
    """Carry out the recorded actions in the environment, without which observations cannot be compared either."""
    output: Path | None = None
    """Folder for diagnosis.json and for pictures of actions and observations."""
    seed: int = 0
    """Seed of the choice among the demonstrations."""
    device: str = "auto"
    """Where the policy computes: auto, cpu, cuda, ..."""


def run(args: Args) -> Diagnosis:
    """Diagnose, print the report and write the files."""
    if args.output is not None:
        check_result_folder(args.output)
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}: give 0 or more")
    device = pick_device(args.policy, args.device)
    with RichReporter("diagnose") as reporter:
        found = diagnose(
            args.policy,
            args.demos,
            args.env,
            episodes=args.episodes,
            replay=args.replay,
            seed=args.seed,
            device=device,
            env_options=parse_options(args.env_options),
            reporter=reporter,
        )
    console = Console(soft_wrap=True, highlight=False)
    show(found, console)
    if args.output is not None:
        console.print("")
        for path in write(found, args.output):
            console.print(str(path), markup=False)
    return found
