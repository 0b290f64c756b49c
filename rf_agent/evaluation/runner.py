"""An evaluation: episodes as a work queue over simulator processes, kept as they finish."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_agent.environments import Environments, is_ours
from rf_agent.evaluation.agents import AS_TRAINED, SCRIPTED, Agent, Execution, fingerprint, load_agent, load_policy
from rf_agent.evaluation.episode import Item, play
from rf_agent.evaluation.journal import Journal
from rf_agent.evaluation.metrics import Episode
from rf_agent.evaluation.server import Address, PolicyServer, RemoteAgent
from rf_agent.evaluation.video import STATIC, Recorder, Video
from rf_agent.workers import run_jobs

VIDEO_SIZE = STATIC  # pixels of the static view that is rendered for videos


@dataclass(frozen=True)
class EnvFacts:
    """What an evaluation must know about an environment before it begins."""

    tasks: tuple[str, ...]
    """The tasks an episode can have."""
    chained: bool
    """Whether an episode is a chain of tasks."""
    renderer: str
    """What draws the camera images; scores of different renderers do not compare."""


@dataclass(frozen=True)
class _Job:
    item: Item
    env_id: str
    env_options: Mapping[str, Any]
    policy: str
    device: str
    video: Path | None
    server: Address | None
    execution: Execution


def with_renderer(env_id: str, env_options: Mapping[str, Any], renderer: str) -> dict[str, Any]:
    """The arguments with the renderer that was found, where there is a choice: all workers then draw with it."""
    has_choice = env_id.rpartition(":")[2].startswith("rf/Calvin")
    return {**env_options, "renderer": renderer} if has_choice else dict(env_options)


def env_facts(env_id: str, wanted: Sequence[str] = (), env_options: Mapping[str, Any] | None = None) -> EnvFacts:
    """Ask an environment what its episodes are. Its tasks are those of its expert: what can be learned.

    Raises:
        ValueError: one of the `wanted` tasks is unknown to the environment, in its words.
    """
    with Environments() as environments:
        return _ask(make_env(environments, env_id, env_options=env_options), env_id, wanted)


def _ask(env: Any, env_id: str, wanted: Sequence[str]) -> EnvFacts:
    _, info = env.reset(seed=0)
    if "task" not in info or "is_success" not in info:
        raise ValueError(
            f"{env_id} does not say its task and success in `info`: give an environment of single tasks or of chains, "
            "such as rf/PlayTableD-v0"
        )
    chained = "chain" in info
    for task in () if chained else wanted:
        env.reset(seed=0, options={"task": task})
    bare = env.unwrapped
    tasks = bare.expert().tasks if hasattr(bare, "expert") else getattr(bare, "tasks", (info["task"],))
    return EnvFacts(tuple(tasks), chained, str(getattr(bare, "renderer", "unknown")))


def evaluate(
    env_id: str,
    policy: str,
    items: Sequence[Item],
    output: Path,
    *,
    seed: int = 0,
    workers: int = 1,
    device: str = "cpu",
    video_episodes: int = 0,
    env_options: Mapping[str, Any] | None = None,
    renderer: str = "unknown",
    execution: Execution = AS_TRAINED,
    on_episode: Callable[[Episode], None] | None = None,
) -> tuple[list[Episode], float]:
    """Play those of `items` that `output` does not hold yet.

    On a CPU every worker process has its own copy of the policy on one thread, and an item's result depends
    on the item alone. On a GPU one copy serves the observation steps of all workers in batches.

    Args:
        env_id: Gymnasium id; `rf/...` finds rf_envs by itself.
        policy: what `--policy` takes.
        items: see `task_items` and `chain_items`.
        output: directory of the journal `episodes.jsonl` and of `videos/`.
        seed: of the evaluation, kept in the journal; the items have theirs.
        workers: simulator processes; 1 plays in this process.
        video_episodes: that many of the first items are recorded.
        env_options: further arguments of the environment.
        renderer: what draws, as `env_facts` found; results of another one are refused.
        execution: how the policy acts; results of another way are refused.
        on_episode: called with each episode as it finishes.

    Returns:
        The episodes of `items`, in their order, and the wall-clock seconds spent on the journal so far.

    Raises:
        UserError: `output` holds results of another environment, policy or seed.
        RuntimeError: a worker died; what had finished is kept.
    """
    env_options = dict(env_options or {})
    settings = {
        "env": env_id,
        "env_options": env_options,
        "renderer": renderer,
        "policy": policy,
        "weights": fingerprint(policy),
        "seed": seed,
        # Only what differs from the checkpoint, so that results of versions without these settings can go on.
        **execution.changes(policy),
    }
    journal = Journal(output, settings)
    wanted = [(index, item) for index, item in enumerate(items) if item.key not in journal.episodes]
    begun = time.perf_counter() - journal.seconds
    serve = device != "cpu" and policy not in SCRIPTED
    with _served(policy, device, execution) if serve else contextlib.nullcontext() as server, one_thread(policy, serve):
        jobs = (
            _Job(item, env_id, env_options, policy, device, video, server, execution)
            for index, item in wanted
            for video in [_video(output, item) if index < video_episodes else None]
        )
        try:
            leftovers = (server.folder,) if server and server.folder else ()
            count = max(1, min(workers, len(wanted)))
            for _, episode in run_jobs(_run, jobs, count, Environments, leftovers):
                journal.add(episode, time.perf_counter() - begun)
                if on_episode:
                    on_episode(episode)
        except BaseException:
            journal.discard_if_empty()
            raise
    return [journal.episodes[item.key] for item in items], time.perf_counter() - begun


def make_env(
    environments: Environments,
    env_id: str,
    render_every: int = 1,
    render: bool = False,
    env_options: Mapping[str, Any] | None = None,
) -> Any:
    """One of `environments` for evaluation. `render` adds `env.render()` at a size for videos."""
    options: dict[str, Any] = {}
    if is_ours(env_id):
        options["render_every"] = render_every
    if render:
        options["render_mode"] = "rgb_array"
        if is_ours(env_id):
            # the video has the instruction beside the image
            options |= {"render_size": VIDEO_SIZE, "caption": False}
    return environments.get(env_id, **options | dict(env_options or {}))


def _video(output: Path, item: Item) -> Path:
    return output / "videos" / f"{item.key.replace('/', '-')}.mp4"


def _run(environments: Environments, job: _Job) -> Episode:
    agent = _agent(job.policy, job.device, job.server, job.execution)
    if job.video is None:
        return play(
            make_env(environments, job.env_id, agent.render_every, env_options=job.env_options), agent, job.item
        )
    environments.close()  # a simulator that draws with EGL may have to be the only one of its process
    env = make_env(environments, job.env_id, render=True, env_options=job.env_options)
    video = Video(job.video, env.metadata.get("render_fps", 30))
    try:
        episode = play(env, agent, job.item, Recorder(env, [video]), job.item.key)
    except BaseException:
        video.discard()
        raise
    finally:
        environments.close()
    video.close()
    return episode


@functools.lru_cache(maxsize=1)
def _agent(policy: str, device: str, server: Address | None, execution: Execution) -> Agent:
    return RemoteAgent(server) if server else load_agent(policy, device, execution)


@contextlib.contextmanager
def _served(policy: str, device: str, execution: Execution) -> Iterator[Address]:
    with PolicyServer(load_policy(policy, device, execution)) as address:
        yield address


@contextlib.contextmanager
def one_thread(policy: str, serve: bool = False) -> Iterator[None]:
    """Sums over several threads round differently, so a policy in this process has one, as in the workers."""
    if serve or policy in SCRIPTED:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
