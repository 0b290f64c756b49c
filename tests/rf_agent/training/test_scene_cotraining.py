"""Co-training with scene images: where things are, learned in the same steps as demonstrations."""

import shutil
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from demo_files import make_store

from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.training.callbacks import Callback
from rf_agent.training.curves import read_log
from rf_agent.training.loop import CHECKPOINT
from rf_agent.training.scene_cotraining import POSITIONS, SceneCoTraining, SceneCoTrainingConfig
from rf_agent.training.trainer import TrainConfig, train


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene_images.hdf5"
    config = SceneImageConfig(output=path, env="fake_table:FakeTable-v0", count=96, image_size=32, workers=1)
    return collect_scene_images(config)


@pytest.fixture
def policy(images):
    corpus = ["push the block to the left", "the lamp", "turn on the light"] * 4
    return RoboFlamingoPolicy.from_preset("roboflamingo-test", corpus, seed=0)


def made(images, policy, seed=0, **changes):
    return SceneCoTraining(SceneCoTrainingConfig(scene_images=(images,), **changes), policy, seed)


def settings(images, demos, output, **changes):
    base = {"preset": "roboflamingo-test", "steps": 20, "batch_size": 4, "sequence_length": 6, "threads": 1}
    base |= {"device": "cpu", "validation_fraction": 0.3, "evaluations": 2, "scene_batch_size": 4}
    return TrainConfig(**{"demos": (demos,), "output": output, "scene_images": (images,)} | base | changes)


class PowerFailure(Callback):
    """In the midst of a run."""

    def on_step(self, step, metrics):
        if step == 15:
            raise RuntimeError("the power fails")


def test_a_draw_depends_on_its_numbers_alone_and_parts_make_the_whole(images, policy):
    scenes = made(images, policy, scene_batch_size=5)
    whole = scenes.draw(7)
    assert whole.images.shape == (5, 2, 32, 32, 3) and len(whole.texts) == len(whole.target) == 5 * POSITIONS
    again = scenes.draw(7)
    assert torch.equal(whole.images, again.images) and whole.texts == again.texts
    assert not torch.equal(whole.images, scenes.draw(8).images)
    parts = [scenes.draw(7, part, 3) for part in range(3)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert sum((list(part.texts) for part in parts), []) == list(whole.texts)
    assert torch.equal(torch.cat([part.colors for part in parts]), whole.colors)
    policy.set_trainable("default")
    total = sum(scenes(policy, part)[0] for part in parts)
    torch.testing.assert_close(total, scenes(policy, whole)[0], atol=1e-6, rtol=1e-5)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert [len(part.images) for part in parts] == [2, 2, 1]
    assert scenes.draw(7, 5, 6) is None  # more parts than images


def test_gradients_reach_what_learns_of_the_model_and_its_own_head(images, policy):
    policy.set_trainable("default")
    scenes = made(images, policy)
    loss, metrics = scenes(policy, scenes.draw(1))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.05 * float(metrics["scenes_loss"])) and metrics["scenes_cm"] > 0
    assert all(parameter.grad is not None for parameter in scenes.parameters())
    moved = {name.split(".")[0] for name, p in policy.named_parameters() if p.grad is not None}
    assert "head" not in moved and "vision_encoder" not in moved and moved
    assert not any("positions" in name for name in policy.state_dict())


def test_it_learns_where_things_are(images, policy):
    torch.manual_seed(0)
    scenes = made(images, policy, scene_weight=1.0, scene_batch_size=16)
    for parameter in policy.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam([*policy.parameters(), *scenes.parameters()], 5e-3)
    errors = []
    for step in range(150):
        loss, metrics = scenes(policy, scenes.draw(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(metrics["scenes_cm"]))
    assert np.mean(errors[-10:]) < 0.6 * np.mean(errors[:10]), (errors[:10], errors[-10:])


def test_its_head_begins_as_the_seed_says(images, policy):
    first, other, again = (made(images, policy, seed=seed).positions.state_dict() for seed in (3, 4, 3))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_images_are_encoded_once_where_the_tower_does_not_learn(images, policy, tmp_path):
    policy.set_trainable("default")
    scenes = made(images, policy)
    batch = scenes.draw(1)
    with torch.no_grad():
        expected = policy.encode_vision(normalise(batch.images, policy.config.image))
    assert scenes.keep_tokens(tmp_path, policy)
    kept = scenes.draw(1)
    assert kept.images is None and kept.texts == batch.texts
    torch.testing.assert_close(kept.target, batch.target, equal_nan=True)
    torch.testing.assert_close(kept.vision_tokens.float(), expected, atol=1e-2, rtol=1e-2)
    loss, metrics = scenes(policy, kept)
    assert float(metrics["scenes_loss"]) > 0 and loss.requires_grad
    scenes.close()
    again = made(images, policy)
    assert again.keep_tokens(tmp_path, policy) and again._cache.share > 0
    again.close()


def test_a_run_learns_both_and_goes_on_where_it_stopped(images, tmp_path):
    demos = make_store(tmp_path / "demos.hdf5")
    whole = train(settings(images, demos, tmp_path / "whole", steps=24))
    row = next(row for row in read_log(tmp_path / "whole") if row["split"] == "train")
    assert row["scenes_loss"] > 0 and row["scenes_cm"] > 0
    expected = row["pose_loss"] + 0.01 * row["gripper_loss"] + 0.05 * row["scenes_loss"]
    assert row["loss"] == pytest.approx(expected, rel=1e-3)

    with pytest.raises(RuntimeError, match="the power fails"):
        train(settings(images, demos, tmp_path / "run", steps=24, checkpoint_minutes=1e-6), callbacks=[PowerFailure()])
    assert 10 < torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["step"] < 24
    moved = tmp_path / "moved.hdf5"
    shutil.copy(images, moved)
    parts = train(settings(moved, demos, tmp_path / "run", steps=24, resume=True))
    policies = [RoboFlamingoPolicy.from_pretrained(report.output, "cpu").state_dict() for report in (whole, parts)]
    assert all(torch.equal(tensor, policies[1][name]) for name, tensor in policies[0].items())
    assert not any("positions" in name for name in policies[0])


def test_a_disk_without_room_is_told_of(images, tmp_path, monkeypatch):
    monkeypatch.setattr("rf_agent.training.scene_cotraining.has_room", lambda folders, size: False)
    demos, lines = make_store(tmp_path / "demos.hdf5"), []
    train(settings(images, demos, tmp_path / "first", scene_images=(), steps=5))
    given = {"init": str(tmp_path / "first" / "policy"), "preset": None}
    reporter = types.SimpleNamespace(update=lambda fraction, text: None, log=lines.append)
    train(settings(images, demos, tmp_path / "run", **given), reporter)
    (row,) = (row for row in read_log(tmp_path / "run") if row["split"] == "train")
    assert row["scenes_loss"] > 0
    assert any("no room for the vision tokens of 96 scene images" in line for line in lines)
    assert len(list((tmp_path / ".vision_tokens").iterdir())) == 1  # of the demonstrations alone
    monkeypatch.undo()
    train(settings(images, demos, tmp_path / "room", **given), reporter)  # it is the same run
    (other,) = (row for row in read_log(tmp_path / "room") if row["split"] == "train")
    assert other["scenes_loss"] == pytest.approx(row["scenes_loss"], rel=1e-5)


def test_a_run_goes_on_with_the_same_images_alone(images, tmp_path):
    demos = make_store(tmp_path / "demos.hdf5")
    given = {"init": str(tmp_path / "first" / "policy"), "preset": None}
    train(settings(images, demos, tmp_path / "first", scene_images=(), steps=5))
    train(settings(images, demos, tmp_path / "run", **given))
    assert len(list((tmp_path / ".vision_tokens").iterdir())) == 2  # of the demonstrations, and of the scene images
    config = SceneImageConfig(output=tmp_path / "i.hdf5", env="fake_table:FakeTable-v0", count=96, image_size=32)
    others = collect_scene_images(replace(config, workers=1, seed=5))
    with pytest.raises(UserError, match="began with 96 scene images, but now there are others: resume with the same"):
        train(settings(others, demos, tmp_path / "run", steps=22, resume=True, **given))
    with pytest.raises(UserError, match="began with 96 scene images, but now there are 0"):
        train(settings(images, demos, tmp_path / "run", steps=22, resume=True, **given, scene_images=()))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainable": "head"}, "nothing of the vision-language model learns"),
        ({"preset": "mcil-tiny"}, "scene images are for RoboFlamingo: a policy of type 'mcil'"),
        ({"scene_batch_size": 0}, "scene_batch_size is 0, but the step has 1 parts: give 1 or more"),
        ({"scene_weight": -1.0}, "--scene-weight is -1.0: give a number from 0 on"),
        ({"gradient_accumulation": 4, "scene_batch_size": 3}, "scene_batch_size is 3, but the step has 4 parts"),
    ],
)
def test_what_makes_no_sense_is_refused(images, tmp_path, changes, said):
    demos = make_store(tmp_path / "demos.hdf5")
    if "trainable" in changes:
        train(settings(images, demos, tmp_path / "first", scene_images=(), steps=5))
        changes = changes | {"init": str(tmp_path / "first" / "policy"), "preset": None}
    with pytest.raises(UserError, match=said):
        train(settings(images, demos, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
