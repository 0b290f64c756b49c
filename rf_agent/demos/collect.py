"""Collection of demonstrations: worker processes play episodes, this process writes what succeeded."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.episodes import Demonstrator, EpisodeSettings, env_layout
from rf_agent.demos.files import PATIENCE, open_hdf5, reading
from rf_agent.demos.store import append_demos, create_store
from rf_agent.environments import Environments, is_ours
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import fingerprint, has_network, load_agent, load_policy
from rf_agent.evaluation.options import parse_options
from rf_agent.progress import Reporter, Silent
from rf_agent.unused import refuse_unused
from rf_agent.workers import run_jobs

FORMAT_VERSION = 2
RESERVED = {
    "render_every": "--frame-stride says it",
    "chains": "demonstrations are of training chains, never of those that are evaluated",
}
"""Arguments of an environment that a collection sets itself, and why."""


@dataclass(kw_only=True)
class CollectConfig:
    """Collect demonstrations of the scripted expert."""

    output: Path
    """HDF5 file to write; a file begun with the same settings is continued."""
    env: tuple[str, ...] = ("rf/PlayTableD-v0",)
    """Environments, of single tasks or of chains; with several, each gives as many demonstrations."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environments as NAME=VALUE, lists and numbers as in JSON: instructions=enriched, and of the real
    CALVIN renderer=tiny, calvin_root=DIR, ..."""
    episodes_per_task: int = 50
    """Environments of single tasks: successful demonstrations wanted of every task."""
    tasks: tuple[str, ...] = ()
    """Environments of single tasks: names of the tasks; all that the environment offers to the expert if none is
    given."""
    chains: int = 100
    """Environments of chains: training chains to play in each. Every sub-task that succeeds is a demonstration, which
    begins where the one before it ended."""
    policy: str | None = None
    """A checkpoint directory, a bundled name or `random`: acts in place of the expert, while the expert labels every
    state (DAgger): what it does wrong is what it has to learn."""
    beta: float = 0.0
    """With a policy: share of the episodes in which the expert acts nevertheless."""
    patience: int = 120
    """With a policy: steps of a task after which the expert takes over and finishes it."""
    workers: int = 2
    """Processes that simulate and render."""
    seed: int = 0
    """Seed of scenes, instructions and noise; other seeds give other demonstrations."""
    frame_stride: int = 3
    """Cameras are rendered and stored at every n-th step, as often as the policy observes."""
    image_size: int | None = None
    """Side of the stored images in pixels; the environment's own sizes if not given."""
    noise: float = 1.0
    """Strength of the disturbances whose recovery is demonstrated; 0 for none."""
    attempts: int = 8
    """Environments of single tasks: scenes tried for one demonstration before it is given up."""


@dataclass
class CollectReport:
    """What a collection holds in the end."""

    output: Path
    demos: dict[str, int]
    """Demonstrations of each task now in the file."""
    failures: dict[str, int] = field(default_factory=dict)
    """Failed attempts of this run, by task; not stored. A chain ends with the first."""
    missing: dict[str, int] = field(default_factory=dict)
    """Demonstrations given up after `attempts`, by task."""
    samples: int = 0
    """Environment steps demonstrated in this run."""


@dataclass(frozen=True)
class _Job:
    env: str
    task: str | None  # None: a chain
    number: int  # of the demonstration of that task, or of the chain
    seed: int
    attempts: int
    settings: EpisodeSettings
    policy: str | None
    options: Mapping[str, Any]
    """Further arguments of the environment."""


@dataclass
class _Result:
    demos: list[Demonstration]
    failures: Counter[str]
    """Tasks of the attempts that failed."""


def collect(config: CollectConfig, reporter: Reporter | None = None) -> CollectReport:
    """Bring `config.output` to `episodes_per_task` demonstrations of each task, or to those of `chains` chains.

    Every demonstration depends on the settings and its number alone: workers, interruptions and later extensions (more
    episodes, tasks or chains) change nothing about it. A failed attempt at a single task is repeated in another scene.
    A chain of which a sub-task fails ends there, and what came before is kept.

    Raises:
        UserError: options have no effect.
        ValueError: for unknown tasks or environments, impossible settings, a policy that does not fit the environment,
            or a file begun with other settings.
        DemoError: another process writes to the file meanwhile, such as the same command a second time.
        DiskFullError: the disk is full.
        RuntimeError: if a worker process dies (run again to go on).
    """
    _check(config)
    if config.policy == "expert":  # that is what acts without a policy
        config = replace(config, policy=None, beta=0.0)
    reporter = reporter or Silent()
    jobs, layout, origin = _survey(config)
    create_store(config.output, layout, origin)
    held, total = _held(config.output)
    due = [job for job in jobs if (job.env, job.task, job.number) not in held]
    failures: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    samples, tried, begun = 0, 0, len(jobs) - len(due)
    for count, (job, result) in enumerate(run_jobs(_demonstrate, due, config.workers, Environments), start=begun + 1):
        failures += result.failures
        if result.demos:
            append_demos(config.output, result.demos, layout, held=total + samples, patience=PATIENCE)
        elif job.task is not None:
            missing[job.task] += 1
        samples += sum(len(demo.actions) for demo in result.demos)
        tried += len(result.demos) + result.failures.total()
        success = 1 - failures.total() / max(tried, 1)
        unit = "demos" if job.task else "chains"
        reporter.update(count / len(jobs), f"{count}/{len(jobs)} {unit}, {success:.0%} of the attempts succeed")
    demos = _counts(config.output)
    return CollectReport(config.output, demos, dict(failures), dict(missing), samples)


def _check(config: CollectConfig) -> None:
    for name in ("episodes_per_task", "chains", "workers", "frame_stride", "image_size", "attempts", "patience"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}: give 1 or more")
    if config.seed < 0:
        raise ValueError(f"seed is {config.seed}: give 0 or more")
    if not 0 <= config.noise < math.inf:
        raise ValueError(f"noise is {config.noise}: give 0 or more")
    if not 0 <= config.beta <= 1:
        raise ValueError(f"beta is {config.beta}: give a share from 0 to 1")
    if config.beta and config.policy is None:
        raise ValueError(f"beta is {config.beta}, but no policy acts: give --policy too")
    if config.policy is None:
        refuse_unused(config, ("patience",), "no --policy acts")
    if not config.env:
        raise ValueError("no environment was given: name one or more with --env")


def _survey(config: CollectConfig) -> tuple[list[_Job], Layout, dict[str, Any]]:
    """All that is to be played, the layout of the demonstrations and their origin, asking the environments in this
    process."""
    jobs: list[_Job] = []
    layouts: dict[str, Layout] = {}
    renderer, options = "", parse_options(config.env_options)
    for name, why in RESERVED.items():
        if name in options:
            raise UserError(f"--env-options got {name}={options[name]}: leave {name} out, {why}")
    for env_id in dict.fromkeys(config.env):
        with Environments() as environments:
            env = _environment(environments, env_id, config.frame_stride, options)
            _, info = env.reset(seed=config.seed)  # the simulator is made at the first reset, and names its renderer
            lacking = [key for key in ("task", "instruction", "is_success") if key not in info]
            if lacking or not hasattr(env.unwrapped, "expert"):
                what = f"{lacking[0]!r} in its info" if lacking else "expert() to demonstrate"
                raise ValueError(f"{env_id} has no {what}: give an environment such as rf/PlayTableD-v0")
            if config.policy is not None and has_network(config.policy):
                _fit(config.policy, env, env_id, config.frame_stride)
            jobs += _jobs(config, env_id, _tasks(config, env) if "chain" not in info else None, options)
            layouts[env_id] = env_layout(env, config.frame_stride)
            renderer = str(getattr(env.unwrapped, "renderer", "unknown"))
    kinds = {job.task is None for job in jobs}
    if True not in kinds:
        refuse_unused(config, ("chains",), "no environment plays chains")
    if False not in kinds:
        refuse_unused(config, ("episodes_per_task", "attempts"), "all environments play chains")
    first = next(iter(layouts))
    for env_id, layout in layouts.items():
        ours, theirs = layouts[first].described(), layout.described()
        ours["action_dim"], theirs["action_dim"] = layouts[first].action_dim, layout.action_dim
        if different := [key for key in ours if ours[key] != theirs[key]]:
            key = different[0]
            raise ValueError(
                f"{env_id} has {key} {theirs[key]}, but {first} has {ours[key]}: collect robots that differ in files "
                "of their own"
            )
    origin = {
        "env_name": first,  # robomimic's names for it
        "type": 2,
        "env_kwargs": options,
        "env_ids": list(layouts),
        "renderer": renderer,
        "version": FORMAT_VERSION,
        "image_size": config.image_size,
        "noise": config.noise,
        "seed": config.seed,
    }
    if config.policy is not None:
        origin |= {"policy": fingerprint(config.policy), "beta": config.beta, "patience": config.patience}
    # Number by number, in turns: a collection that is cut short is balanced.
    return sorted(jobs, key=lambda job: job.number), layouts[first], origin


def _tasks(config: CollectConfig, env: Any) -> tuple[str, ...]:
    offered = getattr(env.unwrapped.expert(), "tasks", config.tasks)
    if not offered:
        raise ValueError(f"the expert of {env.spec.id} has no `tasks` that say what it can do: name them with --tasks")
    unknown = [task for task in config.tasks if task not in offered]
    if unknown:
        raise ValueError(f"the expert cannot demonstrate {unknown[0]!r}: choose among {', '.join(offered)}")
    return tuple(dict.fromkeys(config.tasks)) or tuple(offered)


def _jobs(config: CollectConfig, env_id: str, tasks: tuple[str, ...] | None, options: Mapping[str, Any]) -> list[_Job]:
    """The jobs of one environment; `tasks` is None for one of chains."""
    if tasks is None and config.tasks:
        raise ValueError(f"{env_id} plays chains: give --chains instead of --tasks")
    settings = EpisodeSettings(config.frame_stride, config.image_size, config.noise, config.patience)
    numbers = range(config.chains if tasks is None else config.episodes_per_task)
    jobs = []
    for number in numbers:
        for task in (None,) if tasks is None else tasks:
            draw = np.random.default_rng([config.seed, zlib.crc32(f"{env_id} {task}".encode()), number])
            policy = None if config.policy is None or draw.random() < config.beta else config.policy
            jobs.append(_Job(env_id, task, number, config.seed, config.attempts, settings, policy, options))
    return jobs


def _fit(policy: str, env: Any, env_id: str, frame_stride: int) -> None:
    """Refuse a policy that cannot act in an environment as it is recorded."""
    config = load_policy(policy).config
    cameras = env_layout(env, frame_stride).cameras
    lacking = [view for view in config.views if view not in cameras]
    if lacking:
        raise UserError(
            f"the policy {policy!r} sees the camera {lacking[0]!r}, which {env_id} does not have (it has "
            f"{', '.join(cameras)}): give a policy that was trained on these cameras"
        )
    dim, key = env.action_space.shape[0], config.state.key
    if config.action.dim != dim:
        raise UserError(
            f"the policy {policy!r} acts with {config.action.dim} numbers, but {env_id} with {dim}: give a policy of "
            "this robot"
        )
    needs_state = config.head.proprioception and not config.head.state_optional
    if needs_state and key not in env.observation_space.keys():
        raise UserError(f"the policy {policy!r} reads {key!r}, which {env_id} does not have: give another policy")
    if config.head.replan_every % frame_stride:
        raise UserError(
            f"the policy {policy!r} observes every {config.head.replan_every} steps, but frames are drawn every "
            f"{frame_stride}: give a --frame-stride that divides it"
        )


def _held(path: Path) -> tuple[set[tuple[str, str | None, int]], int]:
    """What a store already holds, (environment, task, number) or (environment, None, chain), and its samples."""
    with open_hdf5(path) as file, reading(path):
        found: set[tuple[str, str | None, int]] = set()
        for group in file["data"].values():
            attributes = group.attrs
            task = None if "chain" in attributes else str(attributes["task"])
            found.add((str(attributes["env_id"]), task, int(attributes["episode"])))
        return found, int(file["data"].attrs.get("total", 0))


def _counts(path: Path) -> dict[str, int]:
    """Demonstrations of each task in a store."""
    with open_hdf5(path) as file, reading(path):
        counted = Counter(str(group.attrs["task"]) for group in file["data"].values())
    return dict(sorted(counted.items()))


def _environment(environments: Environments, env_id: str, frame_stride: int, options: Mapping[str, Any]) -> Any:
    # Ours draw no more images than are kept, ask in the training instructions, and play no chain of the evaluation.
    chosen: dict[str, Any] = {"render_every": frame_stride, "instructions": "training"} if is_ours(env_id) else {}
    if is_ours(env_id) and "Chain" in env_id:
        chosen["chains"] = "training"
    return environments.get(env_id, **chosen | dict(options))


def _demonstrate(environments: Environments, job: _Job) -> _Result:
    """What one job demonstrates, after as many attempts as it takes or may take."""
    failures: Counter[str] = Counter()
    for attempt in range(1 if job.task is None else job.attempts):
        key = [job.seed, zlib.crc32(f"{job.env} {job.task}".encode()), job.number, attempt]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        env = _environment(environments, job.env, job.settings.frame_stride, job.options)
        # Chains of other collection seeds are other chains, too.
        options = {"chain": seed % 2**31} if job.task is None else {"task": job.task}
        policy = None
        if job.policy is not None:
            agent = load_agent(job.policy)
            agent.reset(env, seed)
            policy = agent.act
        demos, failed = Demonstrator(env, job.settings, policy).play(seed, options)
        if failed is not None:
            failures[failed] += 1
        if demos:
            for demo in demos:
                demo.attributes |= {"env_id": job.env, "episode": job.number, "attempt": attempt}
            return _Result(demos, failures)
    return _Result([], failures)
