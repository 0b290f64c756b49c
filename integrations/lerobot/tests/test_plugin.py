"""LeRobot finds the package by the name of its distribution."""

from __future__ import annotations

import logging

from lerobot.configs import PreTrainedConfig
from lerobot.envs import EnvConfig
from lerobot.policies.factory import get_policy_class
from lerobot.utils.import_utils import register_third_party_plugins

from lerobot_policy_roboflamingo.modeling_roboflamingo import RoboFlamingoPolicy


def test_lerobot_finds_policy_and_environment(caplog):
    with caplog.at_level(logging.INFO):
        register_third_party_plugins()
    assert "Imported third-party plugin: lerobot_policy_roboflamingo" in caplog.text
    assert "roboflamingo" in PreTrainedConfig.get_known_choices()
    assert "rf_playtable" in EnvConfig.get_known_choices()
    assert get_policy_class("roboflamingo") is RoboFlamingoPolicy
