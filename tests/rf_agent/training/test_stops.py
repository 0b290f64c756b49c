"""What stops a run, and what is left of it then."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import run_settings

from rf_agent.commands.train import run as run_command
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.bad_batch import BAD_BATCH
from rf_agent.training.imitation import ImitationObjective
from rf_agent.training.loop import CHECKPOINT, Loop
from rf_agent.training.optim import EMA
from rf_agent.training.trainer import train


def test_a_loss_that_is_no_number_stops_the_run(demos, tmp_path, monkeypatch):
    forward = ImitationObjective.forward

    def broken(self, batch, progress=0.0):
        loss, metrics = forward(self, batch, progress)
        return loss * float("nan"), metrics

    monkeypatch.setattr(ImitationObjective, "forward", broken)
    with pytest.raises(UserError, match="the loss is nan at step 0.*batch is kept") as stop:
        train(run_settings(demos, tmp_path / "run"))
    way, path = re.search(r"torch\.load\('(.*)'\)(.*) shows it", str(stop.value)).group(2, 1)
    assert path == str(tmp_path / "run" / BAD_BATCH) and way == "['batches']"
    kept = torch.load(path, weights_only=True)  # it names no code that would be run
    ((batch, share),) = kept["batches"]
    assert kept["step"] == 0 and share == pytest.approx(1.0)
    sources = batch["chunks"]["sources"]
    assert len(sources) == 3 and all(re.fullmatch(r"demos.hdf5: demo_\d, from step \d+", text) for text in sources)
    assert batch["images"].dtype == torch.uint8 and len(batch["images"]) == batch["chunks"]["valid"].sum()


def test_a_gradient_that_is_no_number_stops_the_run(demos, tmp_path, monkeypatch):
    forward = ImitationObjective.forward

    def broken(self, batch, progress=0.0):
        loss, metrics = forward(self, batch, progress)
        return loss + torch.sqrt(0.0 * loss), metrics  # its slope is infinite

    monkeypatch.setattr(ImitationObjective, "forward", broken)
    with pytest.raises(UserError, match="the norm of the gradient is nan at step 0.*batch is kept"):
        train(run_settings(demos, tmp_path / "run"))


def test_a_jump_of_the_loss_stops_the_run_and_it_can_go_on(demos, tmp_path, monkeypatch):
    jumps = 3

    forward = ImitationObjective.forward

    def jumping(self, batch, progress=0.0):
        loss, metrics = forward(self, batch, progress)
        return loss * (200 if self.training and progress == jumps / 8 else 1), metrics

    monkeypatch.setattr(ImitationObjective, "forward", jumping)
    monkeypatch.setattr("rf_agent.training.loop.SPIKE_WINDOW", jumps)
    whole = train(run_settings(demos, tmp_path / "calm", spike=0.0))
    with pytest.raises(UserError, match="the loss jumped from .* at step 3: .*--resume --spike 0"):
        train(run_settings(demos, tmp_path / "run"))
    assert torch.load(tmp_path / "run" / BAD_BATCH, weights_only=True)["step"] == jumps
    parts = train(run_settings(demos, tmp_path / "run", resume=True, spike=0.0))
    first, second = (RoboFlamingoPolicy.from_pretrained(run.output, "cpu").state_dict() for run in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_loss_below_zero_may_fall(demos, tmp_path, monkeypatch):
    forward = ImitationObjective.forward

    def likelihood(self, batch, progress=0.0):
        loss, metrics = forward(self, batch, progress)
        return loss - 1.0 - 60 * progress, metrics  # the last one is far below those before

    monkeypatch.setattr(ImitationObjective, "forward", likelihood)
    monkeypatch.setattr("rf_agent.training.loop.SPIKE_WINDOW", 3)
    assert train(run_settings(demos, tmp_path / "run")).output.is_dir()


def test_after_a_step_that_fails_ctrl_c_works(demos, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)

    def full(self, *args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(torch.OutOfMemoryError):
        train(run_settings(demos, tmp_path / "run"))
    assert signal.getsignal(signal.SIGINT) is handler


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
    train(run_settings(demos, run, keep=1))
    before = (run / "checkpoint.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        with pytest.raises(UserError, match=said):
            train(run_settings(demos, run, steps=16, keep=1, resume=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (run / "checkpoint.pt").read_bytes() == before and not (run / "checkpoint.partial").exists()
    assert [path.name for path in (run / "policies").iterdir()] == [f"step_{12 if largest > 100_000 else 8:07d}"]
    RoboFlamingoPolicy.from_pretrained(run / "best", "cpu")
    train(run_settings(demos, run, steps=16, keep=1, resume=True))
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 16


def test_a_validation_that_was_interrupted_is_done_again_at_its_step(demos, tmp_path, monkeypatch):
    """Otherwise the run keeps the policy of another step than those that it was asked for."""
    validate = Loop._validate

    def interrupted(self, curves):
        monkeypatch.setattr(Loop, "_validate", validate)
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_validate", interrupted)
    run, settings = tmp_path / "run", {"steps": 8, "evaluations": 2, "keep": 2}
    with pytest.raises(KeyboardInterrupt):
        train(run_settings(demos, run, **settings))
    assert torch.load(run / CHECKPOINT, weights_only=True)["step"] == 4
    train(run_settings(demos, run, **settings, resume=True))
    assert sorted(path.name for path in (run / "policies").iterdir()) == ["step_0000004", "step_0000008"]


class Harm:
    """Unpickled, it makes a file."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


def test_a_checkpoint_runs_no_code(demos, tmp_path):
    run, made = tmp_path / "run", tmp_path / "made"
    train(run_settings(demos, run, steps=1))
    path = run / CHECKPOINT
    sound = torch.load(path, weights_only=True)
    for content in (Harm(made), {"step": 1, "model": {"x": Harm(made)}}, sound | {"step": Harm(made)}):
        torch.save(content, path)
        before = path.read_bytes()
        with pytest.raises(ValueError, match="checkpoint.pt is damaged .UnpicklingError.: start again in another"):
            train(run_settings(demos, run, steps=2, resume=True))
        assert not made.exists() and path.read_bytes() == before
        torch.load(path, weights_only=False)
        assert made.exists()  # it would have
        made.unlink()


def test_what_is_no_checkpoint_is_not_resumed(demos, tmp_path):
    run = tmp_path / "run"
    train(run_settings(demos, run, steps=1))
    for content in (torch.zeros(2), {"model": {}}):
        torch.save(content, run / CHECKPOINT)
        with pytest.raises(ValueError, match="checkpoint.pt is not the checkpoint of a run"):
            train(run_settings(demos, run, steps=2, resume=True))


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
        _check_processes(run_settings(Path("a"), Path("b"), **changes), 2)


def test_half_precision_on_a_cpu_without_it_is_refused(demos, tmp_path, monkeypatch):
    """oneDNN has no LSTM in bfloat16 for many CPUs, and its error says nothing."""
    monkeypatch.setattr("rf_agent.training.engine.has_bfloat16", lambda: False)
    for precision in ("bf16", "fp16"):
        with pytest.raises(UserError, match=f"--mixed-precision {precision} is slower on this CPU, or fails"):
            train(run_settings(demos, tmp_path / "run", mixed_precision=precision))
    with pytest.raises(ValueError, match="mixed_precision is 'half': give auto, no, bf16, fp16"):
        run_settings(demos, tmp_path / "other", mixed_precision="half")
    assert not (tmp_path / "run").exists()


def test_sigterm_saves_a_checkpoint_as_ctrl_c_does(demos, tmp_path, monkeypatch):
    """Clusters send it before they take a machine away."""
    monkeypatch.setattr(Loop, "_validate", lambda self, curves: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        run_command(run_settings(demos, tmp_path / "run", steps=8, evaluations=2))
    assert torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["step"] == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_step_waits_for_its_end(demos, tmp_path, monkeypatch, number):
    """Weights, averages and the step's number change together; a checkpoint of half a step would do it twice."""
    update = EMA.update

    def interrupted(self):
        os.kill(os.getpid(), number)
        update(self)

    monkeypatch.setattr(EMA, "update", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in tests that run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            run_command(run_settings(demos, tmp_path / "run", steps=8, ema_decay=0.9))
    finally:
        signal.signal(signal.SIGINT, before)
    state = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    steps = {int(entry["step"]) for entry in state["optimizer"]["state"].values()}
    assert state["step"] == 1 and steps == {1} and state["ema"]["steps"] == 1


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups here")
def test_a_whole_group_of_processes_that_is_told_to_end_leaves_a_checkpoint(demos, tmp_path):
    """As clusters do; the processes that read ahead hear of it, too."""
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from tiny_runs import run_settings\n"
        "from rf_agent.commands.train import run\n"
        "from rf_agent.training.loop import Loop\n"
        "optimise = Loop._optimise\n"
        "def said(self, parts):\n"
        "    print('step', self.step, flush=True)\n"
        "    return optimise(self, parts)\n"
        "Loop._optimise = said\n"
        f"run(run_settings(Path({str(demos)!r}), Path({str(tmp_path / 'run')!r}), steps=100_000, workers=2))\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            while process.stdout.readline() != "step 5\n":
                assert process.poll() is None
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["step"] >= 5
