"""Wrappers around the environments: one small class per idea."""

from rf_envs.wrappers.absolute_actions import AbsoluteActions
from rf_envs.wrappers.lerobot_observation import LeRobotObservation
from rf_envs.wrappers.text_instruction import TextInstruction

__all__ = ["AbsoluteActions", "LeRobotObservation", "TextInstruction"]
