"""What a run that goes on must find as it was, and what it takes from how it began."""

import json
import shutil

import numpy as np
import pytest
import torch
from demo_files import make_store
from fake_reporter import Heard
from tiny_runs import interrupt_at, run_settings

from rf_agent.errors import UserError
from rf_agent.training.curves import read_log
from rf_agent.training.trainer import train


@pytest.fixture
def stopped(monkeypatch):
    """Runs end at step 3 as at Ctrl-C, until it is undone."""
    interrupt_at(monkeypatch, 3)
    return monkeypatch


@pytest.fixture
def start(demos, tmp_path):
    """Two policies to begin with, of other weights."""
    return [train(run_settings(demos, tmp_path / f"start{seed}", steps=1, seed=seed)).output for seed in (0, 1)]


def test_what_stays_frozen_is_that_which_the_run_began_with(demos, tmp_path, start, stopped):
    shutil.copytree(start[0], tmp_path / "init")
    with pytest.raises(KeyboardInterrupt):
        train(run_settings(demos, tmp_path / "run", init=str(tmp_path / "init"), preset=None))
    stopped.undo()
    moved = tmp_path / "moved"
    (tmp_path / "init").rename(moved)
    with pytest.raises(UserError, match="run began with other content of --init: resume with the same"):
        train(run_settings(demos, tmp_path / "run", init=str(start[1]), preset=None, resume=True))
    with pytest.raises(UserError, match="run began with --init: "):
        train(run_settings(demos, tmp_path / "run", resume=True))
    whole = train(run_settings(demos, tmp_path / "whole", init=str(moved), preset=None))
    parts = train(run_settings(demos, tmp_path / "run", init=str(moved), preset=None, resume=True))
    assert parts.scalars == whole.scalars


def test_other_words_are_another_policy_too(demos, tmp_path, start):
    """Of a run in which all parameters learn the tokenizer still is that of `--init`."""
    given = {"init": str(start[0]), "preset": None, "trainable": "full", "train_vision": True, "train_language": True}
    train(run_settings(demos, tmp_path / "run", steps=2, **given))
    path = start[0] / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    (first, one), (second, other) = list(words.items())[-2:]
    words |= {first: other, second: one}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="began with other content of --init"):
        train(run_settings(demos, tmp_path / "run", steps=3, resume=True, **given))


def test_a_run_of_an_older_version_goes_on_with_the_same_init_by_its_name(demos, tmp_path, start):
    """That version wrote no contents down."""
    given = {"init": str(start[0]), "preset": None}
    train(run_settings(demos, tmp_path / "run", steps=2, **given))
    history, checkpoint = tmp_path / "run" / "run.json", tmp_path / "run" / "checkpoint.pt"
    starts, state = json.loads(history.read_text()), torch.load(checkpoint, weights_only=True)
    del starts[0]["data"]["contents"], state["length"]
    state["settings"] |= {"init": str(start[0]), "instructions": "None"}
    history.write_text(json.dumps(starts))
    torch.save(state, checkpoint)
    with pytest.raises(ValueError, match=f"belongs to a run with init {start[0]}, not {start[1]}"):
        train(run_settings(demos, tmp_path / "run", steps=3, resume=True, init=str(start[1]), preset=None))
    train(run_settings(demos, tmp_path / "run", steps=3, resume=True, **given))


def test_further_instructions_stay_the_same(demos, tmp_path):
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"open_drawer": ["pull it"]}))
    train(run_settings(demos, tmp_path / "run", instructions=texts, steps=2))
    texts = texts.rename(tmp_path / "moved.json")
    train(run_settings(demos, tmp_path / "run", instructions=texts, steps=3, resume=True))
    texts.write_text(json.dumps({"open_drawer": ["pull it", "draw it"]}))
    with pytest.raises(UserError, match="began with other content of --instructions"):
        train(run_settings(demos, tmp_path / "run", instructions=texts, steps=4, resume=True))
    with pytest.raises(UserError, match="began with --instructions"):
        train(run_settings(demos, tmp_path / "run", steps=4, resume=True))


def test_a_run_has_the_length_that_it_began_with(demos, tmp_path, stopped):
    with pytest.raises(KeyboardInterrupt):
        train(run_settings(demos, tmp_path / "run"))
    stopped.undo()
    heard = Heard()
    train(run_settings(demos, tmp_path / "run", steps=None, resume=True), heard)
    assert read_log(tmp_path / "run")[-1]["step"] == 8 and not any("now, and had" in line for line in heard.lines)
    train(run_settings(demos, tmp_path / "run", steps=9, resume=True), heard)
    assert any("the run has 9 steps now, and had 8 steps: " in line for line in heard.lines)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 9


def test_without_its_history_a_run_is_not_taken_for_another(demos, tmp_path):
    train(run_settings(demos, tmp_path / "run", steps=2))
    history = tmp_path / "run" / "run.json"
    history.write_text(history.read_text()[:100])  # by a disk that was full, in earlier versions
    with pytest.raises(UserError, match=r"run.json is damaged .* remove it to go on"):
        train(run_settings(demos, tmp_path / "run", steps=3, resume=True))
    history.unlink()
    train(run_settings(demos, tmp_path / "run", steps=3, resume=True))


def test_curves_of_a_start_that_was_killed_do_not_count(demos, tmp_path):
    run = tmp_path / "run"
    train(run_settings(demos, run, steps=40))
    (run / "checkpoint.pt").unlink()
    shutil.rmtree(run / "policy")
    (run / "wandb_id").write_text("old")
    train(run_settings(demos, run, steps=2))
    assert {row["step"] for row in read_log(run)} == {1, 2} and not (run / "wandb_id").exists()
    assert len(list((run / "tensorboard").iterdir())) == 1
    (run / "checkpoint.pt").unlink()
    (run / "run.json").unlink()
    shutil.rmtree(run / "policy")
    (run / "tensorboard" / "mine").touch()
    train(run_settings(demos, run, steps=2))  # what has no history may be of somebody else
    assert (run / "tensorboard" / "mine").exists()


def test_copies_of_what_is_held_out_are_not_trained_on(demos, tmp_path):
    from rf_agent.demos.windows import DemoSet
    from rf_agent.presets import preset
    from rf_agent.training.robot import open_all

    copy = shutil.copy(demos, tmp_path / "copy.hdf5")
    other = make_store(tmp_path / "other.hdf5", demos=9)  # three more
    data = DemoSet(open_all([demos, copy, other]), preset("roboflamingo-test"))
    training, held_out = data.split(0.3)
    first = {index: data.frames.get(np.array([data.episodes[index].first_frame])).tobytes() for index in range(21)}
    assert len(set(first.values())) == 9 and len(held_out) in (5, 6, 7)
    assert not {first[index] for index in training} & {first[index] for index in held_out}
