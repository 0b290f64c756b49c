"""The loss of a LeRobot batch is that of our own trainer, and padding does not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.policies import make_policy, make_pre_post_processors
from torch.utils.data import default_collate

from lerobot_policy_roboflamingo import modeling_roboflamingo
from lerobot_policy_roboflamingo.batches import sequences
from lerobot_policy_roboflamingo.configuration_roboflamingo import RoboFlamingoConfig
from lerobot_policy_roboflamingo.modeling_roboflamingo import RoboFlamingoPolicy
from rf_agent.demos.readers import open_demos
from rf_agent.demos.windows import DemoSet
from rf_agent.errors import UserError
from rf_agent.preprocess import normalise
from rf_agent.training.imitation import chunk_loss


@pytest.fixture
def policy(lerobot_folder):
    return RoboFlamingoPolicy.from_pretrained(lerobot_folder)


def load(config, root, *rows) -> dict:
    """A batch as `lerobot-train` loads it."""
    meta = LeRobotDatasetMetadata("local/demos", root=root)
    dataset = LeRobotDataset("local/demos", root=root, delta_timestamps=resolve_delta_timestamps(config, meta))
    return default_collate([dataset[row] for row in rows])


def first_rows(root) -> tuple[list[int], list[int]]:
    """Where the episodes begin, and how long they are."""
    lengths = [len(record.actions) for record in open_demos(root).records]
    return [sum(lengths[:index]) for index in range(len(lengths))], lengths


def test_the_loss_is_that_of_our_trainer(policy, data_folder):
    """Of two sequences: one within an episode, one that reaches beyond its end."""
    config = policy.agent.config
    episodes = DemoSet([open_demos(data_folder)], config)
    starts, lengths = first_rows(data_folder)
    assert (lengths[0], lengths[-1], config.head.n_action_steps, config.head.window) == (12, 17, 2, 4)
    # frames 3 and 14: odd ones have phase 1, and observation steps are two frames apart
    mine, metrics = policy(load(policy.config, data_folder, starts[0] + 3, starts[-1] + 14))
    texts = [episodes.episodes[index].instruction for index in (0, 5)]
    chunks = episodes.chunks([(0, 1, 1), (5, 0, 7)], 4, texts)
    images = torch.from_numpy(episodes.frames.get(chunks.frames.numpy()))
    tokens = policy.agent.encode_vision(normalise(images, config.image))
    theirs, other = chunk_loss(policy.agent, tokens, chunks)
    assert chunks.valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert torch.allclose(mine, theirs, atol=1e-6)
    assert metrics == pytest.approx({name: value.item() for name, value in other.items()}, abs=1e-6)


def test_what_lies_beyond_an_episode_does_not_count(policy, data_folder):
    starts, lengths = first_rows(data_folder)
    batch = load(policy.config, data_folder, starts[0] + lengths[0] - 3, starts[1])
    padded = batch["action_is_pad"]
    assert padded[0].tolist() == [False] * 3 + [True] * 6  # the last 3 steps: frames at 2 of them, then none
    loss, _ = policy(batch)
    images = batch["observation.images.rgb_static"].clone()
    images[0, 2:] = 1 - images[0, 2:]
    actions = torch.where(padded[..., None], torch.tensor(9.0), batch["action"])
    assert torch.equal(policy({**batch, "action": actions, "observation.images.rgb_static": images})[0], loss)
    images[0, 1] = 1 - images[0, 1]
    assert not torch.allclose(policy({**batch, "observation.images.rgb_static": images})[0], loss)
    actions = torch.where(padded[..., None], batch["action"], torch.tensor(0.9))
    assert not torch.allclose(policy({**batch, "action": actions})[0], loss)


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    """A data set, as LeRobot writes it, whose second episode of 14 frames has another task from frame 9 on."""
    image = {"dtype": "image", "shape": (48, 48, 3), "names": ["height", "width", "channel"]}
    features = {"observation.images.front": image, "action": {"dtype": "float32", "shape": (4,), "names": None}}
    root = tmp_path_factory.mktemp("changing") / "data"
    data = LeRobotDataset.create("local/changing", fps=10, features=features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for tasks in (["do this"] * 5, ["do that"] * 9 + ["do this"] * 5, ["do that"] * 6):
        for task in tasks:
            frame = rng.integers(0, 255, (48, 48, 3), np.uint8), rng.normal(size=4).astype(np.float32)
            data.add_frame(dict(zip(features, frame, strict=True)) | {"task": task})
        data.save_episode()
    data.finalize()
    return root


def test_a_sequence_ends_where_the_task_changes(changing):
    """As in our trainer, which cuts the episode there."""
    meta = LeRobotDatasetMetadata("local/changing", root=changing)
    policy = make_policy(RoboFlamingoConfig(preset="roboflamingo-test", device="cpu"), ds_meta=meta)
    before, _ = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    config = policy.agent.config
    episodes = DemoSet([reader := open_demos(changing)], config)
    assert [len(record.actions) for record in reader.records] == [5, 9, 5, 6]
    # from frame 5 on the first part of nine has two steps, at frames 5 and 7; the second part begins at frame 9
    batch = before(load(policy.config, changing, 5 + 5, 5 + 9))
    assert batch["task"] == ["do that", "do this"]
    mine, _ = policy(batch)
    chunks = episodes.chunks([(1, 1, 2), (2, 0, 0)], 4, batch["task"])
    tokens = policy.agent.encode_vision(normalise(torch.from_numpy(episodes.frames.get(chunks.frames)), config.image))
    theirs, _ = chunk_loss(policy.agent, tokens, chunks)
    assert chunks.valid.tolist() == [[True, True, False, False], [True, True, True, False]]
    assert torch.allclose(mine, theirs, atol=1e-6)
    del batch["index"]
    with pytest.raises(ValueError, match="no 'index', but episodes of the data set change their task"):
        policy(batch)


def test_uint8_and_fractions_are_the_same(policy, data_folder):
    batch = load(policy.config, data_folder, 0, 8)
    keys = [key for key in batch if key.startswith("observation.images.") and not key.endswith("_is_pad")]
    assert len(keys) == 2
    whole = {key: (batch[key] * 255).round().to(torch.uint8) for key in keys}
    assert torch.equal(policy(batch)[0], policy({**batch, **whole})[0])


def test_a_batch_can_be_learned(data_folder):
    torch.manual_seed(0)
    config = RoboFlamingoConfig(preset="roboflamingo-test", device="cpu", sequence_length=6, optimizer_lr=5e-3)
    policy = RoboFlamingoPolicy(config, dataset_meta=LeRobotDatasetMetadata("local/demos", root=data_folder))
    batch = load(config, data_folder, 0, 8, 20, 30)
    assert batch["action"].shape == (4, 13, 7) and batch["observation.images.rgb_static"].shape[:2] == (4, 6)
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    losses = []
    for _ in range(30):
        loss, metrics = policy.train()(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert {type(value) for value in metrics.values()} == {float}
    assert policy.training and not policy.agent.vlm.vision_encoder.training
    assert policy.agent.config.trained


def test_the_head_learns_faster_than_the_vision_language_model(policy):
    groups = policy.get_optim_params()
    assert {round(group["lr"], 6) for group in groups} == {1e-3, 3e-4} and groups[0]["lr"] == 1e-3
    learning = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    assert sum(len(group["params"]) for group in groups) == len(learning)
    assert all(parameter.dim() < 2 for group in groups if group["weight_decay"] == 0 for parameter in group["params"])


def test_examples_of_another_length_are_refused(policy, data_folder):
    batch = load(policy.config, data_folder, 0)
    with pytest.raises(ValueError, match=r"actions of shape \(1, 5, 7\), but its 4 observation steps need \(1, 9, 7\)"):
        policy(dict(batch, action=batch["action"][:, :5]))
    batch.pop("action")
    with pytest.raises(ValueError, match="no 'action', but it is what is learned"):
        policy(batch)


def test_a_head_that_sees_all_frames_at_once_learns_and_acts(tmp_path, data_folder):
    config = RoboFlamingoConfig(preset="roboflamingo-test", override=["head.type=fc_hist"], device="cpu")
    policy = RoboFlamingoPolicy(config, dataset_meta=LeRobotDatasetMetadata("local/demos", root=data_folder))
    loss, _ = policy(load(config, data_folder, 0, 18))
    loss.backward()
    assert torch.isfinite(loss) and loss.requires_grad
    policy.save_pretrained(tmp_path / "saved")
    assert PreTrainedConfig.from_pretrained(tmp_path / "saved").agent["head"]["type"] == "fc_hist"


def test_the_state_comes_with_its_step(data_folder):
    config = RoboFlamingoConfig(preset="roboflamingo-test", override=["head.proprioception=true"], device="cpu")
    policy = RoboFlamingoPolicy(config, dataset_meta=LeRobotDatasetMetadata("local/demos", root=data_folder))
    assert list(policy.config.input_features)[-1] == "observation.state"
    starts, lengths = first_rows(data_folder)
    batch = load(config, data_folder, starts[0] + 2, starts[1] + lengths[1] - 1)
    chunks, images = sequences(batch, policy.agent.config)
    assert len(images) == int(chunks.valid.sum())
    steps = np.array([2, 4, 6, 8, lengths[1] - 1]) / 100  # the state of the small data set is its step over 100
    assert np.allclose(chunks.state[:, 0].numpy(), steps, atol=1e-6)
    assert torch.isfinite(policy(batch)[0])


def test_a_state_that_may_be_missing_is_left_out_in_training_alone(data_folder, monkeypatch):
    changes = ["head.proprioception=true", "head.state_dropout=0.5"]
    config = RoboFlamingoConfig(preset="roboflamingo-test", override=changes, device="cpu")
    policy = RoboFlamingoPolicy(config, dataset_meta=LeRobotDatasetMetadata("local/demos", root=data_folder))
    seen = []
    monkeypatch.setattr(
        modeling_roboflamingo,
        "chunk_loss",
        lambda agent, tokens, chunks: seen.append(chunks.state) or chunk_loss(agent, tokens, chunks),
    )
    batch = load(config, data_folder, *range(12))
    for learns in (True, False):
        policy.train(learns)
        assert torch.isfinite(policy(batch)[0])
    assert seen[0].isnan().any() and not seen[0].isnan().all() and not seen[1].isnan().any()
    del batch["observation.state"]
    chunks, _ = sequences(batch, policy.agent.config)
    assert chunks.state.shape[1] == policy.agent.config.state.dim and chunks.state.isnan().all()
    assert torch.isfinite(policy(batch)[0])


def test_a_window_longer_than_the_sequence_is_refused():
    with pytest.raises(UserError, match="policy.sequence_length is 3, shorter than the head's window: give 4 or more"):
        RoboFlamingoConfig(preset="roboflamingo-test", sequence_length=3)
