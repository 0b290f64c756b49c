"""Pre-training finds objects in images."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import interrupt_at, run_settings

from rf_agent import cli
from rf_agent.commands.pretrain import Args, _scenes
from rf_agent.demos.grounding import SceneImageSet, position_target
from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.training.pretrain import PretrainConfig, pretrain
from rf_agent.training.trainer import train
from rf_agent.training.vl_objective import PretrainObjective


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene_images.hdf5"
    config = SceneImageConfig(output=path, env="fake_table:FakeTable-v0", count=192, image_size=32, workers=1)
    return collect_scene_images(config)


def config(images, output, **changes):
    base = {
        "preset": "roboflamingo-test",
        "steps": 4,
        "batch_size": 16,
        "positions_per_image": 3,
        "device": "cpu",
    }
    return PretrainConfig(images=(images,), output=output, **base | changes)


def test_images_in_memory(images):
    data = SceneImageSet([images], preset("roboflamingo-test"))
    assert len(data) == 192 and data.images.shape[1:] == (2, 32, 32, 3)
    assert data.names == ["block", "lamp"] and "push the block" in data.corpus()
    entries = data.draw_positions([5, 7], 3, np.random.default_rng(0))
    assert sorted(entries[0]) == list(data.entries(5)) and (data.positions.image[entries[1]] == 7).all()
    often = np.concatenate([data.draw_positions([5], 1, np.random.default_rng(i))[0] for i in range(200)])
    assert (data.positions.name[often] == data.names.index("block")).mean() > 0.7  # it moves, the lamp does not


def test_position_target():
    gripper = {"position": [0, 0, 0.1], "euler": [np.pi, 0, 0], "width": 0.08}
    target = position_target({"position": [0.2, 0, 0], "yaw": np.pi / 2}, gripper)
    assert target[:8] == pytest.approx([2, 0, 0, 2, 0, -1, -1, 0], abs=1e-6) and target[17] == 1
    assert np.isnan(position_target({"position": [0, 0, 0], "yaw": None}, gripper)[6:8]).all()


def test_learns_positions_and_answers(images, tmp_path):
    settings = {"steps": 200, "learning_rate": 1e-2, "language_weight": 0.3, "color_jitter": 0.0, "vision_warmup": 0.1}
    report = pretrain(config(images, tmp_path / "run", **settings))
    policy = RoboFlamingoPolicy.from_pretrained(report.output, "cpu")
    data = SceneImageSet([images], preset("roboflamingo-test"))
    spread = data.positions.target[data.positions.name == 0, :3].std(0)
    chance = 10 * np.linalg.norm(spread)
    assert report.grounding["block"]["median"] < 0.4 * chance, (report.grounding, chance)
    assert report.grounding["block"]["instruction"] < 0.4 * chance
    assert report.scalars["answers"] > 0.8
    assert "block" in report.table() and policy.config.image.size == 32


def test_given_text_is_not_asked_for(images, tmp_path):
    data = SceneImageSet([images], preset("roboflamingo-test"))
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", data.corpus(), seed=0)
    objective = PretrainObjective(config(images, tmp_path), policy, data)
    ids, given = objective._encode("Question: where? Short answer:", "left")
    assert policy.tokenizer.decode(ids[given:]).strip().startswith("left")
    whole = policy.tokenizer("<image>Question: where? Short answer: left<|endofchunk|><|endoftext|>")["input_ids"]
    assert ids == whole


def test_resumed_equals_uninterrupted(images, tmp_path):

    whole = pretrain(config(images, tmp_path / "whole"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 2)
        pretrain(config(images, tmp_path / "parts"))
    parts = pretrain(config(images, tmp_path / "parts", resume=True))
    first, second = (RoboFlamingoPolicy.from_pretrained(r.output, "cpu").state_dict() for r in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert parts.scalars == whole.scalars


def test_a_run_goes_on_with_the_same_images_wherever_they_lie(images, tmp_path):
    run = tmp_path / "run"
    pretrain(config(images, run))
    moved = tmp_path / "moved.hdf5"
    shutil.copy(images, moved)
    pretrain(config(moved, run, resume=True, steps=5))
    assert len(json.loads((run / "run.json").read_text())) == 2
    others = SceneImageConfig(output=tmp_path / "o.hdf5", env="fake_table:FakeTable-v0", count=192, image_size=32)
    with pytest.raises(UserError, match="began with 192 scene images, but now there are others"):
        pretrain(config(collect_scene_images(replace(others, workers=1, seed=9)), run, resume=True, steps=6))


def test_what_it_goes_on_from_stays_the_same(images, tmp_path):
    start = str(pretrain(config(images, tmp_path / "start")).output)
    pretrain(config(images, tmp_path / "run", init=start))
    with pytest.raises(UserError, match="began with --init: "):
        pretrain(config(images, tmp_path / "run", resume=True, steps=5))
    with pytest.raises(UserError, match="began with other content of --init: "):
        pretrain(config(images, tmp_path / "run", resume=True, steps=5, init=str(tmp_path / "run" / "vlm")))
    pretrain(config(images, tmp_path / "run", resume=True, steps=5, init=start))


def test_a_start_that_was_killed_does_not_count(images, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps([{"data": {"files": [], "scene_images": {"images": 7, "content": "x"}}}]))
    pretrain(config(images, run))
    pretrain(config(images, run, resume=True, steps=5))
    assert len(json.loads((run / "run.json").read_text())) == 2


def test_what_it_goes_on_from_has_an_untrained_head_afterwards(images, demos, tmp_path):
    start = train(run_settings(demos, tmp_path / "start", steps=3)).output
    before, after = (
        RoboFlamingoPolicy.from_pretrained(path, "cpu")
        for path in (start, pretrain(config(images, tmp_path / "run", init=str(start))).output)
    )
    assert before.config.trained and before.config.tasks and not after.config.trained and not after.config.tasks
    now = after.head.state_dict()
    assert not any(torch.equal(old, now[name]) for name, old in before.head.state_dict().items() if old.dim() > 1)


def test_tables_of_held_out_images_are_never_seen(images, tmp_path):
    data = SceneImageSet([images, images], preset("roboflamingo-test"))
    assert sorted(np.unique(data.blocks)) == list(range(12)) and (np.bincount(data.blocks) == 32).all()
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", data.corpus(), seed=0)
    objective = PretrainObjective(config(images, tmp_path, validation_fraction=0.2), policy, data)
    assert not set(data.blocks[objective.train]) & set(data.blocks[objective.validation])
    assert len(objective.train) == 10 * 32
    few = PretrainObjective(config(images, tmp_path, validation_fraction=0.05), policy, data)
    assert len(data) - len(few.train) == 19  # of twelve blocks there is none to spare


def test_the_batch_that_stopped_it_can_be_drawn_again(images, tmp_path, monkeypatch):
    seen, loss = [], PretrainObjective.loss

    def broken(self, rng, progress):
        seen.append(rng.bit_generator.state)
        value, scalars = loss(self, rng, progress)
        return value * float("nan"), scalars

    monkeypatch.setattr(PretrainObjective, "loss", broken)
    with pytest.raises(UserError, match="the loss is nan at step 0"):
        pretrain(config(images, tmp_path / "run"))
    ((seed, _),) = torch.load(tmp_path / "run" / "bad_batch.pt", weights_only=True)["batches"]
    assert np.random.default_rng(seed).bit_generator.state == seen[0]


def test_images_without_questions_are_asked_nothing(images, tmp_path):
    data = SceneImageSet([images], preset("roboflamingo-test"))
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", data.corpus(), seed=0)
    objective = PretrainObjective(config(images, tmp_path), policy, data)
    whole = objective.evaluate()
    assert 0 <= whole["answers"] <= 1
    for row in objective.validation[::2]:
        data.questions[row] = []
    assert 0 <= objective.evaluate()["answers"] <= 1
    data.questions = [[] for _ in data.questions]
    assert np.isnan(objective.evaluate()["answers"]) and objective.evaluate()["mean_cm"] == whole["mean_cm"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation_images": 0}, "evaluation_images is 0: give a number above zero"),
        ({"positions_per_image": 0}, "positions_per_image is 0: give a number above zero"),
        ({"vision_warmup": 5.0}, "vision_warmup is 5.0: give a share, from 0 to 1"),
        ({"color_jitter": -1.0}, "color_jitter is -1.0: give zero or more"),
        ({"scene_weight": -1.0}, "scene_weight is -1.0: give zero or more"),
        ({"language_weight": -1.0}, "language_weight is -1.0: give zero or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(images, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        config(images, tmp_path, **changes)


def test_images_are_rendered_at_the_size_of_what_it_begins_with(images, tmp_path):
    start = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["go"], seed=0).save_pretrained(tmp_path / "start")
    args = Args(output=tmp_path / "run", init=str(start), env=("fake_table:FakeTable-v0",), image_count=8)
    assert [scenes.image_size for scenes in _scenes(args)] == [32]
    report = pretrain(config(images, tmp_path / "more", init=str(start), preset="roboflamingo-tiny", steps=1))
    assert (report.output / "README.md").read_text().startswith("# start, pre-trained VLM")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda:99"], "cuda"),
        (["--gradient-accumulation", "2"], "--gradient-accumulation is for `rf-agent train`"),
        (["--fsdp"], "--fsdp is for `rf-agent train`"),
        (["--images", "a.hdf5", "--image-count", "7"], "--image-count has no effect where --images are given"),
        (["--init", "roboflamingo-tiny", "--preset", "roboflamingo-test"], "--preset has no effect where --init is"),
    ],
)
def test_what_can_be_refused_is_refused_before_images_are_rendered(tmp_path, monkeypatch, capfd, words, said):
    monkeypatch.setattr("rf_agent.commands.pretrain.collect_scene_images", lambda *_: pytest.fail("it renders"))
    with pytest.raises(SystemExit) as stop:
        cli.main(["pretrain", *words, "--output", str(tmp_path / "run")])
    assert stop.value.code == 1 and said in capfd.readouterr().err
