"""`rf-agent evaluate`: success per task, or on chains of five tasks, with intervals."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from rf_agent.errors import UserError
from rf_agent.evaluation import report
from rf_agent.evaluation.agents import SCRIPTED, Execution, fingerprint, pick_device, trained_tasks
from rf_agent.evaluation.episode import Item, chain_items, task_items
from rf_agent.evaluation.metrics import Episode
from rf_agent.evaluation.options import parse_options
from rf_agent.evaluation.runner import EnvFacts, env_facts, evaluate, with_renderer
from rf_agent.progress import RichReporter

CHAIN_LENGTH = 5
ALL_CHAINS = 1000


@dataclass(kw_only=True)
class Args:
    """Measure success per task, or on chains of five tasks."""

    env: str
    """Environment: of single tasks (rf/PlayTableD-v0) or of chains (rf/PlayTableChainD-v0)."""
    output: Path
    """Directory for results.json and the finished episodes; the same command goes on where it stopped."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environment as NAME=VALUE, lists and numbers as in JSON: instructions=enriched,
    'image_size=[128,64]', and of the real CALVIN renderer=tiny, calvin_root=DIR, ..."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory, the name of a bundled policy, `expert` or `random`."""
    episodes_per_task: int | None = None
    """Single tasks: episodes of each task (20 if not given)."""
    tasks: tuple[str, ...] = ()
    """Single tasks: which; if none is given those that the policy was trained on, or all of the expert."""
    chains: int | None = None
    """Chains: how many of the 1000, from the first (100 if not given)."""
    workers: int = os.cpu_count() or 1
    """Simulator processes."""
    seed: int = 0
    """Seed of the scenes."""
    device: str = "auto"
    """Where the policy computes: auto, cpu, cuda, cuda:1, ..."""
    n_action_steps: int | None = None
    """Actions of a chunk that are carried out before the policy observes again; as in the checkpoint if not given."""
    repeat: int | None = None
    """Times that each action is carried out; as in the checkpoint if not given."""
    ensemble: float | None = None
    """Observe at every step and average what past steps predicted, weighted by exp(-ENSEMBLE * i) from the oldest."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the policy's parameters."""
    compile: bool = False
    """Compile the policy's network: slow to start, then faster on a GPU."""
    video_episodes: int = 0
    """Record that many of the first episodes, under OUTPUT/videos."""


def run(args: Args) -> None:
    """Evaluate, write OUTPUT/results.json and print its tables."""
    _check(args)
    device = pick_device(args.policy, args.device)
    fingerprint(args.policy)  # a policy that does not exist should not wait for a simulator
    execution = Execution(args.n_action_steps, args.repeat, args.ensemble, args.dtype, args.compile)
    acting = execution.resolved(args.policy)
    env_options = parse_options(args.env_options)
    facts = env_facts(args.env, args.tasks, env_options)
    env_options = with_renderer(args.env, env_options, facts.renderer)
    items = _items(args, facts)
    with RichReporter("evaluate") as reporter:
        finished: list[Episode] = []

        def progress(episode: Episode) -> None:
            finished.append(episode)
            solved = sum(e.completed for e in finished) / len(finished)
            what = "sub-tasks solved on average" if facts.chained else "solved"
            number = f"{solved:.2f}" if facts.chained else report.percent(solved)
            reporter.update(min(len(finished) / len(items), 1.0), f"{len(finished)} episodes, {number} {what}")

        episodes, seconds = evaluate(
            args.env,
            args.policy,
            items,
            args.output,
            seed=args.seed,
            workers=args.workers,
            device=device,
            video_episodes=args.video_episodes,
            env_options=env_options,
            renderer=facts.renderer,
            execution=execution,
            on_episode=progress,
        )
    results = report.build_results(
        episodes,
        env=args.env,
        env_options=env_options,
        policy=args.policy,
        seed=args.seed,
        renderer=facts.renderer,
        seconds=seconds,
        length=CHAIN_LENGTH if facts.chained else 1,
        execution={} if args.policy in SCRIPTED else asdict(acting),
    )
    report.write_json(args.output / "results.json", results)
    console = Console(soft_wrap=True, highlight=False)
    console.print(report.task_table(results["tasks"]))
    if facts.chained:
        console.print(report.chain_table(results))
    where = args.output / "results.json"
    console.print(f"{len(episodes)} episodes, renderer {facts.renderer}, {seconds:.0f} s: {where}")


def _check(args: Args) -> None:
    for name in ("episodes_per_task", "chains", "workers"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}: give 1 or more")
    if args.chains is not None and args.chains > ALL_CHAINS:
        raise UserError(f"--chains is {args.chains}, but the benchmark has {ALL_CHAINS} chains")


def _items(args: Args, facts: EnvFacts) -> list[Item]:
    if facts.chained:
        if args.tasks or args.episodes_per_task is not None:
            raise UserError(f"{args.env} plays chains: give --chains instead of --tasks and --episodes-per-task")
        return chain_items(args.chains or 100, args.seed)
    if args.chains is not None:
        raise UserError(f"{args.env} plays single tasks: give --episodes-per-task instead of --chains")
    tasks = list(dict.fromkeys(args.tasks or trained_tasks(args.policy) or facts.tasks))
    return task_items(tasks, args.episodes_per_task or 20, args.seed)
