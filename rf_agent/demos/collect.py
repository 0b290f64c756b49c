"""Collection of demonstrations: worker processes run the expert, this process writes what succeeded."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rf_agent.demos.files import open_hdf5, reading
from rf_agent.demos.noise import ActionNoise
from rf_agent.demos.store import VIEWS, Demo, append_demo, create_store
from rf_agent.environments import Environments
from rf_agent.progress import Reporter, Silent
from rf_agent.workers import run_jobs

FORMAT_VERSION = 1


@dataclass(kw_only=True)
class CollectConfig:
    """Collect demonstrations of the scripted expert."""

    output: Path
    """HDF5 file to write; a file begun with the same settings is continued."""
    env: str = "rf/PlayTableD-v0"
    """Environment of single tasks."""
    episodes_per_task: int = 50
    """Successful demonstrations wanted of every task."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks; all that the environment offers to the expert if none is given."""
    workers: int = 2
    """Processes that simulate and render."""
    seed: int = 0
    """Seed of scenes, wordings and noise; other seeds give other demonstrations."""
    frame_stride: int = 3
    """Cameras are rendered and stored at every n-th step, as often as the policy observes."""
    image_size: int | None = None
    """Side of the stored images in pixels; the environment's own sizes if not given."""
    noise: float = 1.0
    """Strength of the disturbances whose recovery is demonstrated; 0 for none."""
    attempts: int = 8
    """Scenes tried for one demonstration before it is given up."""


@dataclass
class CollectReport:
    """What a collection holds in the end."""

    output: Path
    demos: dict[str, int]
    """Successful demonstrations of each task now in the file."""
    failures: dict[str, int] = field(default_factory=dict)
    """Failed attempts of this run, by task; not stored."""
    missing: dict[str, int] = field(default_factory=dict)
    """Demonstrations given up after `attempts`, by task."""
    samples: int = 0
    """Environment steps demonstrated in this run."""


@dataclass(frozen=True)
class _Job:
    env: str
    task: str
    episode: int
    seed: int
    frame_stride: int
    image_size: int | None
    noise: float
    attempts: int


def collect(config: CollectConfig, reporter: Reporter | None = None) -> CollectReport:
    """Bring `config.output` to `episodes_per_task` successful demonstrations of each task.

    Every demonstration depends on the settings, its task and its number alone: workers, interruptions and later
    extensions (more episodes, more tasks) change nothing about it. A failed attempt is repeated in another scene.

    Raises:
        ValueError: for unknown tasks or environments, impossible settings, or a file begun with other
            settings.
        RuntimeError: if a worker process dies (run again to go on).
    """
    for name in ("episodes_per_task", "workers", "frame_stride", "image_size", "attempts"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}: give 1 or more")
    if config.noise < 0:
        raise ValueError(f"noise is {config.noise}: give 0 or more")
    reporter = reporter or Silent()
    tasks, description = _survey(config)
    create_store(config.output, description)
    held = _held(config.output)
    jobs = [
        _Job(
            config.env,
            task,
            episode,
            config.seed,
            config.frame_stride,
            config.image_size,
            config.noise,
            config.attempts,
        )
        for episode in range(config.episodes_per_task)  # task by task inside: a file cut short is balanced
        for task in tasks
        if (task, episode) not in held
    ]
    demos = Counter(task for task, episode in held if task in tasks)
    failures: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    samples, total = 0, len(tasks) * config.episodes_per_task
    before = total - len(jobs)
    for count, (job, (demo, failed)) in enumerate(run_jobs(_demonstrate, jobs, config.workers, Environments), start=1):
        failures[job.task] += failed
        if demo is None:
            missing[job.task] += 1
        else:
            append_demo(config.output, demo)
            demos[job.task] += 1
            samples += len(demo.actions)
        tried = count + failures.total() - missing.total()
        success = (count - missing.total()) / max(tried, 1)
        reporter.update((before + count) / total, f"{before + count}/{total} demos, expert {success:.0%}")
    return CollectReport(
        config.output,
        {task: demos[task] for task in tasks},
        {task: number for task, number in failures.items() if number},
        {task: number for task, number in missing.items() if number},
        samples,
    )


def _survey(config: CollectConfig) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The tasks to collect and the store's `env_args`, asking an environment in this process."""
    with Environments() as environments:
        return _ask(_environment(environments, config.env, config.frame_stride), config)


def _ask(env: Any, config: CollectConfig) -> tuple[tuple[str, ...], dict[str, Any]]:
    env.reset(seed=config.seed)  # the simulator is made at the first reset, and only then names its renderer
    offered = tuple(env.unwrapped.expert().tasks)
    unknown = [task for task in config.tasks if task not in offered]
    if unknown:
        raise ValueError(f"the expert cannot demonstrate {unknown[0]!r}: choose among {', '.join(offered)}")
    description = {
        "env_name": config.env,  # robomimic's names for it
        "type": 2,
        "env_kwargs": {},
        "env_id": config.env,
        "scene": env.unwrapped.scene,
        "renderer": env.unwrapped.renderer,
        "frame_stride": config.frame_stride,
        "version": FORMAT_VERSION,
        "image_size": config.image_size,
        "noise": config.noise,
        "seed": config.seed,
    }
    return config.tasks or offered, description


def _held(path: Path) -> set[tuple[str, int]]:
    """(task, episode) of the demonstrations that a store already holds."""
    with open_hdf5(path) as file:
        with reading(path):
            groups = file["data"].values()
            return {(str(group.attrs["task"]), int(group.attrs["episode"])) for group in groups}


def _environment(environments: Environments, env_id: str, frame_stride: int) -> Any:
    return environments.get(env_id, render_every=frame_stride, instructions="training")


def _demonstrate(environments: Environments, job: _Job) -> tuple[Demo | None, int]:
    """A successful demonstration, or None, and the number of attempts that failed."""
    for attempt in range(job.attempts):
        key = [job.seed, zlib.crc32(job.task.encode()), job.episode, attempt]
        demo = run_episode(environments, job, seed=int(np.random.SeedSequence(key).generate_state(1)[0]))
        if demo.attributes["success"]:
            demo.attributes |= {"episode": job.episode, "attempt": attempt}
            return demo, attempt
    return None, job.attempts


def run_episode(environments: Environments, job: _Job, seed: int) -> Demo:
    """One episode of the expert under noise; its labels are the undisturbed actions."""
    from rf_agent.preprocess import resize

    env = _environment(environments, job.env, job.frame_stride)
    noise = ActionNoise(job.noise, np.random.default_rng([seed, 1]))
    observation, info = env.reset(seed=seed, options={"task": job.task})
    instruction = info["instruction"]
    expert = env.unwrapped.expert()
    wanted: list[Any] = []
    executed: list[Any] = []
    robot_obs: list[Any] = []
    frames: dict[str, list[Any]] = {view: [] for view in VIEWS}
    done = False
    while not done:
        if len(wanted) % job.frame_stride == 0:
            for view in VIEWS:
                image = observation[view]
                frames[view].append(image if job.image_size is None else resize(image, job.image_size))
        action = np.clip(np.asarray(expert.act(), np.float32), -1.0, 1.0)
        robot_obs.append(observation["robot_obs"])
        wanted.append(action)
        executed.append(noise(action))
        observation, _, terminated, truncated, info = env.step(executed[-1])
        done = terminated or truncated
    return Demo(
        actions=np.stack(wanted),
        actions_executed=np.stack(executed),
        robot_obs=np.stack(robot_obs).astype(np.float32),
        frames={view: np.stack([np.asarray(image, np.uint8) for image in images]) for view, images in frames.items()},
        attributes={
            "task": job.task,
            "instruction": instruction,
            "seed": seed,
            "scene": env.unwrapped.scene,
            "success": bool(info["is_success"]),
            "noise_level": noise.level,
        },
    )
