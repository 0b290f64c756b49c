"""What a run leaves behind: curves, snapshots, the best policy, its history; and what stops it."""

import importlib.metadata
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from demo_files import make_store
from PIL import Image

from rf_agent import load_policy
from rf_agent.checkpoint import CheckpointError
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.progress import Silent
from rf_agent.training.bad_batch import BAD_BATCH
from rf_agent.training.callbacks import Callback
from rf_agent.training.curves import read_log
from rf_agent.training.imitation import ImitationObjective
from rf_agent.training.loop import CHECKPOINT, Loop
from rf_agent.training.trainer import TrainConfig, train


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("demos") / "demos.hdf5")


def config(demos, output, **changes):
    settings = {"preset": "roboflamingo-test", "steps": 8, "batch_size": 3, "sequence_length": 6, "threads": 1}
    settings |= {"validation_fraction": 0.3, "device": "cpu", "evaluations": 4}
    return TrainConfig(demos=(demos,), output=output, **settings | changes)


class Logged(Silent):
    def __init__(self):
        self.texts = []

    def log(self, text):
        self.texts.append(text)


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
    report = train(config(demos, run, keep=3), callbacks=[recorder])
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
    train(config(demos, run, steps=1, evaluations=1))
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
    reporter = Logged()
    train(config(demos, tmp_path / "run", steps=1, evaluations=1, validation_fraction=fraction), reporter)
    assert any("too few demonstrations to hold any out" in text for text in reporter.texts) == said


def test_a_loss_that_is_no_number_stops_the_run(demos, tmp_path, monkeypatch):
    forward = ImitationObjective.forward

    def broken(self, batch, progress=0.0):
        loss, metrics = forward(self, batch, progress)
        return loss * float("nan"), metrics

    monkeypatch.setattr(ImitationObjective, "forward", broken)
    with pytest.raises(UserError, match="the loss is nan at step 0.*batch is kept") as stop:
        train(config(demos, tmp_path / "run"))
    way, path = re.search(r"torch\.load\('(.*)'\)(.*) shows it", str(stop.value)).group(2, 1)
    assert path == str(tmp_path / "run" / BAD_BATCH) and way == "['batches']"
    kept = torch.load(path, weights_only=True)  # it names no code that would be run
    ((batch, share),) = kept["batches"]
    assert kept["step"] == 0 and share == pytest.approx(1.0)
    sources = batch["chunks"]["sources"]
    assert len(sources) == 3 and all(re.fullmatch(r"demos.hdf5: demo_\d, from step \d+", text) for text in sources)
    assert batch["images"].dtype == torch.uint8 and len(batch["images"]) == batch["chunks"]["valid"].sum()


def test_a_jump_of_the_loss_stops_the_run_and_it_can_go_on(demos, tmp_path, monkeypatch):
    jumps = 3

    forward = ImitationObjective.forward

    def jumping(self, batch, progress=0.0):
        loss, metrics = forward(self, batch, progress)
        return loss * (200 if self.training and progress == jumps / 8 else 1), metrics

    monkeypatch.setattr(ImitationObjective, "forward", jumping)
    monkeypatch.setattr("rf_agent.training.loop.SPIKE_WINDOW", jumps)
    whole = train(config(demos, tmp_path / "calm", spike=0.0))
    with pytest.raises(UserError, match="the loss jumped from .* at step 3: .*--resume --spike 0"):
        train(config(demos, tmp_path / "run"))
    assert torch.load(tmp_path / "run" / BAD_BATCH, weights_only=True)["step"] == jumps
    parts = train(config(demos, tmp_path / "run", resume=True, spike=0.0))
    first, second = (RoboFlamingoPolicy.from_pretrained(run.output, "cpu").state_dict() for run in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_random_shift_encodes_each_frame_anew_and_can_be_resumed(demos, tmp_path, monkeypatch):
    start = str(train(config(demos, tmp_path / "start", steps=1)).output)
    settings = {"init": start, "random_shift": (3, 1), "color_jitter": 0.1, "workers": 1}
    whole = train(config(demos, tmp_path / "whole", **settings))
    assert not (tmp_path / ".vision_tokens").exists()
    optimise = Loop._optimise

    def interrupted(self, parts):
        if self.step == 5:
            raise KeyboardInterrupt
        return optimise(self, parts)

    monkeypatch.setattr(Loop, "_optimise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config(demos, tmp_path / "parts", **settings))
    monkeypatch.undo()
    parts = train(config(demos, tmp_path / "parts", **settings | {"workers": 0}, resume=True))
    assert parts.scalars == whole.scalars
    plain = train(config(demos, tmp_path / "plain", init=start))
    assert plain.scalars != whole.scalars
    with pytest.raises(ValueError, match="random_shift is .* a number of pixels for each"):
        train(config(demos, tmp_path / "bad", init=start, random_shift=(1, 2, 3)))


def test_a_batch_of_half_the_steps_is_not_another_one(demos, tmp_path):
    """Batches are functions of seed and step, whatever was drawn before."""
    seen = []

    class Look(Callback):
        def on_step(self, step, metrics):
            seen.append(float(metrics["loss"]))

    train(config(demos, tmp_path / "a", steps=2, learning_rate=1e-9, evaluations=1), callbacks=[Look()])
    first = list(seen)
    train(config(demos, tmp_path / "b", steps=2, learning_rate=1e-9, evaluations=1, seed=1), callbacks=[Look()])
    assert seen[:2] == first and not np.allclose(seen[2:], first)


def test_gradient_checkpointing_saves_memory_and_changes_nothing(demos):
    from rf_agent.demos.windows import DemoSet
    from rf_agent.presets import preset
    from rf_agent.training.imitation import Imitation
    from rf_agent.training.robot import open_all

    gradients, kept = [], []
    for rows in (0, 4):
        data = DemoSet(open_all([demos]), preset("roboflamingo-test"))
        policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["open"], seed=0)
        policy.vlm.checkpoint_rows = rows
        imitation = Imitation(policy, data, batch_size=4, sequence_length=6, cache_vision=False)
        (batch,) = imitation.batches.draw(3)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=saved: s.append(x.nbytes) or x, lambda x: x):
            loss, _ = imitation.objective.train()(batch)
        loss.backward()
        assert batch.share == pytest.approx(1.0)
        gradients.append({name: p.grad for name, p in policy.named_parameters() if p.grad is not None})
        kept.append(sum(saved))
    assert kept[1] < 0.75 * kept[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)


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

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    train(config(demos, tmp_path / "run", wandb="robots"))
    assert started[0]["project"] == "robots" and started[0]["id"] == (tmp_path / "run" / "wandb_id").read_text()
    assert any("validation/loss" in values for _, values in logged)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="pip install wandb"):
        train(config(demos, tmp_path / "other", wandb="robots"))


def test_a_gradient_that_is_no_number_stops_the_run(demos, tmp_path, monkeypatch):
    forward = ImitationObjective.forward

    def broken(self, batch, progress=0.0):
        loss, metrics = forward(self, batch, progress)
        return loss + torch.sqrt(0.0 * loss), metrics  # its slope is infinite

    monkeypatch.setattr(ImitationObjective, "forward", broken)
    with pytest.raises(UserError, match="the norm of the gradient is nan at step 0.*batch is kept"):
        train(config(demos, tmp_path / "run"))


def test_a_longer_run_is_validated_again_and_old_snapshots_go(demos, tmp_path):
    run = tmp_path / "run"
    train(config(demos, run, keep=9))
    (run / "policies" / "step_0000900").mkdir()  # as if the run had once been further
    recorder = Recorder()
    train(config(demos, run, keep=9, steps=16, resume=True), callbacks=[recorder])
    assert recorder.validations == [12, 16]
    kept = [path.name for path in sorted((run / "policies").iterdir())]
    assert kept == [f"step_{step:07d}" for step in (2, 4, 6, 8, 12, 16)]
    assert len(json.loads((run / "run.json").read_text())) == 2


def test_leftovers_of_a_run_without_a_checkpoint_do_not_count(demos, tmp_path):
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    (run / "best.json").write_text('{"metric": "loss", "score": 1e9, "step": 7}')
    (run / "log.jsonl").write_text('{"step": 900, "split": "train", "loss": 1}\n')
    train(config(demos, run))
    assert json.loads((run / "best.json").read_text())["score"] < 0
    assert all(row["step"] <= 8 for row in read_log(run))


def test_the_policy_acts_at_every_validation(demos, tmp_path, monkeypatch):
    pytest.importorskip("pybullet")
    run = tmp_path / "run"
    with pytest.raises(Exception, match="NoSuchTable"):
        train(config(demos, run, evaluation_env="rf/NoSuchTable-v0"))
    assert not run.exists()
    settings = {"evaluation_env": "rf/PlayTableD-v0", "evaluation_episodes": 1, "evaluations": 1, "steps": 2}
    report = train(config(demos, run, **settings))
    assert 0 <= report.scalars["success_rate"] <= 1
    assert (run / "evaluations" / "step_0000002" / "episodes.jsonl").exists()
    assert json.loads((run / "best.json").read_text())["metric"] == "success_rate"
    monkeypatch.setattr("rf_agent.training.snapshots.EvaluationPlan.score", lambda *_: 1 / 0)
    report = train(config(demos, tmp_path / "broken", **settings))  # a simulator that dies does not end it
    assert "success_rate" not in report.scalars and report.output.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fsdp": True, "gradient_checkpointing": 4}, "do not go together"),
        ({"fsdp": True, "keep": 2}, "only the last policy is kept"),
        ({"fsdp": True, "evaluation_env": "rf/PlayTableD-v0"}, "only the last policy is kept"),
    ],
)
def test_what_fsdp_cannot_do_is_refused(changes, said):
    from rf_agent.training.trainer import _check_processes

    with pytest.raises(UserError, match=said):
        _check_processes(config(Path("a"), Path("b"), **changes), 2)


@pytest.mark.parametrize(
    ("largest", "said"),
    [
        (400_000, r"checkpoint.pt cannot be written .*make room on the disk .* --resume"),
        (50_000, r"run cannot be written .*make room on the disk and go on with --resume"),
    ],
    ids=["checkpoint", "policy"],
)
def test_a_full_disk_leaves_the_last_checkpoint(demos, tmp_path, largest, said):
    """A limit on the size of files breaks a write off in its midst, as a full disk does."""
    resource = pytest.importorskip("resource")
    run = tmp_path / "run"
    train(config(demos, run, keep=1))
    before = (run / "checkpoint.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        with pytest.raises(UserError, match=said):
            train(config(demos, run, steps=16, keep=1, resume=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (run / "checkpoint.pt").read_bytes() == before and not (run / "checkpoint.partial").exists()
    assert [path.name for path in (run / "policies").iterdir()] == [f"step_{12 if largest > 100_000 else 8:07d}"]
    RoboFlamingoPolicy.from_pretrained(run / "best", "cpu")
    train(config(demos, run, steps=16, keep=1, resume=True))
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 16


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_no_code(demos, tmp_path):
    run, made = tmp_path / "run", tmp_path / "made"
    train(config(demos, run, steps=1))
    for content in (Malicious(made), {"step": 1, "model": {"x": Malicious(made)}}):
        torch.save(content, run / "checkpoint.pt")
        with pytest.raises(ValueError, match="checkpoint.pt is damaged .UnpicklingError.: start again in another"):
            train(config(demos, run, steps=2, resume=True))
        assert not made.exists()
        torch.load(run / "checkpoint.pt", weights_only=False)
        assert made.exists()  # it would have
        made.unlink()


class Harm:
    """Pickles to a program."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return eval, (f"open({str(self.target)!r}, 'w').close()",)


def test_a_program_in_the_place_of_the_checkpoint_is_not_run(demos, tmp_path):
    train(config(demos, tmp_path / "run", evaluations=1, steps=2))
    path, target = tmp_path / "run" / CHECKPOINT, tmp_path / "ran"
    torch.save(torch.load(path, weights_only=True) | {"step": Harm(target)}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="checkpoint.pt is damaged"):
        train(config(demos, tmp_path / "run", evaluations=1, steps=2, resume=True))
    assert not target.exists() and path.read_bytes() == before
    torch.load(path, weights_only=False)  # what others would do
    assert target.exists()
    for content in (torch.zeros(2), {"model": {}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="checkpoint.pt is not the checkpoint of a run"):
            train(config(demos, tmp_path / "run", evaluations=1, steps=2, resume=True))


def test_half_precision_on_a_cpu_without_it_is_refused(demos, tmp_path, monkeypatch):
    """oneDNN has no LSTM in bfloat16 for many CPUs, and its error says nothing."""
    monkeypatch.setattr("rf_agent.training.engine.has_bfloat16", lambda: False)
    for precision in ("bf16", "fp16"):
        with pytest.raises(UserError, match=f"--mixed-precision {precision} is slower on this CPU, or fails"):
            train(config(demos, tmp_path / "run", mixed_precision=precision))
    with pytest.raises(ValueError, match="mixed_precision is 'half': give auto, no, bf16, fp16"):
        config(demos, tmp_path / "other", mixed_precision="half")
    assert not (tmp_path / "run").exists()
