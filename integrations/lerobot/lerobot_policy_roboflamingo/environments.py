"""`--env.type=rf_playtable`: the environments of `rf_envs` in LeRobot's commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.envs.utils import FreezeAfterEpisodeEnd
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from rf_agent.errors import ConfigError, UserError
from rf_envs import ChainEnv, LeRobotObservation
from rf_envs.spaces import ROBOT_OBS_LOW, action_space

CAMERAS = ("rgb_static", "rgb_gripper")
"""Names of the images in LeRobot: `observation.images.rgb_static`, as in data sets that `rf-agent convert` writes."""
AGENT_POS = "agent_pos"
DEFAULT_TASK = "rf/PlayTableD-v0"


@EnvConfig.register_subclass("rf_playtable")
@dataclass
class PlayTableEnvConfig(EnvConfig):
    """An environment of `rf_envs`: the embedded play table, or the real CALVIN.

    The instruction is the environment's `task_description`, which LeRobot hands to the policy as `task`.
    """

    task: str | None = DEFAULT_TASK
    """Gymnasium id: a single task (rf/PlayTableD-v0), or a chain of five (rf/PlayTableChainD-v0), whose summed reward
    is how many of them were done."""
    tasks: list[str] = field(default_factory=list)
    """Measure these single tasks one by one, such as ["open_drawer", "close_drawer"]; without them an episode draws one
    of all."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the environment, such as {"instructions": "enriched", "render_every": 3}."""
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    """Filled in."""
    features_map: dict[str, str] = field(default_factory=dict)
    """Filled in."""

    def __post_init__(self) -> None:
        if self.max_parallel_tasks > 1:
            # no ValueError, of which draccus hides the text
            raise UserError(
                f"env.max_parallel_tasks is {self.max_parallel_tasks}, but tasks at the same time would share the one "
                "history of the policy: leave it at 1; --eval.batch_size plays episodes of a task at the same time."
            )
        if "tasks" in self.options:
            raise UserError("env.options has 'tasks': give --env.tasks instead.")
        sizes = self.options.get("image_size", (200, 84))
        if not isinstance(sizes, list | tuple) or len(sizes) != 2:
            raise UserError(f"env.options has image_size {sizes!r}: give two, such as [200, 84] (static, gripper).")
        self.features = {
            f"{OBS_IMAGES}.{camera}": PolicyFeature(FeatureType.VISUAL, (size, size, 3))
            for camera, size in zip(CAMERAS, sizes, strict=True)
        }
        self.features[AGENT_POS] = PolicyFeature(FeatureType.STATE, ROBOT_OBS_LOW.shape)
        self.features[ACTION] = PolicyFeature(FeatureType.ACTION, action_space().shape)
        self.features_map = {key: key for key in self.features} | {AGENT_POS: OBS_STATE}

    @property
    def gym_id(self) -> str:
        """The id with the module that registers it, so that worker processes find it, too."""
        task = self.task or DEFAULT_TASK
        return task if ":" in task else f"rf_envs:{task}"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `gym.make`. LeRobot films the first episodes of every evaluation."""
        return {"render_mode": "rgb_array", "disable_env_checker": self.disable_env_checker, **self.options}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """Vector environments: one, named by the type; or one for each of `tasks`, named by the task.

        Raises:
            ImportError: PyBullet is not installed; the message says how to.
            ConfigError: single tasks are asked of an environment of chains.
            ValueError: the environment has no such task.
        """
        if not self.tasks:
            return {self.type: {0: self._vector(n_envs, use_async_envs)}}
        self._check_tasks()
        makers = {task: partial(self._vector, n_envs, use_async_envs, tasks=[task]) for task in self.tasks}
        return {task: {0: LazyVectorEnv(make, n_envs)} for task, make in makers.items()}

    def _check_tasks(self) -> None:
        """Refuse tasks that cannot be measured, before the first of them is."""
        env = gym.make(self.gym_id, **self.gym_kwargs)
        chained = isinstance(env.unwrapped, ChainEnv)
        env.close()
        if chained:
            raise ConfigError(
                f"env.tasks is {self.tasks}, but {self.task} plays chains of tasks that it draws itself: give "
                "--env.task the id of single tasks, such as rf/PlayTableD-v0, or leave out --env.tasks."
            )
        gym.make(self.gym_id, **self.gym_kwargs, tasks=self.tasks).close()  # it refuses names that are none

    def _vector(self, count: int, parallel: bool, **options: Any) -> VectorEnv:
        makers = [partial(make_env, self.gym_id, **self.gym_kwargs, **options)] * count
        if parallel and count > 1:
            return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP, context="forkserver")
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


class LazyVectorEnv:
    """A vector environment that is made when it is first used, and again when it is used after being closed.

    LeRobot gets those of all tasks at once, but measures one task after the other and closes each when it is done: only
    the present task's environments, and their processes, are there. It has what LeRobot uses of a vector environment,
    as LeRobot's own for LIBERO does.

    Args:
        make: makes it.
        num_envs: how many environments it has.
    """

    def __init__(self, make: Callable[[], VectorEnv], num_envs: int) -> None:
        self.num_envs = num_envs
        self._make, self._made = make, None

    @property
    def made(self) -> VectorEnv:
        """The vector environment itself."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @property
    def unwrapped(self) -> LazyVectorEnv:
        return self

    @property
    def metadata(self) -> dict[str, Any]:
        return self.made.metadata

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        return self.made.reset(**options)

    def step(self, actions: Any) -> tuple[Any, ...]:
        return self.made.step(actions)

    def call(self, name: str, *arguments: Any, **options: Any) -> tuple[Any, ...]:
        return self.made.call(name, *arguments, **options)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        return self.made.get_attr(name)

    def close(self) -> None:
        """End the environments, and their processes."""
        if self._made is not None:
            self._made.close()
            self._made = None


def make_env(gym_id: str, **options: Any) -> gym.Env:
    """One environment with LeRobot's keys, which costs nothing once its episode is over."""
    return FreezeAfterEpisodeEnd(LeRobotObservation(gym.make(gym_id, **options), CAMERAS))
