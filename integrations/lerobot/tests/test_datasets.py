"""The robot of a policy comes from the data set, and what does not fit is refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.policies import make_policy
from lerobot_files import make_episodes, write_v3
from safetensors.torch import load_file

from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from lerobot_policy_roboflamingo.convert import to_lerobot
from lerobot_policy_roboflamingo.modeling_roboflamingo import RoboFlamingoPolicy
from rf_agent.demos.files import DemoError
from rf_agent.errors import ConfigError, UserError
from rf_agent.policy import RoboFlamingoPolicy as Agent


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A data set of another robot, laid out as LeRobot's own code does: two cameras, four actions, a state of three."""
    return write_v3(tmp_path_factory.mktemp("foreign"), make_episodes())


def new(root, **options) -> RoboFlamingoPolicy:
    """A new policy, as `lerobot-train` makes it."""
    config = RoboFlamingoConfig(preset="roboflamingo-test", device="cpu", **options)
    return make_policy(config, ds_meta=LeRobotDatasetMetadata("local/foreign", root=root))


def load(folder, root, *options: str) -> RoboFlamingoPolicy:
    """A policy that `lerobot-train` starts from."""
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=list(options))
    config.pretrained_path = folder
    return make_policy(config, ds_meta=LeRobotDatasetMetadata("local/foreign", root=root))


def test_another_robot(foreign):
    policy = new(foreign, override=["head.proprioception=true"])
    agent = policy.agent.config
    assert agent.views == ("front", "image") and agent.fps == 10
    assert list(policy.config.image_features) == ["observation.images.front", "observation.image"]
    actions = np.concatenate([episode.actions for episode in make_episodes()])
    assert (agent.action.dim, agent.action.gripper, agent.action.normalization) == (4, None, "min_max")
    assert np.allclose(agent.action.low, actions.min(axis=0)) and np.allclose(agent.action.high, actions.max(axis=0))
    assert agent.state.dim == 3 and len(agent.state.mean) == 3
    assert agent.tasks == ("do thing 0", "do thing 1")
    batch = {key: torch.zeros(2, 3, 40, 40) for key in policy.config.image_features}
    acted = policy.select_action(batch | {"observation.state": torch.zeros(2, 3), "task": ["do thing 0"] * 2})
    assert acted.shape == (2, 4)
    assert (acted.numpy() >= actions.min(axis=0) - 1e-6).all()  # in the robot's own units


def test_cameras_and_gripper_can_be_named(foreign):
    agent = new(foreign, cameras=["front"], gripper=3).agent.config
    assert agent.views == ("front",) and agent.action.gripper == 3
    with pytest.raises(DemoError, match=r"--policy.gripper is 9, but the actions of .* have 4 entries"):
        new(foreign, gripper=9)
    with pytest.raises(DemoError, match=r"has no camera 'top' \(it has front, image\).*--policy.cameras"):
        new(foreign, cameras=["top"])


def test_quantiles_of_the_actions(foreign):
    wide, narrow = (new(foreign, action_normalization=how).agent.config.action for how in ("min_max", "quantiles"))
    assert all(a < b for a, b in zip(wide.low, narrow.low, strict=True))


def test_a_trained_policy_does_not_fit_another_robot(lerobot_folder, foreign):
    with pytest.raises(DemoError, match="10 actions a second, but .* at 30: .*without --policy.path") as caught:
        load(lerobot_folder, foreign)
    assert "--init" not in str(caught.value)


def test_actions_of_another_size_are_refused(lerobot_folder, tmp_path):
    from lerobot_files import edit_info

    data = write_v3(tmp_path / "data", make_episodes())
    edit_info(data, fps=30)
    with pytest.raises(DemoError, match=r"actions of shape \(T, 4\), but .* \(T, 7\): .*--policy.init_head=false"):
        load(lerobot_folder, data)


def test_a_new_head_for_another_robot(lerobot_folder, foreign):
    before = load_file(lerobot_folder / "model.safetensors")
    policy = load(lerobot_folder, foreign, "--init_head=false")
    assert policy.agent.config.action.dim == 4 and policy.agent.config.views == ("front", "image")
    assert not policy.agent.config.trained
    after = policy.state_dict()
    kept = [name for name in before if not name.startswith("agent.head.")]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)


def test_a_head_that_has_not_learned_is_drawn_for_the_robot(foreign, tmp_path):
    agent = Agent.from_preset("roboflamingo-test", ["do thing 0"], 1)
    folder = to_lerobot(agent.save_pretrained(tmp_path / "agent"), tmp_path / "lerobot")
    policy = load(folder, foreign)
    assert policy.agent.config.action.dim == 4
    assert torch.equal(policy.agent.vlm.perceiver.latents, agent.vlm.perceiver.latents)


def test_an_episode_without_instruction_is_named(tmp_path):
    episodes = make_episodes()
    episodes[1].tasks = [""] * len(episodes[1].tasks)
    data = write_v3(tmp_path / "data", episodes)
    with pytest.raises(DemoError, match=r"episode 1: .*instruction"):
        new(data)


def test_a_data_set_without_the_state_that_the_head_reads(tmp_path, foreign):
    agent = Agent.from_preset("roboflamingo-test", ["x"], 1, ["head.proprioception=true", "fps=10"])
    agent.config.trained = True
    agent.config.action.dim = 7
    folder = to_lerobot(agent.save_pretrained(tmp_path / "agent"), tmp_path / "lerobot")
    with pytest.raises(DemoError, match=r"actions of shape \(T, 4\)"):
        load(folder, foreign)
    with pytest.raises(ConfigError, match=r"reads observation.state of shape \(15,\) .* but it is not there"):
        config = PreTrainedConfig.from_pretrained(folder)
        del config.input_features["observation.state"]
        RoboFlamingoPolicy.from_pretrained(folder, config=config)


def test_parts_of_a_new_policy_cannot_stay_frozen(foreign):
    with pytest.raises(ConfigError, match="policy.trainable is 'head', .*--policy.path"):
        new(foreign, trainable="head")


def test_adapters_are_for_rf_agent():
    with pytest.raises(UserError, match="policy.trainable is 'lora', .*rf-agent train --trainable lora"):
        RoboFlamingoConfig(preset="roboflamingo-test", trainable="lora")


def test_an_unknown_preset_is_named():
    with pytest.raises(UserError, match="there is no preset 'huge'; known presets are"):
        RoboFlamingoConfig(preset="huge")
