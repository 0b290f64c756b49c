"""`rf-agent rollout`: watch a policy at work."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rf_agent.environments import Environments
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import Agent, load_agent, pick_device, trained_tasks
from rf_agent.evaluation.episode import ALL_CHAINS, Item, item_seed, play
from rf_agent.evaluation.metrics import Episode, group_counts
from rf_agent.evaluation.options import parse_options
from rf_agent.evaluation.runner import EnvFacts, env_facts, make_env
from rf_agent.evaluation.video import Recorder, Screen, Video, Window, can_open_window, check_video_path
from rf_agent.evaluation.worker import one_thread

CHAINS, SHOWN = "rf/PlayTableChainD-v0", 4
"""What is shown if nothing is asked for: drawer, lifting, placing, light and turning, in one chain."""
TASKS, EPISODES = "rf/PlayTableD-v0", 6


@dataclass(kw_only=True)
class Args:
    """Run episodes and film them."""

    env: str | None = None
    """Environment: of single tasks or of chains. If none is given, rf/PlayTableChainD-v0; or rf/PlayTableD-v0 with
    --tasks, --instruction, or a policy that was not trained on all tasks."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environment as NAME=VALUE, lists and numbers as in JSON: instructions=enriched,
    'image_size=[128,64]', and of the real CALVIN renderer=tiny, calvin_root=DIR, ..."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory, the name of a bundled policy, `expert`, `random`, or `package.module:factory`."""
    episodes: int | None = None
    """How many: by default one chain, or six episodes of single tasks."""
    chain: int | None = None
    """Chains: the number of the first one, 0 to 999. By default 0, or 4 if no environment is given: its tasks are of
    five families."""
    output: Path | None = None
    """The video, .mp4 or .gif (rollout.mp4 if not given, unless a window is open)."""
    render: bool = False
    """Open a window where there is a display."""
    tasks: tuple[str, ...] = ()
    """Single tasks: which, in turn; a variety if none is given."""
    instruction: str | None = None
    """What to ask of the robot, instead of the task's own instruction. Without --tasks a known instruction means its
    task; other text is not scored."""
    seed: int = 0
    """Seed of the scenes."""
    device: str = "auto"
    """Where the policy computes: auto, cpu, cuda, ..."""


def run(args: Args) -> list[Episode]:
    """Play the episodes, print each outcome, show them in a window or a video, and return them."""
    if args.episodes is not None and args.episodes < 1:
        raise UserError(f"--episodes is {args.episodes}: give 1 or more")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}: give 0 or more")
    if args.instruction is not None and not args.instruction.strip():
        raise UserError("--instruction is empty: say what the robot shall do")
    if args.output is not None:
        check_video_path(args.output)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    device = pick_device(args.policy, args.device)
    agent = load_agent(args.policy, device)
    env_options = parse_options(args.env_options)
    args, env_id = _chosen(args, env_options)
    facts = env_facts(env_id, args.tasks, env_options)
    with Environments() as environments:
        env = make_env(environments, env_id, render=True, env_options=env_options)
        items = _items(args, facts, env)
        if not items[0].scored:
            console.print(
                f"{args.instruction!r} is no known instruction, so it is not scored: give --tasks to score it."
            )
        return _play(args, env, agent, items, device, console)


def _chosen(args: Args, env_options: dict[str, Any]) -> tuple[Args, str]:
    """The environment: if none is given, a chain that shows many skills, unless single tasks are asked for."""
    if args.env is not None:
        return args, args.env
    single = bool(args.tasks) or args.instruction is not None
    if not single and args.chain is None and (known := trained_tasks(args.policy)):
        single = not set(env_facts(CHAINS, (), env_options).tasks) <= set(known)
    env_id = TASKS if single else CHAINS
    chain = SHOWN if env_id == CHAINS and args.chain is None else args.chain
    return replace(args, env=env_id, chain=chain), env_id


def _play(args: Args, env: Any, agent: Agent, items: list[Item], device: str, console: Console) -> list[Episode]:
    """Play the items, with the window or the video."""
    window = Window("rf-agent rollout") if args.render and can_open_window() else None
    if args.render and window is None:
        console.print("There is no display to open a window on: writing a video instead.")
    path = args.output or (None if window else Path("rollout.mp4"))
    video = Video(path, env.metadata.get("render_fps", 30)) if path else None
    screens: list[Screen] = [screen for screen in (window, video) if screen]
    recorder = Recorder(env, screens)
    episodes = []
    try:
        with one_thread(args.policy) if device == "cpu" else contextlib.nullcontext():
            for number, item in enumerate(items, 1):
                episode = play(env, agent, item, recorder, f"episode {number} of {len(items)}")
                episodes.append(episode)
                outcome = _outcome(episode) if item.scored else "not scored"
                console.print(f"{number}/{len(items)}  {outcome}, {episode.steps} steps")
    except BaseException:
        if video and episodes:  # a film of what was played so far
            video.close()
            console.print(f"Video: {video.path}")
        elif video:
            video.discard()
        raise
    finally:
        if window:
            window.close()
    if video:
        video.close()
        console.print(f"Video: {video.path}")
    return episodes


def _items(args: Args, facts: EnvFacts, env: Any) -> list[Item]:
    options: list[dict[str, Any]]
    episodes = args.episodes or (1 if facts.chained else EPISODES)
    if args.chain is not None and not facts.chained:
        raise UserError(f"{args.env} has no chains: leave --chain out")
    extra = {} if args.instruction is None else {"instruction": args.instruction}
    scored, first = True, args.chain or 0
    if facts.chained:
        if args.tasks or args.instruction is not None:
            raise UserError(f"{args.env} plays chains of its own: leave --tasks and --instruction out")
        if not 0 <= first <= ALL_CHAINS - episodes:
            raise UserError(
                f"--chain {first} with {episodes} episodes goes beyond the benchmark's chains, 0 to {ALL_CHAINS - 1}"
            )
        options = [{"chain": index} for index in range(first, first + episodes)]
    elif args.instruction is not None and not args.tasks:
        find = getattr(env.unwrapped, "task_of", None)
        task = find(args.instruction) if find else None
        scored = task is not None
        options = [{} if task is None else {"task": task}] * episodes
    elif not facts.named:
        options = [{}] * episodes
    else:
        usual = tuple(task for task in trained_tasks(args.policy) if task in facts.tasks or not facts.listed)
        tasks = args.tasks or _variety(usual or facts.tasks)
        options = [{"task": tasks[index % len(tasks)]} for index in range(episodes)]
    kind = "chain" if facts.chained else "rollout"  # a chain is played as `evaluate` plays it
    return [
        Item(
            f"{kind}/{index}",
            item_seed(args.seed, f"{kind}/{index}"),
            {**option, **extra},
            scored=scored,
            instruction=args.instruction,  # environments of others need not know that option
        )
        for index, option in enumerate(options, first)  # a chain begins alike, whichever was asked for first
    ]


def _variety(tasks: tuple[str, ...]) -> list[str]:
    """The tasks in an order that takes turns between families, so that a few episodes show many skills."""
    groups = [list(members) for members in group_counts({task: {} for task in tasks}).values()]
    longest = max(map(len, groups))
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)]


def _outcome(episode: Episode) -> str:
    if not episode.attempts:
        return f"return {episode.reward:.2f}"
    if len(episode.attempts) == 1:
        (attempt,) = episode.attempts
        return f"{attempt.task}: {'success' if attempt.success else 'failure'}"
    tasks = ", ".join(f"{attempt.task} {'✓' if attempt.success else '✗'}" for attempt in episode.attempts)
    return f"{episode.completed} in a row ({tasks})"
