"""Checkpoints go to LeRobot and back without loss."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from lerobot.configs import PreTrainedConfig
from safetensors.torch import load_file, save_file

from lerobot_policy_roboflamingo.checkpoints import local_folder
from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from lerobot_policy_roboflamingo.convert import from_lerobot, main, to_lerobot
from lerobot_policy_roboflamingo.modeling_roboflamingo import RoboFlamingoPolicy
from rf_agent.checkpoint import CheckpointError, read_tokenizer
from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.presets import BUNDLED


def test_the_bundled_policy_forth_and_back(tmp_path):
    source = BUNDLED / "roboflamingo-tiny"
    back = from_lerobot(to_lerobot("roboflamingo-tiny", tmp_path / "lerobot"), tmp_path / "back")
    before, after = (load_file(folder / "model.safetensors") for folder in (source, back))
    assert before.keys() == after.keys() and len(before) > 50
    assert all(before[name].dtype == after[name].dtype for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert AgentConfig.load(source / "config.json") == AgentConfig.load(back / "config.json")
    assert (source / "README.md").read_text() == (back / "README.md").read_text()
    text = "pull the drawer out"
    assert read_tokenizer(source)(text)["input_ids"] == read_tokenizer(back)(text)["input_ids"]


def test_a_checkpoint_that_was_converted_before_is_replaced(agent_folder, tmp_path):
    target = to_lerobot("roboflamingo-tiny", tmp_path / "lerobot")
    assert to_lerobot(agent_folder, target) == target
    assert RoboFlamingoPolicy.from_pretrained(target).agent.config == AgentConfig.load(agent_folder / "config.json")
    assert [path.name for path in tmp_path.iterdir()] == ["lerobot"]
    (target / "train_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds train_config.json, too, which would be lost"):
        to_lerobot(agent_folder, target)
    (target / "train_config.json").unlink()
    edit(target, type="act")
    with pytest.raises(CheckpointError, match="exists and is no checkpoint of ours"):
        to_lerobot(agent_folder, target)


def test_half_precision_stays(agent_folder, tmp_path):
    half = shutil.copytree(agent_folder, tmp_path / "half")
    weights = load_file(half / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, half / "model.safetensors")
    back = load_file(from_lerobot(to_lerobot(half, tmp_path / "a"), tmp_path / "b") / "model.safetensors")
    assert {tensor.dtype for tensor in back.values()} == {torch.float16}
    assert RoboFlamingoPolicy.from_pretrained(tmp_path / "a").agent.dtype == torch.float32


def test_lerobot_reads_what_was_written(lerobot_folder):
    config = PreTrainedConfig.from_pretrained(lerobot_folder)
    assert config.type == "roboflamingo" and (config.chunk_size, config.n_action_steps) == (3, 2)
    assert list(config.image_features) == ["observation.images.rgb_static", "observation.images.rgb_gripper"]
    assert config.action_feature.shape == (7,)
    assert json.loads((lerobot_folder / "config.json").read_text())["device"] is None  # of no certain machine
    names = {path.name for path in lerobot_folder.iterdir()}
    assert {"policy_preprocessor.json", "policy_postprocessor.json", "tokenizer.json"} <= names
    mode = (lerobot_folder / "config.json").stat().st_mode
    assert (lerobot_folder / "model.safetensors").stat().st_mode == mode


def test_saving_in_lerobot_writes_the_same(lerobot_folder, tmp_path):
    RoboFlamingoPolicy.from_pretrained(lerobot_folder).save_pretrained(tmp_path / "saved")
    one, other = (load_file(folder / "model.safetensors") for folder in (lerobot_folder, tmp_path / "saved"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    values = [json.loads((folder / "config.json").read_text()) for folder in (lerobot_folder, tmp_path / "saved")]
    assert values[0] | {"device": "cpu"} == values[1] | {"device": "cpu"}


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda folder: edit(folder, type="act"), "of LeRobot's policy type 'act', but one of type 'roboflamingo'"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing; convert one with"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not valid JSON"),
        (
            lambda folder: save_file({"model.weight": torch.zeros(2)}, folder / "model.safetensors"),
            "tensors of no RoboFlamingo policy, such as model.weight",
        ),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_refused(lerobot_folder, tmp_path, damage, text):
    folder = shutil.copytree(lerobot_folder, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(CheckpointError, match=text):
        from_lerobot(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_folder_in_the_wrong_direction_is_refused(agent_folder, lerobot_folder, tmp_path):
    with pytest.raises(CheckpointError, match="is a checkpoint of LeRobot already"):
        to_lerobot(lerobot_folder, tmp_path / "out")
    with pytest.raises(CheckpointError, match="is no configuration of LeRobot"):
        from_lerobot(agent_folder, tmp_path / "out")


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("it was looked for"))
    for name in ("runs/typo", "runs/typo/pretrained_model"):
        with pytest.raises(CheckpointError, match=f"there is no folder {name}: give the folder pretrained_model"):
            from_lerobot(name, tmp_path / "out")


def test_a_path_that_can_be_no_repository_is_no_folder():
    with pytest.raises(CheckpointError, match="there is no folder runs/typo/x, and no repository on the Hub can have"):
        RoboFlamingoPolicy.from_pretrained("runs/typo/x", config=RoboFlamingoConfig(preset="roboflamingo-test"))


def test_of_a_repository_only_its_own_policy_is_copied(lerobot_folder, monkeypatch):
    """Not the checkpoints that --save_checkpoint_to_hub leaves in folders."""
    own = {path.name for path in lerobot_folder.iterdir()}
    steps = {f"checkpoints/{step}/{place}" for step in ("000010", "last") for place in ("x.json", "x.safetensors")}
    kept = []

    def download(name, allow_patterns):
        kept.extend(filter_repo_objects(sorted(own | steps | {"train_config.json"}), allow_patterns=allow_patterns))
        return lerobot_folder

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert local_folder("owner/policy") == lerobot_folder
    assert set(kept) == own


def test_weights_of_another_shape_are_named(lerobot_folder, tmp_path):
    folder = shutil.copytree(lerobot_folder, tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.startswith("agent.head.actions"))
    save_file(weights | {name: torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"of another shape: {name.removeprefix('agent.')}"):
        RoboFlamingoPolicy.from_pretrained(folder, strict=False)


def test_the_command(agent_folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["to-lerobot", str(agent_folder), "--output", str(tmp_path / "out")])
    assert stop.value.code == 0 and capsys.readouterr().out == f"Policy: {tmp_path / 'out'}\n"
    with pytest.raises(SystemExit) as stop:
        main(["from-lerobot", str(agent_folder), "--output", str(tmp_path / "back")])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1 and "no configuration of LeRobot" in error
    with pytest.raises(SystemExit) as stop:
        main(["to-lerobot", "nothing", "--output", str(tmp_path / "out")])
    assert stop.value.code == 1 and "there is no policy 'nothing'" in capsys.readouterr().err
