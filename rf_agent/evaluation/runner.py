"""An evaluation: episodes as a work queue over simulator processes, kept as they finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rf_agent import watchdog
from rf_agent.environments import Environments, is_ours
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import AS_TRAINED, Execution, fingerprint
from rf_agent.evaluation.episode import (
    ALL_CHAINS,
    Item,
    chain_items,
    episode_items,
    play,
    task_items,
    task_name,
)
from rf_agent.evaluation.journal import Journal
from rf_agent.evaluation.metrics import Episode
from rf_agent.evaluation.video import STATIC, Recorder, Video
from rf_agent.evaluation.worker import RESTARTS, Who, Worker, acting
from rf_agent.workers import run_jobs

Engine = Literal["local", "ray"]

VIDEO_SIZE = STATIC  # pixels of the static view that is rendered for videos


@dataclass(frozen=True)
class EnvFacts:
    """What an evaluation must know about an environment before it begins."""

    tasks: tuple[str, ...]
    """The tasks an episode can have; of environments that do not say, the one of their first reset."""
    chained: bool
    """Whether an episode is a chain of tasks."""
    renderer: str
    """What draws the camera images; scores of different renderers do not compare."""
    named: bool = True
    """Whether its `info` names tasks; without, an episode is one try of whatever the environment is about."""
    listed: bool = False
    """Whether the environment says which tasks there are."""


def check_counts(chains: int | None, episodes_per_task: int | None, spelled: Callable[[str], str] = str) -> None:
    """Refuse numbers of episodes that cannot be played; `spelled` says what an argument is called, for the message."""
    for name, value in (("chains", chains), ("episodes_per_task", episodes_per_task)):
        if value is not None and value < 1:
            raise UserError(f"{spelled(name)} is {value}: give 1 or more")
    if chains is not None and chains > ALL_CHAINS:
        raise UserError(f"{spelled('chains')} is {chains}, but the benchmark has {ALL_CHAINS} chains")


def choose_items(
    env_id: str,
    facts: EnvFacts,
    chains: int | None,
    episodes_per_task: int | None,
    tasks: Sequence[str],
    seed: int,
    usual_tasks: Sequence[str] = (),
    spelled: Callable[[str], str] = str,
) -> list[Item]:
    """The episodes of an evaluation.

    Args:
        env_id: the environment. facts: what its episodes are.
        chains: of environments of chains, how many; 100 if not given.
        episodes_per_task: of others; 20 if not given.
        tasks: which of their tasks.
        seed: of the scenes.
        usual_tasks: those that are played where `tasks` names none, as far as the environment has them; all of the
            environment's if this is empty, too.
        spelled: what an argument is called, for messages.

    Raises:
        UserError: something is asked for that the environment does not play.
    """
    of_chains, of_tasks, which = map(spelled, ("chains", "episodes_per_task", "tasks"))
    if facts.chained:
        if tasks or episodes_per_task is not None:
            raise UserError(f"{env_id} plays chains: give {of_chains} instead of {which} and {of_tasks}")
        return chain_items(chains or 100, seed)
    if chains is not None:
        raise UserError(f"{env_id} plays single tasks: give {of_tasks} instead of {of_chains}")
    if not facts.named:
        return episode_items(env_id, episodes_per_task or 20, seed)
    usual = [task for task in usual_tasks if task in facts.tasks or not facts.listed]
    if usual_tasks and not tasks and not usual:
        raise UserError(
            f"{env_id} has none of the tasks that the policy was trained on ({', '.join(usual_tasks)}): name others "
            f"with {which}"
        )
    return task_items(list(dict.fromkeys(tasks or usual or facts.tasks)), episodes_per_task or 20, seed)


def requested(facts: EnvFacts, items: Sequence[Item]) -> dict[str, Any]:
    """What a whole evaluation is, all shards together, as `results.json` says it."""
    if facts.chained:
        return {"chains": len(items)}
    tasks = list(dict.fromkeys(item.key.rpartition("/")[0] for item in items))
    return {"tasks": tasks, "episodes_per_task": len(items) // len(tasks)}


@dataclass(frozen=True)
class _Job:
    item: Item
    env_id: str
    env_options: Mapping[str, Any]
    who: Who
    video: Path | None

    def __str__(self) -> str:
        return f"{self.env_id.rpartition(':')[2]}, {self.item.key}"


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
        return ask(make_env(environments, env_id, env_options=env_options), env_id, wanted)


def ask(env: Any, env_id: str, wanted: Sequence[str] = ()) -> EnvFacts:
    """What the episodes of an environment are. It is reset.

    Raises:
        ValueError: one of the `wanted` tasks is unknown to the environment, in its words.
    """
    _, info = env.reset(seed=0)
    bare = env.unwrapped
    renderer = str(getattr(bare, "renderer", "unknown"))
    if "task" not in info or "is_success" not in info:
        if wanted:
            raise ValueError(f"{env_id} does not name tasks in `info`: leave --tasks out")
        return EnvFacts((task_name(env_id),), False, renderer, named=False)
    chained = "chain" in info
    for task in () if chained else wanted:
        env.reset(seed=0, options={"task": task})
    tasks = getattr(bare, "tasks", None)
    if hasattr(bare, "expert"):
        tasks = getattr(bare.expert(), "tasks", tasks)
    return EnvFacts(tuple(tasks or (info["task"],)), chained, renderer, listed=bool(tasks))


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
    shard: str | None = None,
    requested: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    engine: Engine = "local",
    on_kept: Callable[[list[Episode]], None] | None = None,
    on_episode: Callable[[Episode], None] | None = None,
    on_restart: Callable[[str], None] | None = None,
) -> tuple[list[Episode], float]:
    """Play those of `items` that `output` does not hold yet.

    On a CPU every worker process has its own copy of the policy on one thread, and an item's result depends
    on the item alone. On a GPU, and where the policy is large, one copy serves the observation steps of all workers
    in batches, whose sums may round differently. A worker that dies is replaced, and its episode played again.

    Args:
        env_id: Gymnasium id; `rf/...` finds rf_envs by itself.
        policy: what `--policy` takes.
        items: see `task_items` and `chain_items`.
        output: directory of the journal `episodes.jsonl` and of `videos/`.
        seed: of the evaluation, kept in the journal; the items have theirs.
        workers: simulator processes; 1 plays in this process if there is no time-out.
        video_episodes: that many of the first items are recorded.
        env_options: further arguments of the environment.
        renderer: what draws, as `env_facts` found; results of another one are refused.
        execution: how the policy acts; results of another way are refused.
        shard: which part of a divided evaluation the items are, such as "1/3"; kept in the journal.
        requested: what the whole evaluation is, all shards together, for reports on an unfinished one.
        timeout: seconds that a step may take before its worker is ended.
        engine: `ray` plays the items as tasks of a Ray cluster, as many at once as it has CPUs.
        on_kept: called once, before any episode is played, with those of `items` that `output` holds.
        on_episode: called with each episode as it finishes.
        on_restart: hears, in a sentence, why workers are replaced.

    Returns:
        The episodes of `items`, in their order, and the wall-clock seconds spent on the journal so far.

    Raises:
        UserError: `output` holds results of another environment, policy or seed; or the policy gives what is no action.
        RuntimeError: workers died again and again, or an episode hung twice; what had finished is kept.
    """
    if engine == "ray" and device != "cpu":
        raise UserError(f"--engine ray plays on the CPUs of a cluster: give --device cpu in place of {device}")
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
        **({} if shard is None else {"shard": shard}),
    }
    journal = Journal(output, settings, requested)
    wanted = [(index, item) for index, item in enumerate(items) if item.key not in journal.episodes]
    if on_kept:
        on_kept([journal.episodes[item.key] for item in items if item.key in journal.episodes])
    begun = time.perf_counter() - journal.seconds
    alone = workers if engine == "local" else None
    with acting(policy, device, execution, alone, timeout, settings["weights"]) as who:
        jobs = (
            _Job(item, env_id, env_options, who, video)
            for index, item in wanted
            for video in [_video(output, item) if index < video_episodes else None]
        )
        try:
            count = max(1, min(workers, len(wanted)))
            if engine == "ray":
                from rf_agent.ray_jobs import run_jobs_on_ray

                done = run_jobs_on_ray(_run, jobs, Worker, RESTARTS, timeout)
            else:
                restarts = RESTARTS if count > 1 or timeout else 0
                done = run_jobs(
                    _run,
                    jobs,
                    count,
                    Worker,
                    restarts=restarts,
                    timeout=timeout,
                    on_restart=on_restart,
                )
            for _, episode in done:
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
    return output.resolve() / "videos" / f"{item.key.replace('/', '-')}.mp4"


def _run(worker: Worker, job: _Job) -> Episode:
    watchdog.alive(f"{job},")
    environments, agent = worker.environments, worker.agent(job.who)
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
