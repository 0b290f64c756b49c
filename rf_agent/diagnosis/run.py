"""The whole diagnosis: demonstrations, environment and policy to facts and causes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rf_agent.demos.demonstration import Layout
from rf_agent.demos.readers import DemoReader, open_demos
from rf_agent.diagnosis.causes import Cause, rank
from rf_agent.diagnosis.episodes import Episode, choose_episodes, state_scale
from rf_agent.diagnosis.evidence import evidence
from rf_agent.diagnosis.facts import Facts
from rf_agent.diagnosis.observations import TOLERANCE, VIDEO_TOLERANCE, common_format, compare_observations
from rf_agent.diagnosis.replay import ReplayReport, begin, replay_all
from rf_agent.environments import Environments, instructed, is_ours, plays_chains
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import NEVER, find_policy, has_network
from rf_agent.progress import Reporter, Silent

if TYPE_CHECKING:
    from rf_agent.policy import RoboFlamingoPolicy


@dataclass
class Diagnosis:
    """What was looked at, what was found, and why the policy may score zero."""

    policy: str
    demos: str
    env: str
    layout: Layout
    episodes: list[Episode]
    facts: Facts
    causes: list[Cause]
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """By section: sentences on what was not checked, and why."""


def diagnose(
    policy: str,
    demos: Path,
    env_id: str,
    *,
    episodes: int = 8,
    replay: bool = True,
    seed: int = 0,
    device: str = "cpu",
    env_options: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> Diagnosis:
    """Look for what keeps a policy from doing in an environment what demonstrations show.

    Args:
        policy: a checkpoint directory, a bundled name, `expert` or `random`.
        demos: a file or folder of demonstrations.
        env_id: an environment of single tasks.
        episodes: demonstrations to look at.
        replay: whether to carry out the recorded actions in the environment.
        seed: of the choice among the demonstrations.
        device: where the policy computes.
        env_options: further arguments of the environment.
        reporter: hears of the progress.

    Raises:
        UserError, ValueError, FileNotFoundError: there is no such policy, file or environment, or they are of
            different robots.
    """
    if episodes < 1:
        raise UserError(f"--episodes is {episodes}: give 1 or more")
    reporter = reporter or Silent()
    facts = Facts()
    left_out: dict[str, list[str]] = {}
    reporter.update(0.0, "loading the policy")
    loaded = _load(policy, device, facts) if has_network(policy) else None
    reader = open_demos(demos, reporter)
    with Environments() as environments:
        env = _environment(environments, env_id, env_options or {}, reader.layout.frame_stride)
        _check_robot(reader, env, env_id, loaded)
        tasks = () if loaded is None else loaded.config.tasks
        layout = _layout(reader.layout, env, loaded)
        chosen = choose_episodes(reader, episodes, tasks, seed)
        _read_facts(facts, reader, tasks)
        facts.formats = {
            camera: common_format([episode.formats[camera] for episode in chosen]) for camera in reader.layout.cameras
        }
        if replay:
            reporter.update(0.1, "replaying the recorded actions")

            def without_images() -> Any:
                if is_ours(env_id):  # with EGL the real CALVIN allows one simulator in a process
                    environments.close()
                return _environment(environments, env_id, env_options or {}, NEVER)

            facts.replay = replay_all(env, without_images, chosen, layout, state_scale(chosen))
            left_out["replay"] = facts.replay.left_out
            reporter.update(0.4, "comparing observations")
            facts.observations = compare_observations(
                chosen, facts.replay.replays, layout, facts.replay.reproduced, _tolerance(reader)
            )
            left_out["observations"] = facts.observations.left_out
        else:
            left_out["replay"] = left_out["observations"] = ["left out by --no-replay"]
        _describe(facts, reader, env, env_id)
        asked = _asked(env, chosen, facts.replay)
        unseen = _unseen_state(env, loaded)
    if loaded is None:
        scripted = f"--policy {policy} has no network to compare with"
        reason = "the policy could not be loaded" if facts.checkpoint else scripted
        left_out["actions"] = left_out["language"] = [reason]
        left_out["checkpoint"] = [] if facts.checkpoint else [reason]
    else:
        from rf_agent.diagnosis.ask import ask

        left_out |= ask(loaded, chosen, reader, asked, facts, reporter)
        if unseen:
            left_out["actions"].append(
                f"{env_id} gives no {unseen!r}, so that there the policy acts without the robot's state, which it "
                "reads in the data"
            )
    reporter.update(1.0, "done")
    causes = rank(evidence(facts))
    return Diagnosis(policy, str(demos), env_id, layout, chosen, facts, causes, left_out)


def _load(name: str, device: str, facts: Facts) -> RoboFlamingoPolicy | None:
    """The policy; or None and what is wrong with its checkpoint, if there is one of that name."""
    from rf_agent.checkpoint import CheckpointError, read_config
    from rf_agent.config import ConfigError, RoboFlamingoConfig
    from rf_agent.diagnosis.checkpoint_checks import check_config, open_gates, shortened_error
    from rf_agent.policy import RoboFlamingoPolicy

    directory = find_policy(name)
    config = read_config(directory)
    if not isinstance(config, RoboFlamingoConfig):
        raise UserError(
            f"--policy {name} is of type {config.type!r}, but diagnose asks RoboFlamingo alone: "
            "--policy expert looks at the data and the environment, whatever the policy is"
        )
    facts.checkpoint = check_config(config, directory)
    try:
        policy = RoboFlamingoPolicy.from_pretrained(directory, device)
    except (CheckpointError, ConfigError, ValueError) as error:
        facts.checkpoint.unreadable = shortened_error(str(error))
        return None
    facts.checkpoint.gates = open_gates(policy)
    return policy


def _environment(environments: Environments, env_id: str, options: dict[str, Any], render_every: int) -> Any:
    """The environment; ours draw only the images that are compared."""
    extra = {"render_every": render_every} if is_ours(env_id) else {}
    return environments.get(env_id, **options | extra)


def _unseen_state(env: Any, policy: RoboFlamingoPolicy | None) -> str:
    """The key of the state that a policy may do without, and that the environment does not give; else empty."""
    if policy is None or not policy.config.head.state_optional:
        return ""
    key = policy.config.state.key
    return "" if key in getattr(env.observation_space, "spaces", {}) else key


def _layout(layout: Layout, env: Any, policy: RoboFlamingoPolicy | None) -> Layout:
    """The layout of the data, with the gripper that policy or environment name where the data do not say."""
    if layout.gripper_known:
        return layout
    own = None if policy is None else policy.config.action.gripper
    return replace(layout, gripper=getattr(env.unwrapped, "gripper_index", None) if own is None else own)


def _check_robot(reader: DemoReader, env: Any, env_id: str, policy: RoboFlamingoPolicy | None) -> None:
    """Refuse a policy, data and an environment of different robots."""
    layout = reader.layout
    if plays_chains(env):
        raise UserError(
            f"{env_id} plays chains, where a demonstration cannot begin: give the environment of single tasks, such as "
            f"{env_id.replace('Chain', '')}"
        )
    shape = getattr(env.action_space, "shape", None)
    if shape != (layout.action_dim,):
        raise UserError(
            f"{reader.path} has actions of {layout.action_dim} entries, but {env_id} takes actions of shape {shape}: "
            "give demonstrations and an environment of one robot"
        )
    if policy is None:
        return
    config = policy.config
    if config.action.dim != layout.action_dim:
        raise UserError(
            f"the policy acts with {config.action.dim} numbers, but {reader.path} has actions of {layout.action_dim}: "
            "give a policy of this robot"
        )
    for view in config.views:
        if view not in layout.cameras:
            raise UserError(
                f"the policy sees the camera {view!r}, which {reader.path} does not have (it has "
                f"{', '.join(layout.cameras)}): give demonstrations with it"
            )
        spaces = getattr(env.observation_space, "spaces", {})
        if view not in spaces:
            raise UserError(
                f"the policy sees the camera {view!r}, which {env_id} does not have (it has "
                f"{', '.join(sorted(spaces))}): give an environment of this robot"
            )


def _read_facts(facts: Facts, reader: DemoReader, tasks: tuple[str, ...]) -> None:
    for problem in reader.problems():
        # images of another number format are compared below, and named more precisely
        if "expected uint8" not in problem:
            facts.data_problems.append(problem)
        if len(facts.data_problems) == 20:
            break
    # formats without names of tasks give the instruction in their place, which says nothing
    held = {record.task for record in reader.records if record.success and record.task != record.instruction}
    if tasks and held:
        facts.known_tasks = len(held & set(tasks)), len(held)


def _describe(facts: Facts, reader: DemoReader, env: Any, env_id: str) -> None:
    """What data and environment say of themselves."""
    described: dict[str, tuple[Any, Any]] = {}
    origin = _origin(reader)
    replays = [] if facts.replay is None else facts.replay.replays
    renderer = replays[0].renderer if replays else ""
    if "renderer" in origin and renderer:
        described["renderer"] = origin["renderer"], renderer
    scenes = {str(record.attributes["scene"]) for record in reader.records if "scene" in record.attributes}
    scene = getattr(env.unwrapped, "scene", None)
    if len(scenes) == 1 and isinstance(scene, str):
        described["scene"] = scenes.pop().removeprefix("calvin_scene_"), scene
    rate = env.metadata.get("render_fps")
    if reader.layout.fps and rate:
        described["rate"] = float(reader.layout.fps), float(rate)
    facts.described = described


def _tolerance(reader: DemoReader) -> float:
    """The difference up to which its images and those of an environment are the same."""
    from rf_agent.demos.readers.lerobot import LeRobotReader

    packed = "image_codec" in _origin(reader)
    return VIDEO_TOLERANCE if packed or isinstance(reader, LeRobotReader) else TOLERANCE


def _origin(reader: DemoReader) -> dict[str, Any]:
    """What an HDF5 file says of where it comes from."""
    from rf_agent.demos.readers.hdf5 import HDF5Reader

    if type(reader) is not HDF5Reader:
        return {}
    from rf_agent.demos.files import open_hdf5
    from rf_agent.demos.store import read_env_args

    with open_hdf5(reader.path) as file:
        try:
            return read_env_args(file)
        except (KeyError, json.JSONDecodeError, UserError):
            return {}


def _asked(env: Any, episodes: list[Episode], replays: ReplayReport | None) -> list[str]:
    """What the environment asks for in each episode's task; empty texts where it does not know that task."""
    if replays is not None:
        return [replay.instruction for replay in replays.replays]
    asked = []
    for episode in episodes:
        observation, info = begin(env, episode)
        text = instructed(observation, {"instruction": ""} | info)["instruction"]
        asked.append(text if isinstance(text, str) else np.asarray(text, np.uint8).tobytes().rstrip(b"\0").decode())
    return asked
