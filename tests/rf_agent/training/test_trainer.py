"""Imitation: windows, resuming, learning, refusing bad data."""

import json

import h5py
import numpy as np
import pytest
import torch
from demo_files import TASKS, make_store
from tiny_runs import interrupt_at

import rf_agent
from rf_agent.demos.windows import ChunkSampler, DemoSet, whole_sequences, window_indices
from rf_agent.nn.losses import action_loss
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.presets import preset
from rf_agent.training.imitation import chunk_loss
from rf_agent.training.optim import EMA, parameter_groups, schedule
from rf_agent.training.robot import open_all
from rf_agent.training.trainer import TrainConfig, train

PRESET = "roboflamingo-test"


@pytest.fixture
def demos(tmp_path):
    return make_store(tmp_path / "demos.hdf5", demos=6)


def config(demos, output, **changes):
    base = {
        "preset": PRESET,
        "steps": 6,
        "batch_size": 3,
        "sequence_length": 6,
        "validation_fraction": 0.3,
        "device": "cpu",
    }
    return TrainConfig(demos=(demos,), output=output, **base | changes)


def dataset(path, n_action_steps):
    changes = f"head.n_action_steps={n_action_steps}", "head.proprioception=true"
    return DemoSet(open_all([path]), preset(PRESET).changed(changes))


def weights(directory):
    return RoboFlamingoPolicy.from_pretrained(directory, "cpu").state_dict()


def test_observation_steps_and_targets(demos):
    data = dataset(demos, 2)
    assert data.frames.shape == (2, 32, 32, 3) and len(data.frames) == 72
    index = next(i for i, episode in enumerate(data.episodes) if len(episode.actions) == 7)
    episode = data.episodes[index]
    assert episode.observation_steps(2) == 4 and episode.observation_steps(2, phase=1) == 3
    batch = data.chunks([(index, 0, 1), (index, 1, 0)], 4, ["a", "b"])
    assert batch.valid.tolist() == [[True, True, True, False], [True, True, True, False]]
    assert (batch.frames - episode.first_frame).tolist() == [2, 4, 6, 1, 3, 5]
    assert torch.equal(batch.state, torch.from_numpy(episode.state[[2, 4, 6, 1, 3, 5]]))
    assert torch.equal(batch.actions[0, 0], torch.from_numpy(episode.actions[2:5]))
    assert batch.mask[0].tolist() == [[True] * 3, [True] * 3, [True, False, False], [False] * 3]


def test_frame_stride_must_fit_the_policy(tmp_path):
    path = make_store(tmp_path / "d.hdf5", stride=3)
    with pytest.raises(ValueError, match="a frame at every 3 steps, but the policy observes every 2"):
        dataset(path, 2)
    assert dataset(path, 3).episodes[0].frame_stride == 3


def test_every_observation_step_is_drawn(demos):
    data = dataset(demos, 2)
    training, held_out = data.split(0.3)
    assert sorted(training + held_out) == list(range(6)) and len(held_out) == 2
    sampler = ChunkSampler(data, training, 4, balance=0.5, mix_instructions=True)
    rng = np.random.default_rng(0)
    drawn = {int(frame) for _ in range(200) for frame in sampler.draw(4, rng).frames}
    for index in training:
        episode = data.episodes[index]
        frames = range(episode.first_frame, episode.first_frame + len(episode.actions))
        assert set(frames) <= drawn
    covered = data.chunks(whole_sequences(data, held_out, 4), 4, [""] * len(whole_sequences(data, held_out, 4)))
    assert len(set(covered.frames.tolist())) == covered.valid.sum()


@pytest.mark.parametrize(
    ("balance", "expected"), [(0.0, (0.333, 0.333, 0.333)), (0.5, (0.268, 0.329, 0.403)), (1.0, (0.211, 0.316, 0.474))]
)
def test_tasks_are_drawn_equally_often_or_by_their_observation_steps(demos, balance, expected):
    data = dataset(demos, 2)  # of each task 8, 12 and 18 observation steps
    sampler = ChunkSampler(data, range(6), 4, balance, mix_instructions=False)
    drawn = [text[:-2] for text in sampler.draw(4000, np.random.default_rng(0)).instructions]
    shares = [drawn.count(task.replace("_", " ")) / 4000 for task in TASKS]
    assert shares == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.4, 0.7, 0.9])
def test_what_is_held_out_is_the_share(tmp_path, share):
    data = dataset(make_store(tmp_path / "d.hdf5", 40), 2)
    training, held_out = data.split(share)
    assert len(held_out) == round(40 * share) and sorted(training + held_out) == list(range(40))
    assert max(np.diff([-1, *held_out])) <= round(1 / share) + 1  # spread evenly


def test_shared_features_equal_windows_encoded_alone(demos):
    """Encoding each observation step of a run once changes nothing about the loss of its windows."""
    data = dataset(demos, 2)
    policy = RoboFlamingoPolicy.from_preset(PRESET, [e.instruction for e in data.episodes], seed=0).eval()
    index = max(range(6), key=lambda i: len(data.episodes[i].actions))  # 17 samples, 9 observation steps
    text = data.episodes[index].instruction
    length, window = 6, policy.config.head.window
    batch = data.chunks([(index, 0, 0), (index, 0, 5)], length, [text, text])  # the second is padded
    pixels = normalise(torch.from_numpy(data.frames.get(batch.frames.numpy())), policy.config.image)
    with torch.no_grad():
        shared, _ = chunk_loss(policy, policy.encode_vision(pixels), batch)
        poses, logits, actions, masks = [], [], [], []
        for first in (*range(length - window + 1), 5):
            alone = data.chunks([(index, 0, first)], window, [text])
            images = normalise(torch.from_numpy(data.frames.get(alone.frames.numpy())), policy.config.image)
            out = policy.window(images[None], *policy.tokenize([text]))
            poses.append(out.pose), logits.append(out.gripper_logits)
            actions.append(alone.actions), masks.append(alone.mask)
        separate, _ = action_loss(*(torch.cat(x) for x in (poses, logits, actions, masks)), policy.config.loss, 6)
    assert torch.allclose(shared, separate, atol=1e-6)
    assert window_indices(6, 4).tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    assert window_indices(3, 4).tolist() == [[0, 1, 2]]


def test_learns_what_is_shown(demos, tmp_path):
    report = train(config(demos, tmp_path / "run", steps=120, batch_size=6, learning_rate=3e-3, ema_decay=0.9))
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [row["pose_error"] for row in log if row["split"] == "train"]
    assert losses[-1] < 0.16  # chance is 0.33
    assert report.scalars["pose_error"] < 0.3  # on held-out demonstrations; 0.33 is chance
    policy = RoboFlamingoPolicy.from_pretrained(report.output, "cpu")
    image = np.zeros((200, 200, 3), np.uint8)
    action = policy.act({"rgb_static": image, "rgb_gripper": image[:84, :84], "instruction": "open drawer 1"})
    assert action.shape == (7,)
    card = (report.output / "README.md").read_text()
    assert "rf-agent train --output run --steps 120" in card and "--demos demos.hdf5" in card
    assert "A policy of type `roboflamingo`" in card and "`rf_agent.load_policy(DIR)`" in card
    assert type(rf_agent.load_policy(report.output, "cpu")) is RoboFlamingoPolicy


@pytest.mark.parametrize("frozen", [False, True])
def test_resumed_run_equals_uninterrupted_run(demos, tmp_path, monkeypatch, frozen):
    start = None
    if frozen:
        start = str(train(config(demos, tmp_path / "start", steps=1)).output)
    whole = train(config(demos, tmp_path / "whole", init=start, evaluations=3))
    interrupt_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        train(config(demos, tmp_path / "parts", init=start, evaluations=3))
    monkeypatch.undo()
    torch.manual_seed(99)  # whatever happened in between
    assert not (tmp_path / "parts" / "policy").exists()
    with pytest.raises(FileExistsError, match="add --resume"):
        train(config(demos, tmp_path / "parts", init=start))
    with pytest.raises(ValueError, match="learning_rate 0.001, not 0.5"):
        train(config(demos, tmp_path / "parts", init=start, resume=True, learning_rate=0.5))
    parts = train(config(demos, tmp_path / "parts", init=start, evaluations=3, resume=True))
    assert parts.scalars == whole.scalars
    first, second = weights(whole.output), weights(parts.output)
    assert all(torch.equal(first[name], second[name]) for name in first)
    if frozen:
        before = weights(start)
        moved = {name for name in first if not torch.equal(first[name], before[name])}
        assert any(name.startswith("head.") for name in moved)
        assert any("gated_cross_attn" in name for name in moved)
        assert not any(name.startswith("vlm.vision_encoder") for name in moved)


def test_bad_data_is_refused_before_anything_is_written(demos, tmp_path):
    with h5py.File(demos, "r+") as file:
        file["data/demo_2/actions"][3, 0] = np.nan
    with pytest.raises(ValueError, match="demos.hdf5: demo_2: actions has NaN"):
        train(config(demos, tmp_path / "run"))
    with pytest.raises(FileNotFoundError, match="to resume"):
        train(config(demos, tmp_path / "run", resume=True))
    with pytest.raises(ValueError, match="batch_size is 0"):
        config(demos, tmp_path / "run", batch_size=0)
    assert not (tmp_path / "run").exists()


def test_time_limit_ends_the_run(demos, tmp_path):
    train(config(demos, tmp_path / "run", steps=None, minutes=1 / 60, evaluations=2))
    assert (tmp_path / "run" / "policy").exists()


def test_schedule_average_and_groups():
    rates = [schedule(progress, warmup=0.1, final=0.01) for progress in np.linspace(0, 1, 101)]
    assert max(rates) == rates[10] == 1.0 and rates[-1] == pytest.approx(0.01)
    assert all(a < b for a, b in zip(rates[:10], rates[1:11], strict=True))
    layer = torch.nn.Linear(2, 2)
    groups = parameter_groups(layer.parameters(), 1e-3, 0.1)
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (1, 0.0)]
    average = EMA(layer, 0.9)
    kept = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1.0
    for _ in range(50):
        average.update()
    with average.applied():
        assert torch.allclose(layer.weight, kept + 1, atol=0.02) and not torch.equal(layer.weight, kept + 1)
    assert torch.equal(layer.weight, kept + 1)
