"""RoboFlamingo as a policy, and its play table as an environment, in LeRobot's commands.

LeRobot imports this package by its name. That registers `--policy.type=roboflamingo`, `--env.type=rf_playtable` and the
processor step in saved pipelines; the network is imported when a policy is made.
"""

from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from lerobot_policy_roboflamingo.environments import PlayTableEnvConfig
from lerobot_policy_roboflamingo.processor_roboflamingo import ResizeImages

__all__ = ["PlayTableEnvConfig", "ResizeImages", "RoboFlamingoConfig"]
