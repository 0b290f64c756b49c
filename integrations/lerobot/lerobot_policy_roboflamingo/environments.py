"""`--env.type=rf_playtable`: the environments of `rf_envs` in LeRobot's commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.envs.utils import FreezeAfterEpisodeEnd
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from rf_envs import LeRobotObservation
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
    """Measure these tasks one by one, such as ["open_drawer", "close_drawer"]; empty: each episode draws one of all."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the environment, such as {"instructions": "enriched", "render_every": 3}."""
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    """Filled in."""
    features_map: dict[str, str] = field(default_factory=dict)
    """Filled in."""

    def __post_init__(self) -> None:
        sizes = self.options.get("image_size", (200, 84))
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

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, VectorEnv]]:
        """Vector environments: one, named by the type; or one for each of `tasks`, named by the task.

        Raises:
            ImportError: PyBullet is not installed; the message says how to.
        """
        if not self.tasks:
            return {self.type: {0: self._vector(n_envs, use_async_envs, {})}}
        return {task: {0: self._vector(n_envs, use_async_envs, {"tasks": [task]})} for task in self.tasks}

    def _vector(self, count: int, parallel: bool, options: dict[str, Any]) -> VectorEnv:
        makers = [partial(make_env, self.gym_id, **self.gym_kwargs, **options)] * count
        if parallel and count > 1:
            return AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP, context="forkserver")
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.NEXT_STEP)


def make_env(gym_id: str, **options: Any) -> gym.Env:
    """One environment with LeRobot's keys, which costs nothing once its episode is over."""
    return FreezeAfterEpisodeEnd(LeRobotObservation(gym.make(gym_id, **options), CAMERAS))
