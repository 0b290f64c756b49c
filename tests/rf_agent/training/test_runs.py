"""What a run leaves behind: curves, snapshots, the best policy, its history."""

import contextlib
import importlib
import importlib.metadata
import json
import shutil

import numpy as np
import pytest
import torch
from demo_files import TASKS
from fake_reporter import Heard
from PIL import Image
from tiny_runs import interrupt_at, run_settings

from rf_agent import load_policy
from rf_agent.checkpoint import CheckpointError
from rf_agent.evaluation.episode import task_items
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.callbacks import Callback
from rf_agent.training.cpu_bfloat16 import BFloat16Kernels
from rf_agent.training.curves import read_log
from rf_agent.training.optim import EMA
from rf_agent.training.snapshots import EvaluationPlan
from rf_agent.training.trainer import train


class Recorder(Callback):
    def __init__(self):
        self.steps, self.validations = [], []

    def on_step(self, step, metrics):
        self.steps.append((step, float(metrics["loss"]), float(metrics["gradient_norm"])))

    def on_validation(self, step, scalars):
        self.validations.append(step)
        return {"answer": 42.0}


def test_what_a_run_leaves_behind(demos, tmp_path):
    run, recorder = tmp_path / "run", Recorder()
    report = train(run_settings(demos, run, keep=3), callbacks=[recorder])
    assert [step for step, *_ in recorder.steps] == list(range(1, 9))
    assert all(loss > 0 and norm > 0 for _, loss, norm in recorder.steps)
    assert recorder.validations == [2, 4, 6, 8] and report.scalars["answer"] == 42.0
    kept = sorted(path.name for path in (run / "policies").iterdir())
    assert kept == ["step_0000004", "step_0000006", "step_0000008"]
    for path in (run / "best", run / "policy", run / "policies" / kept[0]):
        policy = RoboFlamingoPolicy.from_pretrained(path, "cpu")
        assert policy.config.trained and policy.config.tasks == ("close_drawer", "open_drawer", "turn_on_led")
    losses = {row["step"]: row["loss"] for row in read_log(run) if row["split"] == "validation"}
    best = json.loads((run / "best.json").read_text())
    assert best["loss"] == min(losses.values()) and losses[best["step"]] == best["loss"]
    width, height = Image.open(run / "curves.png").size
    assert width > 400 and height > 200
    (start,) = json.loads((run / "run.json").read_text())
    assert start["settings"]["batch_size"] == 3 and start["versions"]["torch"] == importlib.metadata.version("torch")
    assert start["data"]["tasks"] == {"close_drawer": 2, "open_drawer": 2, "turn_on_led": 2}
    assert str(tmp_path) not in start["command"]


def test_the_folder_of_a_run_is_told_from_its_result(demos, tmp_path):
    run = tmp_path / "run"
    train(run_settings(demos, run, steps=1, evaluations=1))
    with pytest.raises(CheckpointError, match=r"the folder of a run, whose result is .*run.policy: give that"):
        load_policy(run, "cpu")
    shutil.rmtree(run / "policy")  # as before its end
    for asked in (run, run / "policy"):
        with pytest.raises(CheckpointError, match="a run that has not finished: continue it with --resume"):
            load_policy(asked, "cpu")
    with pytest.raises(CheckpointError, match="neither a directory nor a bundled name"):
        load_policy(tmp_path / "policy", "cpu")


@pytest.mark.parametrize(("fraction", "said"), [(0.05, True), (0.0, False), (0.3, False)])
def test_too_few_demonstrations_to_hold_any_out_are_said(demos, tmp_path, fraction, said):
    reporter = Heard()
    train(run_settings(demos, tmp_path / "run", steps=1, evaluations=1, validation_fraction=fraction), reporter)
    assert any("too few demonstrations to hold any out" in text for text in reporter.lines) == said


def test_random_shift_encodes_each_frame_anew_and_can_be_resumed(demos, tmp_path, monkeypatch):
    start = str(train(run_settings(demos, tmp_path / "start", steps=1)).output)
    settings = {"init": start, "random_shift": (3, 1), "color_jitter": 0.1, "workers": 1}
    whole = train(run_settings(demos, tmp_path / "whole", **settings))
    assert not (tmp_path / ".vision_tokens").exists()
    interrupt_at(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        train(run_settings(demos, tmp_path / "parts", **settings))
    monkeypatch.undo()
    parts = train(run_settings(demos, tmp_path / "parts", **settings | {"workers": 0}, resume=True))
    assert parts.scalars == whole.scalars
    plain = train(run_settings(demos, tmp_path / "plain", init=start))
    assert plain.scalars != whole.scalars
    with pytest.raises(ValueError, match="random_shift is .* a number of pixels for each"):
        train(run_settings(demos, tmp_path / "bad", init=start, random_shift=(1, 2, 3)))
    with pytest.raises(ValueError, match=r"random_shift is \[-1\]: give numbers of pixels from 0 on"):
        train(run_settings(demos, tmp_path / "bad", init=start, random_shift=(-1,)))


def test_a_batch_of_half_the_steps_is_not_another_one(demos, tmp_path):
    """Batches are functions of seed and step, whatever was drawn before."""
    seen = []

    class Look(Callback):
        def on_step(self, step, metrics):
            seen.append(float(metrics["loss"]))

    train(run_settings(demos, tmp_path / "a", steps=2, learning_rate=1e-9, evaluations=1), callbacks=[Look()])
    first = list(seen)
    train(run_settings(demos, tmp_path / "b", steps=2, learning_rate=1e-9, evaluations=1, seed=1), callbacks=[Look()])
    assert seen[:2] == first and not np.allclose(seen[2:], first)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_gradient_checkpointing_saves_memory_and_changes_nothing(demos, half):
    from rf_agent.demos.windows import DemoSet
    from rf_agent.presets import preset
    from rf_agent.training.imitation import Imitation
    from rf_agent.training.robot import open_all

    gradients, kept = [], []
    context = BFloat16Kernels if half else contextlib.nullcontext
    for rows in (0, 4):
        data = DemoSet(open_all([demos]), preset("roboflamingo-test"))
        policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["open"], seed=0)
        policy.checkpoint_gradients(rows, context)
        imitation = Imitation(policy, data, batch_size=4, sequence_length=6, cache_vision=False)
        (batch,) = imitation.batches.draw(3)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=saved: s.append(x.nbytes) or x, lambda x: x):
            with torch.autocast("cpu", torch.bfloat16, enabled=half), context():
                loss, _ = imitation.objective.train()(batch)
        loss.backward()
        assert batch.share == pytest.approx(1.0)
        gradients.append({name: p.grad for name, p in policy.named_parameters() if p.grad is not None})
        kept.append(sum(saved))
    assert kept[1] < 0.75 * kept[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        tolerance = {"atol": 1e-2 * float(gradient.abs().max()), "rtol": 0.05} if half else {"atol": 1e-6, "rtol": 1e-4}
        torch.testing.assert_close(gradient, gradients[1][name], **tolerance)


def test_further_instructions_are_drawn(demos, tmp_path):
    from rf_agent.demos.files import DemoError
    from rf_agent.demos.instructions import read_instructions
    from rf_agent.demos.windows import ChunkSampler, DemoSet
    from rf_agent.presets import preset
    from rf_agent.training.robot import open_all

    path = tmp_path / "more.json"
    path.write_text(json.dumps({"open_drawer": ["pull it\nsecond line", "draw it"], "unknown": ["x"]}))
    more = read_instructions(path)
    assert more["open_drawer"] == ["pull it", "draw it"]
    data = DemoSet(open_all([demos]), preset("roboflamingo-test"))
    sampler = ChunkSampler(data, range(6), 4, 0.5, True, more)
    texts = set(sampler.draw(200, np.random.default_rng(0)).instructions)
    assert texts == {"pull it", "draw it"} | {
        f"{task} {i}" for task in ("open drawer", "close drawer", "turn on led") for i in (0, 1)
    }
    with pytest.raises(DemoError, match="none of the further instructions"):
        ChunkSampler(data, range(6), 4, 0.5, True, {"unknown": ["x"]})
    with pytest.raises(DemoError, match="leave out one of the options --instructions and --no-mix-instructions"):
        ChunkSampler(data, range(6), 4, 0.5, False, more)
    for text in ("{", "[]", '{"a": []}', '{"a": [3]}'):
        path.write_text(text)
        with pytest.raises(DemoError, match=r"its form is|of the form"):
            read_instructions(path)


def test_what_shares_frames_is_held_out_together(demos):
    from dataclasses import replace

    from rf_agent.demos.windows import DemoSet
    from rf_agent.presets import preset
    from rf_agent.training.robot import open_all

    data = DemoSet(open_all([demos]), preset("roboflamingo-test"))
    assert data.split(0.5)[1] == [1, 3, 5]
    first = data.episodes[1].first_frame
    data.episodes[2] = replace(data.episodes[2], first_frame=first + len(data.episodes[1].actions) - 1)
    training, held_out = data.split(0.5)
    assert sorted(training + held_out) == list(range(6)) and {1, 2} <= set(held_out) and held_out != [1, 3, 5]
    assert data.split(0.0) == (list(range(6)), [])


def test_weights_and_biases_gets_the_curves(demos, tmp_path, monkeypatch):
    import sys
    import types

    logged, started = [], []

    def init(**settings):
        started.append(settings)
        return types.SimpleNamespace(log=lambda values, step: logged.append((step, values)), finish=lambda: None)

    importlib.import_module("accelerate")  # which asks whether there is a whole wandb when it is imported
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    train(run_settings(demos, tmp_path / "run", wandb="robots"))
    assert started[0]["project"] == "robots" and started[0]["id"] == (tmp_path / "run" / "wandb_id").read_text()
    assert any("validation/loss" in values for _, values in logged)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="pip install wandb"):
        train(run_settings(demos, tmp_path / "other", wandb="robots"))


def test_a_longer_run_is_validated_again_and_old_snapshots_go(demos, tmp_path):
    run = tmp_path / "run"
    train(run_settings(demos, run, keep=9))
    (run / "policies" / "step_0000900").mkdir()  # as if the run had once been further
    recorder = Recorder()
    train(run_settings(demos, run, keep=9, steps=16, resume=True), callbacks=[recorder])
    assert recorder.validations == [12, 16]
    kept = [path.name for path in sorted((run / "policies").iterdir())]
    assert kept == [f"step_{step:07d}" for step in (2, 4, 6, 8, 12, 16)]
    assert len(json.loads((run / "run.json").read_text())) == 2


def test_a_run_that_is_over_says_so(demos, tmp_path):
    run, reporter = tmp_path / "run", Heard()
    train(run_settings(demos, run, steps=1, evaluations=1))
    before = (run / "policy" / "model.safetensors").read_bytes()
    train(run_settings(demos, run, steps=1, evaluations=1, resume=True), reporter)
    assert "the run was over at step 1: to train on, give more --steps" in reporter.lines
    assert (run / "policy" / "model.safetensors").read_bytes() == before


def test_leftovers_of_a_run_without_a_checkpoint_do_not_count(demos, tmp_path):
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    (run / "best.json").write_text('{"metric": "loss", "score": 1e9, "step": 7}')
    (run / "log.jsonl").write_text('{"step": 900, "split": "train", "loss": 1}\n')
    train(run_settings(demos, run))
    assert json.loads((run / "best.json").read_text())["score"] < 0
    assert all(row["step"] <= 8 for row in read_log(run))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("policies/mine.txt", "mine.txt is not of `rf-agent train`"),
        ("evaluations/r.csv", "r.csv is not of"),
        ("best/thesis.txt", "best exists and is no checkpoint of ours"),
        ("policy/__init__.py", "policy exists and is no checkpoint of ours"),
        ("config.json", "config.json is not of"),
    ],
)
def test_files_that_it_has_not_made_are_not_replaced(demos, tmp_path, name, said):
    mine = tmp_path / "run" / name
    mine.parent.mkdir(parents=True)
    mine.write_text('{"mine": 1}')
    with pytest.raises((FileExistsError, CheckpointError), match=said):
        train(run_settings(demos, tmp_path / "run"))
    assert mine.read_text() == '{"mine": 1}' and not (tmp_path / "run" / "run.json").exists()


def test_a_run_that_was_killed_while_it_kept_a_policy_goes_on(demos, tmp_path):
    run = tmp_path / "run"
    train(run_settings(demos, run))
    (run / "policies" / ".step_0000004.new-123-ab").mkdir(parents=True)
    (run / "policies" / "notes.txt").write_text("mine")
    train(run_settings(demos, run, resume=True, steps=9))
    assert (run / "policies" / "notes.txt").exists()


def test_a_result_is_not_replaced_where_its_checkpoint_was_deleted(demos, tmp_path):
    run = tmp_path / "run"
    train(run_settings(demos, run))
    (run / "checkpoint.pt").unlink()
    with pytest.raises(FileExistsError, match="policy is the result of another run"):
        train(run_settings(demos, run))
    with pytest.raises(FileExistsError, match=r"run\.json is a file"):
        train(run_settings(demos, run / "run.json"))


def test_a_refused_continuation_leaves_no_trace(demos, tmp_path):
    run = tmp_path / "run"
    train(run_settings(demos, run))
    before = (run / "run.json").read_text()
    with pytest.raises(ValueError, match="learning_rate"):
        train(run_settings(demos, run, resume=True, learning_rate=0.5))
    assert (run / "run.json").read_text() == before
    train(run_settings(demos, run, resume=True, steps=9))
    assert len(json.loads((run / "run.json").read_text())) == 2


def test_an_interruption_while_averages_are_put_in_is_undone(monkeypatch):
    model = torch.nn.Linear(2, 2)
    average = EMA(model, 0.5)
    before = model.weight.detach().clone()
    average.averages["weight"] += 1

    def interrupted(self):
        EMA.copy(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(EMA, "copy", EMA.copy_to_model, raising=False)
    monkeypatch.setattr(EMA, "copy_to_model", interrupted)
    with pytest.raises(KeyboardInterrupt), average.applied():
        pytest.fail("it went on")
    assert torch.equal(model.weight, before)


def test_the_policy_acts_at_every_validation(demos, tmp_path, monkeypatch):
    pytest.importorskip("pybullet")
    run = tmp_path / "run"
    with pytest.raises(Exception, match="NoSuchTable"):
        train(run_settings(demos, run, evaluation_env="rf/NoSuchTable-v0"))
    assert not run.exists()
    foreign = EvaluationPlan("rf/PlayTableD-v0", 1, "cpu", 1, ("fly",))
    assert foreign.others and len(foreign.items) == 34
    settings = {"evaluation_env": "rf/PlayTableD-v0", "evaluation_episodes": 1, "evaluations": 1, "steps": 2}
    report = train(run_settings(demos, run, **settings))
    assert 0 <= report.scalars["success_rate"] <= 1
    episodes = run / "evaluations" / "step_0000002" / "episodes.jsonl"
    best = json.loads((run / "best.json").read_text())
    assert (best["metric"], best["env"], best["episodes"]) == ("success_rate", "rf/PlayTableD-v0", 1)
    played = {json.loads(line)["key"]: json.loads(line)["seed"] for line in open(episodes) if "key" in line}
    measured = {item.key: item.seed for item in task_items(list(TASKS), 1, 0)}
    assert played.keys() == measured.keys() and all(played[key] != measured[key] for key in played)
    chains = EvaluationPlan("rf/PlayTableChainD-v0", 3, "cpu", 1, TASKS)
    assert (
        not chains.others
        and chains._options == {"chains": "training"}
        and [item.chain for item in chains.items] == [0, 1, 2]
    )
    monkeypatch.setattr("rf_agent.training.snapshots.EvaluationPlan.score", lambda *_: 1 / 0)
    report = train(run_settings(demos, tmp_path / "broken", **settings))  # a simulator that dies does not end it
    assert "success_rate" not in report.scalars and report.output.exists()
