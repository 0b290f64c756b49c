"""`rf-agent evaluate`: success per task, or on chains of five tasks, with intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from rf_agent.errors import UserError
from rf_agent.evaluation.agents import Execution, fingerprint, has_network, pick_device, trained_tasks
from rf_agent.evaluation.journal import NAME as EPISODES
from rf_agent.evaluation.metrics import CHAIN_LENGTH
from rf_agent.evaluation.options import parse_options
from rf_agent.evaluation.progress import Progress
from rf_agent.evaluation.results import build_results, chain_table, return_line, task_table
from rf_agent.evaluation.runner import (
    Engine,
    check_counts,
    choose_items,
    env_facts,
    evaluate,
    requested,
    with_renderer,
)
from rf_agent.evaluation.shards import Shard
from rf_agent.files import write_json
from rf_agent.progress import RichReporter
from rf_agent.unused import refuse_unused
from rf_agent.workers import usable_cores


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
    """A checkpoint directory, the name of a bundled policy, `expert`, `random`, or `package.module:factory` for any
    object with act(observation) or Stable-Baselines3's predict."""
    episodes_per_task: int | None = None
    """Single tasks: episodes of each task (20 if not given)."""
    tasks: tuple[str, ...] = ()
    """Single tasks: which; if none is given those that the policy was trained on, or all of the expert."""
    chains: int | None = None
    """Chains: how many of the 1000, from the first (100 if not given)."""
    workers: int = usable_cores()
    """Simulator processes."""
    shard: str | None = None
    """Play one part of the episodes, such as 1/3 on one machine and 2/3 and 3/3 on others, each with an OUTPUT of its
    own; `rf-agent report` puts them together."""
    engine: Engine = "local"
    """Where the episodes are played: local processes, or tasks of a Ray cluster (that of RAY_ADDRESS, else one on this
    machine)."""
    timeout: float = 600.0
    """Seconds after which a simulator that makes no step is ended and its episode played again; 0 for never."""
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
    auto = args.engine == "ray" and args.device == "auto"
    device = pick_device(args.policy, "cpu" if auto else args.device)
    weights = fingerprint(args.policy)  # a policy that does not exist should not wait for a simulator
    execution = Execution(args.n_action_steps, args.repeat, args.ensemble, args.dtype, args.compile)
    acting = execution.resolved(args.policy)
    env_options = parse_options(args.env_options)
    facts = env_facts(args.env, args.tasks, env_options)
    env_options = with_renderer(args.env, env_options, facts.renderer)
    usual = trained_tasks(args.policy)
    counts = args.chains, args.episodes_per_task
    items = choose_items(args.env, facts, *counts, args.tasks, args.seed, usual, _flag)
    shard = Shard.parse(args.shard) if args.shard is not None else None
    own = shard.part(items) if shard else items
    if not own:
        raise UserError(f"--shard {args.shard} has none of the {len(items)} episodes: divide them into fewer shards")
    with RichReporter("evaluate") as reporter:
        progress = Progress(reporter, len(own), CHAIN_LENGTH if facts.chained else 1)
        if args.video_episodes and (args.output / EPISODES).is_file():
            reporter.log("videos are of episodes that are played now: those of an earlier run are not played again")
        episodes, seconds = evaluate(
            args.env,
            args.policy,
            own,
            args.output,
            seed=args.seed,
            workers=args.workers,
            device=device,
            video_episodes=args.video_episodes,
            env_options=env_options,
            renderer=facts.renderer,
            execution=execution,
            shard=str(shard) if shard else None,
            requested=requested(facts, items),
            timeout=args.timeout or None,
            engine=args.engine,
            on_kept=progress.keep,
            on_episode=progress,
            on_restart=lambda why: reporter.log(f"{why}; what was being played is played again"),
        )
    results = build_results(
        episodes,
        env=args.env,
        env_options=env_options,
        policy=args.policy,
        weights=weights,
        seed=args.seed,
        renderer=facts.renderer,
        seconds=seconds,
        length=CHAIN_LENGTH if facts.chained else 1,
        execution=asdict(acting) if has_network(args.policy) else {},
        requested=requested(facts, items),
        shard=str(shard) if shard else None,
    )
    write_json(args.output / "results.json", results)
    console = Console(soft_wrap=True, highlight=False)
    if fingerprint(args.policy) != weights:
        console.print(
            f"{args.policy} was changed while it was played: some of the episodes may be of other weights than those "
            f"that {args.output} names. Evaluate a copy that stays as it is, with another --output."
        )
    if results["tasks"]:
        console.print(task_table(results["tasks"]))
    if facts.chained:
        console.print(chain_table(results))
    if not facts.named:
        console.print(return_line(results["return"]))
    where = args.output / "results.json"
    console.print(f"{len(episodes)} episodes, renderer {facts.renderer}, {seconds:.0f} s: {where}")


def _check(args: Args) -> None:
    check_counts(args.chains, args.episodes_per_task, _flag)
    if args.workers < 1:
        raise UserError(f"--workers is {args.workers}: give 1 or more")
    if args.engine == "ray":
        refuse_unused(args, ("workers",), "--engine ray plays on all CPUs of a cluster")
    for name in ("seed", "video_episodes"):
        if getattr(args, name) < 0:
            raise UserError(f"{_flag(name)} is {getattr(args, name)}: give 0 or more")
    if not 0 <= args.timeout < math.inf:
        raise UserError(f"--timeout is {args.timeout}: give a number of seconds, or 0 for none")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
