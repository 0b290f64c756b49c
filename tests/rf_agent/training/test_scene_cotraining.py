"""Co-training with scene images: where things are, learned in the same steps as demonstrations."""

import numpy as np
import pytest
import torch
from demo_files import make_store

from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.curves import read_log
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


def made(images, policy, **changes):
    return SceneCoTraining(SceneCoTrainingConfig(scene_images=(images,), **changes), policy)


def settings(images, demos, output, **changes):
    base = {"preset": "roboflamingo-test", "steps": 20, "batch_size": 4, "sequence_length": 6, "threads": 1}
    base |= {"device": "cpu", "validation_fraction": 0.3, "evaluations": 2, "scene_batch_size": 4}
    return TrainConfig(**{"demos": (demos,), "output": output, "scene_images": (images,)} | base | changes)


def test_a_draw_depends_on_its_numbers_alone_and_parts_make_the_whole(images, policy):
    scenes = made(images, policy, scene_batch_size=5)
    whole = scenes.draw(3, 7, 0, 1)
    assert whole.images.shape == (5, 2, 32, 32, 3) and len(whole.texts) == len(whole.target) == 5 * POSITIONS
    again = scenes.draw(3, 7, 0, 1)
    assert torch.equal(whole.images, again.images) and whole.texts == again.texts
    assert not torch.equal(whole.images, scenes.draw(3, 8, 0, 1).images)
    parts = [scenes.draw(3, 7, part, 3) for part in range(3)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert [len(part.images) for part in parts] == [2, 2, 1]
    assert scenes.draw(3, 7, 5, 6) is None  # more parts than images


def test_gradients_reach_what_learns_of_the_model_and_its_own_head(images, policy):
    policy.set_trainable("default")
    scenes = made(images, policy)
    loss, metrics = scenes(policy, scenes.draw(0, 1, 0, 1))
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
        loss, metrics = scenes(policy, scenes.draw(0, step, 0, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(metrics["scenes_cm"]))
    assert np.mean(errors[-10:]) < 0.6 * np.mean(errors[:10]), (errors[:10], errors[-10:])


def test_a_run_learns_both_in_any_number_of_parts_and_goes_on_where_it_stopped(images, tmp_path):
    demos = make_store(tmp_path / "demos.hdf5")
    train(settings(images, demos, tmp_path / "run"))
    rows = [row for row in read_log(tmp_path / "run") if row["split"] == "train"]
    assert all(row["scenes_loss"] > 0 and row["scenes_cm"] > 0 for row in rows)
    assert rows[0]["loss"] > rows[0]["pose_loss"]
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=False)
    assert any("scenes.positions" in name for name in kept["model"])

    train(settings(images, demos, tmp_path / "parts", gradient_accumulation=2))
    parts = next(row for row in read_log(tmp_path / "parts") if row["split"] == "train")
    assert parts["loss"] == pytest.approx(rows[0]["loss"], rel=0.3)

    train(settings(images, demos, tmp_path / "run", steps=22, resume=True))
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=False)["step"] == 22
    policy = RoboFlamingoPolicy.from_pretrained(tmp_path / "run" / "policy", "cpu")
    assert not any("positions" in name for name in policy.state_dict())


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
