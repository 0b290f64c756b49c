"""Options that would change nothing, or something else, are refused with the one to give instead."""

from __future__ import annotations

import json
import shutil

import pytest
from lerobot.configs import PreTrainedConfig

from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from rf_agent.errors import UserError

NEVER = {
    "--n_obs_steps=4": r"policy.n_obs_steps is 4, .* --policy.override='\[\"head.window=...\"\]'",
    '--normalization_mapping={"ACTION": "MEAN_STD"}': "MEAN_STD for ACTION, .* --policy.action_normalization",
}
TRAINED = {
    '--cameras=["rgb_gripper"]': r"policy.cameras is \['rgb_gripper'\], .*\['rgb_static', 'rgb_gripper'\].*init_head",
    "--gripper=3": "policy.gripper is 3, but the policy has learned with 6: .*--policy.init_head=false",
    "--action_normalization=min_max": "policy.action_normalization is 'min_max', .* with 'none': .*init_head=false",
}
STORED = {
    "--preset=mid": "policy.preset is 'mid', but the checkpoint has another network: ",
    '--override=["image.size=64"]': "image.size is 64 .* saved for 32: train with `rf-agent train --init",
    '--override=["image.resample=bicubic"]': "image.resample is 'bicubic' .* saved for 'bilinear'",
}


@pytest.mark.parametrize(("option", "text"), [*NEVER.items(), *TRAINED.items(), *STORED.items()])
def test_options_without_effect_on_a_checkpoint(lerobot_folder, option, text):
    with pytest.raises(UserError, match=text):
        PreTrainedConfig.from_pretrained(lerobot_folder, cli_overrides=[option])


def test_options_without_effect_on_a_new_policy():
    with pytest.raises(UserError, match="policy.n_obs_steps is 2"):
        RoboFlamingoConfig(preset="roboflamingo-test", n_obs_steps=2)
    config = RoboFlamingoConfig(preset="roboflamingo-test", override=["image.size=64"], cameras=["front"], gripper=3)
    assert config.agent_config.image.size == 64


@pytest.mark.parametrize("option", TRAINED)
def test_a_new_head_may_have_them(lerobot_folder, option):
    PreTrainedConfig.from_pretrained(lerobot_folder, cli_overrides=[option, "--init_head=false"])


def test_what_the_checkpoint_says_itself_is_taken(lerobot_folder, tmp_path):
    """Options of earlier versions lie in their checkpoints."""
    folder = shutil.copytree(lerobot_folder, tmp_path / "old")
    path = folder / "config.json"
    old = {"cameras": ["rgb_static", "rgb_gripper"], "gripper": 6, "action_normalization": "none"}
    for preset in ("roboflamingo-test", "roboflamingo-tiny"):  # its own, and the default
        path.write_text(json.dumps({**json.loads(path.read_text()), **old, "preset": preset}))
        assert PreTrainedConfig.from_pretrained(folder, cli_overrides=["--n_action_steps=1"]).preset is None
