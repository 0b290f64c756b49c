"""How images come to the model: changed as asked, as bytes, from processes that read ahead; and how long it waits."""

import json
import multiprocessing
import os
import signal
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from rf_agent.demos.windows import DemoSet
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.presets import preset
from rf_agent.progress import Silent
from rf_agent.training import batches, imitation, loop
from rf_agent.training.batches import COLOR_JITTER, Augmentation
from rf_agent.training.callbacks import Callback
from rf_agent.training.engine import make_accelerator
from rf_agent.training.imitation import Imitation
from rf_agent.training.robot import open_all
from rf_agent.training.settings import LoopConfig
from rf_agent.training.trainer import TrainConfig, train
from rf_agent.training.vision_cache import FOLDER


def objective(demos, frozen=False, **options):
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["open"], seed=0)
    policy.vlm.vision_encoder.requires_grad_(not frozen)
    data = DemoSet(open_all([demos]), preset("roboflamingo-test"))
    settings = {"batch_size": 4, "sequence_length": 6, "validation_fraction": 0.0, "workers": 0}
    return Imitation(policy, data, **settings | options)


def config(demos, output, **changes):
    settings = {"preset": "roboflamingo-test", "steps": 3, "batch_size": 3, "sequence_length": 6, "threads": 1}
    settings |= {"validation_fraction": 0.0, "device": "cpu", "evaluations": 1}
    return TrainConfig(demos=(demos,), output=output, **settings | changes)


class TestAugmentation:
    @pytest.mark.parametrize("per_frame", [False, True])
    def test_the_frames_of_a_sequence_move_together_or_each_by_itself(self, demos, per_frame):
        (batch,) = objective(demos, augmentation=Augmentation(0.1, (5, 2), per_frame)).batches.draw(0)
        assert batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (2, 32, 32, 3)
        counts = batch.chunks.valid.sum(dim=1).tolist()
        for drawn in (batch.offsets, batch.colors):
            assert len(drawn) == len(batch.images)
            sequences = drawn.flatten(1).split(counts)
            alike = [bool((frames == frames[0]).all()) for frames in sequences if len(frames) > 1]
            assert alike and set(alike) == {not per_frame}
        assert batch.offsets[:, 0].abs().max() <= 5 and batch.offsets[:, 1].abs().max() <= 2

    def test_the_model_sees_normalised_pixels_that_were_moved_and_then_coloured(self, demos, monkeypatch):
        learner = objective(demos, augmentation=Augmentation(0.1, (5, 2)))
        (batch,) = learner.batches.draw(0)
        seen = []
        monkeypatch.setattr(learner.policy, "encode_vision", lambda pixels: seen.append(pixels) or pixels)
        learner.objective._vision_tokens(batch)
        plain = normalise(batch.images, learner.policy.config.image)
        frame, view = 3, 0
        dy, dx = batch.offsets[frame, view].tolist()
        places = torch.arange(32)
        moved = plain[frame, view][:, (places + dy).clamp(0, 31)][:, :, (places + dx).clamp(0, 31)]
        contrast, brightness, *tint = batch.colors[frame, view].tolist()
        expected = moved * (1 + 0.1 * contrast) + 0.1 * brightness + 0.1 / 3 * torch.tensor(tint)[:, None, None]
        torch.testing.assert_close(seen[0][frame, view], expected)

    def test_frames_are_encoded_once_unless_something_is_asked_for_that_changes_them(self, demos):
        kept = objective(demos, frozen=True, augmentation=Augmentation(None))
        assert kept.encodes_once and kept.objective.color_jitter == 0
        for asked in (Augmentation(0.1), Augmentation(None, (2, 2))):
            changed = objective(demos, frozen=True, augmentation=asked)
            assert not changed.encodes_once and changed.objective.color_jitter == (asked.color_jitter or COLOR_JITTER)
        assert objective(demos, augmentation=Augmentation(None)).objective.color_jitter == COLOR_JITTER
        with pytest.raises(UserError, match="--augment-per-frame changes nothing where frames are encoded once"):
            objective(demos, frozen=True, augmentation=Augmentation(None, (), True))

    def test_jitter_alone_changes_a_run_whose_tower_is_frozen(self, demos, tmp_path):
        start = str(train(config(demos, tmp_path / "start", steps=1)).output)
        losses = {}

        class Keep(Callback):
            def on_step(self, step, metrics):
                losses.setdefault(name, []).append(float(metrics["loss"]))

        for name, changes in {
            "plain": {"cache_vision": False, "color_jitter": 0.0},
            "jitter": {"color_jitter": 0.3},
        }.items():
            train(config(demos, tmp_path / name, init=start, **changes), callbacks=[Keep()])
        assert not (tmp_path / FOLDER).exists()
        assert not np.allclose(losses["plain"], losses["jitter"], rtol=1e-4)
        with pytest.raises(ValueError, match="color_jitter is -0.1: give a number from 0 on"):
            train(config(demos, tmp_path / "no", color_jitter=-0.1))


class TestReadingAhead:
    def test_the_processes_stay(self, demos, monkeypatch):
        made = []

        class Recorded(DataLoader):
            def __init__(self, *args, **options):
                made.append(options)
                super().__init__(*args, **options)

        monkeypatch.setattr(batches, "DataLoader", Recorded)
        stream = objective(demos).batches.iterate(0, 1)
        next(stream)
        assert made[0]["persistent_workers"] and made[0]["num_workers"] == 1
        (pid,) = [child.pid for child in multiprocessing.active_children()]
        for _ in range(5):
            (batch,) = next(stream)
        assert [child.pid for child in multiprocessing.active_children()] == [pid]
        assert batch.images.dtype == torch.uint8  # a quarter of what floats would be
        stream.close()

    def test_a_killed_process_ends_the_run_in_a_sentence(self, demos, tmp_path):
        class Kill(Callback):
            def on_step(self, step, metrics):
                if step == 2:
                    for child in multiprocessing.active_children():
                        os.kill(child.pid, signal.SIGKILL)

        with pytest.raises(UserError, match=r"reads images ahead was ended from outside .* fewer --workers"):
            train(config(demos, tmp_path / "run", steps=200, workers=1), callbacks=[Kill()])

    def test_none_outlives_a_run_that_is_stopped(self, demos, tmp_path):
        """The traceback, which is still there, holds on to everything; the interpreter's end could wait for ever."""

        class Stop(Callback):
            def on_step(self, step, metrics):
                assert multiprocessing.active_children()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as stop:
            train(config(demos, tmp_path / "run", workers=2), callbacks=[Stop()])
        assert stop.tb and not multiprocessing.active_children()

    def test_none_outlives_data_that_cannot_be_read(self, demos, monkeypatch):
        def damaged(self, step):
            raise UserError("damaged")

        monkeypatch.setattr(batches.StepBatches, "draw", damaged)
        with pytest.raises(UserError, match="damaged") as stop:
            next(objective(demos, workers=2).iterate(0))
        assert stop.tb and not multiprocessing.active_children()

    def test_errors_of_lost_processes_are_told_from_others(self):
        lost = [
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            ConnectionResetError(104, "reset"),
        ]
        others = [
            RuntimeError("out of order"),
            FileNotFoundError("Caught FileNotFoundError in DataLoader worker process"),
        ]
        assert all(map(batches.is_lost_worker, lost)) and not any(map(batches.is_lost_worker, others))

    def test_another_error_stays_what_it_is(self, demos, tmp_path):
        class Fail(Callback):
            def on_step(self, step, metrics):
                raise RuntimeError("out of order")

        with pytest.raises(RuntimeError, match="^out of order$"):
            train(config(demos, tmp_path / "run"), callbacks=[Fail()])

    def test_images_are_held_as_far_as_memory_allows(self, demos, tmp_path, monkeypatch):
        for more, held in ((0, False), (1, True)):
            learner = objective(demos)
            monkeypatch.setattr(imitation, "HELD_MOST", learner.demos.frames.nbytes + more)
            learner.prepare(tmp_path / "run", Silent())
            assert (learner.demos.frames._held is not None) is held


class TestWaiting:
    def test_the_share_of_time_without_data_is_shown_and_logged(self, tmp_path, monkeypatch):
        """Of every 4 seconds, 3 go into getting a batch; in one of these frames are encoded."""
        clock = {"now": 0.0, "encoded": 0.0}
        monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: clock["now"]))

        def stream(_):
            while True:
                clock["now"] += 3
                clock["encoded"] += 1
                yield [(torch.ones(1), 1.0)]

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(1))

            def forward(self, batch, progress):
                clock["now"] += 1
                return (self.weight * batch).square().mean(), {}

        shown = []
        reporter = types.SimpleNamespace(update=lambda share, text: shown.append(text), log=lambda text: None)
        settings = LoopConfig(output=tmp_path, steps=20, evaluations=1, device="cpu", threads=1)
        run = loop.Loop(
            settings,
            Model(),
            stream,
            lambda _: {},
            reporter,
            make_accelerator(settings),
            encoding=lambda: clock["encoded"],
        )
        run.run()
        assert any("step 20, loss" in text and text.endswith("data 50%") for text in shown)
        (row,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert row["waiting_for_data"] == pytest.approx(0.5)

    def test_frames_that_are_encoded_are_no_waiting(self, demos, tmp_path):
        first, again = (objective(demos, frozen=True) for _ in range(2))
        for learner in (first, again):
            learner.prepare(tmp_path / "run", Silent())
            stream = learner.iterate(0)
            for _ in range(30):
                next(stream)
            learner.close()
        assert first.encoding > 0 and again.encoding == 0  # kept by the first
