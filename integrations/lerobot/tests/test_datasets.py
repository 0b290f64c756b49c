"""The robot of a policy comes from the data set, and what does not fit is refused in a sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import draccus
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from demo_files import CALVIN, make_demo, make_store
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.policies import make_policy
from lerobot_files import edit_info, edit_table, make_episodes, write_v3
from safetensors.torch import load_file

from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from lerobot_policy_roboflamingo.convert import to_lerobot
from lerobot_policy_roboflamingo.modeling_roboflamingo import RoboFlamingoPolicy
from rf_agent.demos.files import DemoError
from rf_agent.demos.store import append_demos, create_store
from rf_agent.demos.writers.lerobot import write_lerobot
from rf_agent.errors import ConfigError, UserError
from rf_agent.policy import RoboFlamingoPolicy as Agent
from rf_agent.training.robot import open_all


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A data set of another robot, laid out as LeRobot's own code does: two cameras, four actions, a state of three."""
    return write_v3(tmp_path_factory.mktemp("foreign"), make_episodes())


def new(root, **options) -> RoboFlamingoPolicy:
    """A new policy, as `lerobot-train` makes it."""
    config = RoboFlamingoConfig(preset="roboflamingo-test", device="cpu", **options)
    return make_policy(config, ds_meta=LeRobotDatasetMetadata("local/foreign", root=root))


def load_new(root, changes) -> RoboFlamingoPolicy:
    """The same from the command line's words."""
    config = draccus.parse(
        RoboFlamingoConfig, args=["--preset=roboflamingo-test", "--device=cpu", f"--override={json.dumps(changes)}"]
    )
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


def test_what_is_read_of_another_robots_state_may_be_chosen(foreign):
    reads = ["head.proprioception=true", "state.entries=[0,2]"]
    for policy in (new(foreign, override=reads), load_new(foreign, reads)):
        agent = policy.agent.config
        assert (agent.state.dim, agent.state.entries, len(agent.state.mean)) == (3, (0, 2), 2)
        assert policy.config.override == [] and policy.config.agent_config == agent
    with pytest.raises(UserError, match="state.entries"):
        new(foreign, override=["head.proprioception=true", "state.entries=[3]"])


@pytest.mark.parametrize("change", ['views=["top"]', "action.gripper=3"])
def test_changes_of_what_the_data_say_are_refused(foreign, change):
    with pytest.raises(UserError, match=r"no camera 'top'|--policy.override action"):
        new(foreign, override=[change])


def test_the_names_of_openpis_data_sets_are_refused(tmp_path):
    root = write_v3(tmp_path / "data", make_episodes((4, 3)), per_file=2, dtype="image")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["actions"] = features.pop("action")
    edit_info(root, features=features)
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.rename_columns([{"action": "actions"}.get(name, name) for name in table.column_names]), path)
    with pytest.raises(DemoError, match="calls 'action' 'actions', which LeRobot does not know: rename that feature"):
        new(root)


def test_all_of_a_new_policy_learns_at_the_full_rate(foreign, lerobot_folder, data_folder):
    """Nothing in it is worth sparing; of a checkpoint the vision-language model is."""
    policy = new(foreign)
    assert {group["lr"] for group in policy.get_optim_params()} == {policy.config.optimizer_lr}
    policy = load(lerobot_folder, data_folder)
    rates = {group["lr"] for group in policy.get_optim_params()}
    assert rates == {policy.config.optimizer_lr, policy.config.optimizer_lr * 0.3}


def test_a_head_of_another_shape_is_said_to_be_drawn_anew(lerobot_folder, data_folder, caplog):
    load(lerobot_folder, data_folder)
    assert "drawn anew" not in caplog.text
    load(lerobot_folder, data_folder, '--override=["head.hidden=24"]')
    assert "the head is drawn anew: that of the checkpoint has another shape" in caplog.text


def test_it_acts_in_the_units_of_the_robot(tmp_path):
    episodes = make_episodes()
    for episode in episodes:
        episode.actions = 7 + 2 * np.tanh(episode.actions)  # far from [-1, 1], in which the network predicts
    policy = new(write_v3(tmp_path / "data", episodes))
    actions = np.concatenate([episode.actions for episode in episodes])
    batch = {key: torch.rand(2, 3, 40, 40) for key in policy.config.image_features}
    acted = policy.eval().select_action(batch | {"task": ["do thing 0", "do thing 1"]}).numpy()
    assert acted.shape == (2, 4)
    assert (acted >= actions.min(axis=0) - 1e-5).all() and (acted <= actions.max(axis=0) + 1e-5).all()


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """A data set of a robot whose actions have as many entries as the preset's, which says nothing of a gripper."""
    episodes = make_episodes(dim=7)
    for episode in episodes:
        episode.actions = np.tanh(episode.actions)
        episode.actions[:, 6] = np.where(np.arange(len(episode.actions)) < 3, 1.0, -1.0)
    return write_v3(tmp_path_factory.mktemp("seven"), episodes)


def test_no_gripper_is_assumed(seven, data_folder):
    assert new(seven).agent.config.action.gripper is None
    assert new(seven, gripper=6).agent.config.action.gripper == 6
    assert new(data_folder).agent.config.action.gripper == 6  # our own data sets say it
    with pytest.raises(DemoError, match=r"--policy.gripper is 3, but .* says that its gripper is at entry 6"):
        new(data_folder, gripper=3)


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
    data = write_v3(tmp_path / "data", make_episodes())
    edit_info(data, fps=30)
    with pytest.raises(DemoError, match=r"actions of shape \(T, 4\), but .* \(T, 7\): .*--policy.init_head=false"):
        load(lerobot_folder, data)


def test_fewer_cameras_than_the_policy_sees_are_refused(lerobot_folder, tmp_path):
    demo = make_demo(9, 1, "open_drawer", 0, size=48)
    del demo.images["rgb_gripper"]
    layout = replace(CALVIN, cameras=("rgb_static",))
    create_store(tmp_path / "demos.hdf5", layout, {"env_id": "test"})
    append_demos(tmp_path / "demos.hdf5", [demo], layout)
    data = write_lerobot(tmp_path / "demos.hdf5", tmp_path / "data")
    with pytest.raises(DemoError, match="has the cameras rgb_static, but the policy sees rgb_static, rgb_gripper: "):
        load(lerobot_folder, data)


def test_a_new_head_for_another_robot(lerobot_folder, foreign):
    before = load_file(lerobot_folder / "model.safetensors")
    policy = load(lerobot_folder, foreign, "--init_head=false")
    assert policy.agent.config.action.dim == 4 and policy.agent.config.views == ("front", "image")
    assert not policy.agent.config.trained
    after = policy.state_dict()
    kept = [name for name in before if not name.startswith("agent.head.")]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)


def test_options_of_a_first_training_do_not_hold_for_the_next_robot(foreign, seven, tmp_path):
    policy = new(foreign, cameras=["front"], gripper=3, action_normalization="quantiles")
    policy.agent.config.trained = True  # as after the first step
    policy.save_pretrained(tmp_path / "saved")
    saved = PreTrainedConfig.from_pretrained(tmp_path / "saved")
    assert (saved.cameras, saved.gripper, saved.action_normalization) == ([], None, "auto")
    again = load(tmp_path / "saved", foreign).agent.config  # training that goes on
    assert again == policy.agent.config and (again.views, again.action.gripper) == (("front",), 3)
    other = load(tmp_path / "saved", seven, "--init_head=false").agent.config
    assert other.views == ("front",) and (other.action.dim, other.action.gripper) == (7, None)
    assert other.action.normalization == "min_max"


def test_each_view_gets_a_resampler_that_begins_with_the_shared_one(lerobot_folder, data_folder):
    policy = load(lerobot_folder, data_folder, '--override=["fusion=separate"]')
    begun = load_file(lerobot_folder / "model.safetensors")["agent.vlm.perceiver.latents"]
    assert torch.equal(policy.agent.vlm.other_perceivers[0].latents, begun)


def test_a_head_begins_to_read_the_state_and_acts_as_before(lerobot_folder, data_folder):
    reading = load(lerobot_folder, data_folder, '--override=["head.proprioception=true"]')
    before = load(lerobot_folder, data_folder)
    assert reading.agent.config.head.proprioception and reading.agent.config.trained
    images = {key: torch.rand(2, 3, 40, 40) for key in before.config.image_features}
    batch = images | {"observation.state": torch.rand(2, 15), "task": ["open drawer 0"] * 2}
    assert torch.allclose(reading.select_action(batch), before.select_action(batch), atol=1e-5)


def test_a_head_of_another_kind_is_drawn(lerobot_folder, data_folder):
    policy = load(lerobot_folder, data_folder, '--override=["head.type=gpt", "head.heads=2"]')
    assert policy.agent.config.head.type == "gpt"
    begun = load_file(lerobot_folder / "model.safetensors")["agent.vlm.perceiver.latents"]
    assert torch.equal(policy.agent.vlm.perceiver.latents, begun)


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


@pytest.fixture(scope="module")
def reads_a_state(tmp_path_factory):
    """A trained policy whose head reads the state of the robot."""
    folder = tmp_path_factory.mktemp("reads")
    agent = Agent.from_preset("roboflamingo-test", ["x"], 1, ["head.proprioception=true", "fps=10"])
    agent.config.trained = True
    return to_lerobot(agent.save_pretrained(folder / "agent"), folder / "lerobot")


def test_a_data_set_without_the_state_that_the_head_reads(reads_a_state, tmp_path):
    episodes = make_episodes(dim=7)
    for episode in episodes:
        episode.actions[:] = np.clip(episode.actions, -1, 1)  # the actions and their rate fit
        episode.actions[:, 6] = np.sign(episode.actions[:, 6])
    data = write_v3(tmp_path / "data", episodes)
    info = json.loads((data / "meta" / "info.json").read_text())
    del info["features"]["observation.state"]
    edit_info(data, features=info["features"])
    for path in (data / "data").rglob("*.parquet"):
        edit_table(path, **{"observation.state": None})
    with pytest.raises(DemoError, match=r"has no state, but the policy reads 'robot_obs' of shape \(T, 15\)"):
        load(reads_a_state, data)


def test_a_state_that_the_configuration_lacks_is_named(reads_a_state):
    config = PreTrainedConfig.from_pretrained(reads_a_state)
    del config.input_features["observation.state"]
    with pytest.raises(ConfigError, match=r"reads observation.state of shape \(15,\) .* but it is not there"):
        RoboFlamingoPolicy.from_pretrained(reads_a_state, config=config)


def test_the_videos_are_left_to_lerobot(foreign, tmp_path):
    data = shutil.copytree(foreign, tmp_path / "data")
    for path in data.rglob("*.mp4"):
        path.write_bytes(b"no video")
    with pytest.raises(DemoError, match="mp4"):
        open_all([data])
    assert new(data).agent.config == new(foreign).agent.config


def test_rows_that_cannot_be_used_are_refused(foreign, tmp_path):
    data = shutil.copytree(foreign, tmp_path / "data")
    path = data / "data" / "chunk-000" / "file-001.parquet"
    times = pq.read_table(path)["timestamp"].to_pylist()
    edit_table(path, timestamp=pa.array([times[0]] * len(times), pa.float32()))
    with pytest.raises(DemoError, match="episode 2: the timestamps do not ascend; delete that episode"):
        new(data)


def test_files_that_lerobot_did_not_copy_are_missed(foreign, tmp_path):
    data = shutil.copytree(foreign, tmp_path / "data")
    (data / "data" / "chunk-000" / "file-002.parquet").unlink()
    with pytest.raises(DemoError, match=r"file-002.parquet, .* is missing.*--dataset.episodes.* read from all"):
        new(data)


def test_failures_are_counted(foreign, tmp_path, caplog):
    store = make_store(tmp_path / "demos.hdf5", demos=2, size=48)
    failed = make_demo(9, 1, "open_drawer", 5, size=48)
    failed.success = False
    append_demos(store, [failed], CALVIN)
    data = write_lerobot(store, tmp_path / "data", failures=True)
    new(data)
    assert f"1 of the 3 demonstrations in {data} did not succeed, but lerobot-train learns from them" in caplog.text
    caplog.clear()
    new(foreign)
    assert "did not succeed" not in caplog.text


def test_parts_of_a_new_policy_cannot_stay_frozen(foreign):
    with pytest.raises(UserError, match="--policy.trainable head keeps .* without --policy.path these are random"):
        new(foreign, trainable="head")


def test_adapters_are_for_rf_agent():
    with pytest.raises(UserError, match="policy.trainable is 'lora', .*rf-agent train --trainable lora"):
        RoboFlamingoConfig(preset="roboflamingo-test", trainable="lora")


def test_an_unknown_preset_is_named():
    with pytest.raises(UserError, match="there is no preset 'huge'; known presets are"):
        RoboFlamingoConfig(preset="huge")
