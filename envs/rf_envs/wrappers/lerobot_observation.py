"""Observations under the keys that LeRobot knows."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces

_SOURCES = ("rgb_static", "rgb_gripper", "robot_obs")
_LEROBOT_OPTION = "lerobot_"
"""How reset options begin that are meant for LeRobot's own wrappers."""


class LeRobotObservation(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """Gives observations in the layout that LeRobot expects of a Gymnasium environment.

    ``{"pixels": {"image": rgb_static, "image2": rgb_gripper}, "agent_pos": robot_obs}``: LeRobot's
    ``preprocess_observation`` makes ``observation.images.image``, ``observation.images.image2`` and
    ``observation.state`` of it. It asks the environment for the words, so the instruction is an attribute,
    `task_description`, and no observation. LeRobot's episode lengths and successes need nothing more.

    Stable-Baselines3 cannot carry the nested ``pixels``.

    Args:
        env: an environment of this package.
        cameras: names for the static and the gripper's image, those that the policy was trained with.

    Examples:
        >>> env = LeRobotObservation(gym.make("rf_envs:rf/PlayTableD-v0"))
        >>> observation, info = env.reset(seed=0, options={"task": "open_drawer"})
        >>> observation["pixels"]["image2"].shape, observation["agent_pos"].shape
        ((84, 84, 3), (15,))
        >>> env.task_description
        'pull the drawer out'
    """

    def __init__(self, env: gym.Env, cameras: tuple[str, str] = ("image", "image2")):
        gym.utils.RecordConstructorArgs.__init__(self, cameras=cameras)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Dict) or not set(_SOURCES) <= set(space.spaces):
            given = sorted(space.spaces) if isinstance(space, spaces.Dict) else type(space).__name__
            raise ValueError(
                f"LeRobotObservation needs observations with {', '.join(_SOURCES)}, got {given}; wrap an environment "
                "of rf_envs."
            )
        names = tuple(cameras)
        if len(set(names)) != 2 or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"cameras is {cameras!r}; expected two different names, for static and gripper.")
        self._cameras = names
        self.observation_space = self._arrange(space.spaces, spaces.Dict)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode. Options by which LeRobot talks to its own wrappers are not passed on."""
        ours = {key: value for key, value in (options or {}).items() if not key.startswith(_LEROBOT_OPTION)}
        return super().reset(seed=seed, options=ours)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation in LeRobot's layout."""
        return self._arrange(observation, dict)

    @property
    def task(self) -> str:
        """Name of the present task."""
        return self.env.get_wrapper_attr("task")

    @property
    def task_description(self) -> str:
        """The present instruction."""
        return self.env.get_wrapper_attr("task_description")

    @property
    def _max_episode_steps(self) -> int:
        return self.env.get_wrapper_attr("_max_episode_steps")

    def _arrange(self, source: Any, mapping: Any) -> Any:
        static, gripper, robot = (source[key] for key in _SOURCES)
        return mapping({"pixels": mapping({self._cameras[0]: static, self._cameras[1]: gripper}), "agent_pos": robot})
