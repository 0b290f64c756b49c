"""`lerobot-train` trains our policy on LeRobot data sets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from demo_files import CALVIN, make_demo
from lerobot.configs import PreTrainedConfig
from lerobot.scripts.lerobot_train import train
from safetensors.torch import load_file

from lerobot_policy_roboflamingo.convert import from_lerobot
from lerobot_policy_roboflamingo.modeling_roboflamingo import RoboFlamingoPolicy
from rf_agent.demos.store import append_demos, create_store
from rf_agent.demos.writers.lerobot import write_lerobot
from rf_agent.policy import RoboFlamingoPolicy as Agent


@pytest.fixture
def run(command, data_folder):
    """`lerobot-train` on the small data set, or on another one."""

    def run(output, *options: str, policy=("--policy.type=roboflamingo", "--policy.preset=roboflamingo-test"), **more):
        command(
            train,
            *policy,
            "--policy.push_to_hub=false",
            "--policy.device=cpu",
            "--dataset.repo_id=local/demos",
            f"--dataset.root={more.get('data', data_folder)}",
            "--batch_size=4",
            "--num_workers=0",
            f"--output_dir={output}",
            *options,
        )
        return output / "checkpoints"

    return run


def weights(folder):
    return load_file(folder / "pretrained_model" / "model.safetensors")


def test_a_run_that_is_resumed_ends_where_a_whole_one_does(run, command, tmp_path):
    whole = run(tmp_path / "run", "--steps=4", "--save_freq=2")
    begun, end = weights(whole / "000002"), weights(whole / "000004")
    assert any(not torch.equal(begun[name], end[name]) for name in end)
    shutil.rmtree(whole / "000004")
    config = whole / "000002" / "pretrained_model" / "train_config.json"
    command(train, f"--config_path={config}", "--resume=true", "--steps=4")
    resumed = weights(whole / "000004")
    # LeRobot draws the same data again and has kept AdamW's state: the weights are the same numbers
    assert all(torch.allclose(end[name], resumed[name], atol=1e-7) for name in end)


def test_a_trained_checkpoint_loads_here_and_in_rf_agent(run, tmp_path):
    folder = run(tmp_path / "run", "--steps=1") / "last" / "pretrained_model"
    policy = RoboFlamingoPolicy.from_pretrained(folder)
    agent = Agent.from_pretrained(from_lerobot(folder, tmp_path / "agent"), "cpu")
    assert agent.config == policy.agent.config and agent.config.trained
    own, whole = load_file(folder / "model.safetensors"), policy.state_dict()
    assert all(torch.equal(whole["agent." + name], tensor) for name, tensor in agent.state_dict().items())
    assert all(torch.equal(whole[name], tensor) for name, tensor in own.items())
    assert agent.config.tasks == ("close_drawer", "open_drawer", "turn_on_led")
    # what the data set says of the robot, as it is after `rf-agent train`
    assert agent.config.views == ("rgb_static", "rgb_gripper") and agent.config.fps == 30
    assert (agent.config.action.dim, agent.config.action.gripper, agent.config.action.normalization) == (7, 6, "none")
    assert len(agent.tokenizer("open drawer 0")["input_ids"]) < 6  # its tokenizer has seen these words
    saved = json.loads((folder / "config.json").read_text())
    assert saved["trainable"] == "full"  # all of a new policy learns, and goes on learning when resumed


def test_training_goes_on_from_a_converted_checkpoint(run, lerobot_folder, tmp_path):
    before = load_file(lerobot_folder / "model.safetensors")
    folder = run(tmp_path / "run", "--steps=1", policy=[f"--policy.path={lerobot_folder}"]) / "last"
    after = weights(folder)
    assert before.keys() == after.keys()
    changed = {name.split(".")[2] for name in after if not torch.equal(before[name], after[name])}
    assert {"perceiver", "gated_cross_attn_layers", "actions"} <= changed
    # the paper's choice: the vision tower and the language model's own layers are frozen
    frozen = [name for name in after if "vision_encoder" in name or "lang_encoder.model.layers" in name]
    assert frozen and all(torch.equal(before[name], after[name]) for name in frozen)
    config = PreTrainedConfig.from_pretrained(folder / "pretrained_model")
    assert config.trainable == "default"


def test_other_camera_names_are_renamed(run, lerobot_folder, tmp_path):
    """LeRobot's own option, for data sets whose cameras have other names than the policy's."""
    layout = replace(CALVIN, cameras=("top", "wrist"))
    create_store(tmp_path / "demos.hdf5", layout, {"env_id": "test"})
    demo = make_demo(9, 1, "open_drawer", 0, size=48)
    demo.images = {"top": demo.images["rgb_static"], "wrist": demo.images["rgb_gripper"]}
    append_demos(tmp_path / "demos.hdf5", [demo], layout)
    data = write_lerobot(tmp_path / "demos.hdf5", tmp_path / "data")
    pairs = {"top": "rgb_static", "wrist": "rgb_gripper"}
    names = {f"observation.images.{theirs}": f"observation.images.{ours}" for theirs, ours in pairs.items()}
    start = [f"--policy.path={lerobot_folder}"]
    with pytest.raises(ValueError, match=r"Missing features: \['observation.images.rgb_gripper"):
        run(tmp_path / "refused", "--steps=1", policy=start, data=data)
    folder = run(tmp_path / "run", "--steps=1", f"--rename_map={json.dumps(names)}", policy=start, data=data)
    policy = RoboFlamingoPolicy.from_pretrained(folder / "last" / "pretrained_model")
    assert policy.agent.config.views == ("rgb_static", "rgb_gripper")
    # a new head has taken the data set's names, which the map then changes in the batches
    start.append("--policy.init_head=false")
    with pytest.raises(ValueError, match="camera 'top' .*a new head takes the names .* so leave out --rename_map"):
        run(tmp_path / "new", "--steps=1", f"--rename_map={json.dumps(names)}", policy=start, data=data)
    folder = run(tmp_path / "new again", "--steps=1", policy=start, data=data)
    assert RoboFlamingoPolicy.from_pretrained(folder / "last" / "pretrained_model").agent.config.views == tuple(pairs)


def test_the_policy_plays_while_it_trains(run, tmp_path):
    """At `--env_eval_freq` LeRobot lets the policy act in an environment, and goes on training."""
    env = ["--env.type=rf_playtable", "--env.task=light_table:rf/LightTable-v0", "--eval.n_episodes=1"]
    folder = run(tmp_path / "run", "--steps=2", "--env_eval_freq=1", "--eval.batch_size=1", *env)
    assert (folder / "000002").is_dir()
    assert len(list((tmp_path / "run" / "eval").rglob("*.mp4"))) == 2
