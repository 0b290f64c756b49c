"""RT-1: its bins, its image tokenizer, its transformer, and other robots than CALVIN's."""

import dataclasses

import numpy as np
import pytest
import torch
from policy_cases import make_observation
from torch.nn import functional as F

from rf_agent.baselines.rt1 import FiLM, MBConv, RT1Policy, TokenLearner
from rf_agent.config import ActionConfig, ConfigError, HeadConfig, LossConfig, StateConfig
from rf_agent.demos import Demonstration, write_demonstrations
from rf_agent.nn.heads.rt1 import RT1Head, frame_mask, from_bins, to_bins
from rf_agent.presets import preset
from rf_agent.tokenizer import build_tokenizer
from rf_agent.training.trainer import TrainConfig, train

WORDS = ["push the red block left", "open the drawer"]
TOKENS, WIDTH, WINDOW = 3, 5, 4


def make_head(dim=4, gripper=1, seed=0, **changes):
    """A head for actions of four entries, the gripper not the last of them."""
    values = {"hidden": 16, "layers": 2, "heads": 2, "window": WINDOW, "chunk_size": 2, "dropout": 0.0, "bins": 256}
    torch.manual_seed(seed)
    config = HeadConfig(type="rt1", **values | changes)
    return RT1Head(TOKENS * WIDTH, config, ActionConfig(dim=dim, gripper=gripper), StateConfig(), TOKENS)


def make_features(batch=2, steps=WINDOW):
    return torch.randn(batch, steps, TOKENS * WIDTH, generator=torch.Generator().manual_seed(1))


def make_actions(batch=2, steps=WINDOW, dim=4, gripper=1):
    actions = torch.rand(batch, steps, 2, dim, generator=torch.Generator().manual_seed(2)) * 2 - 1
    if gripper is not None:
        actions[..., gripper] = actions[..., gripper].sign()
    return actions


def small(*changes, **parts):
    config = preset("rt1-tiny").beginning_from(preset("roboflamingo-test")).changed(changes)
    return RT1Policy.from_config(dataclasses.replace(config, **parts), WORDS, seed=0).eval()


# --- discretised actions ---


def test_bins_divide_the_range_evenly():
    assert to_bins(torch.tensor([-1.0, -0.501, -0.499, 0.0, 0.499, 0.501, 1.0]), 4).tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert to_bins(torch.tensor([-7.0, 7.0]), 256).tolist() == [0, 255]
    assert from_bins(torch.arange(4), 4).tolist() == [-0.75, -0.25, 0.25, 0.75]


@pytest.mark.parametrize("bins", [2, 7, 256])
def test_an_action_comes_back_within_half_a_bin(bins):
    actions = torch.linspace(-1, 1, 1001)
    assert (from_bins(to_bins(actions, bins), bins) - actions).abs().max() <= 1 / bins + 1e-6
    assert torch.equal(to_bins(from_bins(torch.arange(bins), bins), bins), torch.arange(bins))


def test_a_gripper_is_in_one_of_the_outer_bins():
    """At zero it closes, as in the environments; the other entries keep their value."""
    actions = torch.tensor([[0.3, 0.0], [0.3, 0.01], [0.3, -0.4]])
    assert to_bins(actions, 10, gripper=1).tolist() == [[6, 0], [6, 9], [6, 0]]


@pytest.mark.parametrize("bins", [4, 5])
def test_acting_takes_the_most_likely_bins_in_the_order_of_the_action(bins):
    head = make_head(bins=bins)
    logits = torch.zeros(2, 4, bins)  # (K, D, bins)
    chosen = torch.tensor([[0, 0, 1, 3], [2, 3, 0, 1]])
    logits.scatter_(-1, chosen[..., None], 9.0)
    with torch.no_grad():
        head.actions.weight.zero_()
        head.actions.bias.copy_(logits.flatten())
    pose, gripper = head.window(make_features())
    expected = from_bins(chosen[:, [0, 2, 3]], bins)
    assert torch.equal(pose, expected.expand(2, WINDOW, 2, 3))
    assert (gripper[..., 0] < 0).all() and (gripper[..., 1] > 0).all()


def test_the_gripper_goes_where_more_probability_is():
    """The single most likely bin closes it, all the others together open it."""
    head = make_head(bins=4)
    logits = torch.zeros(1, 4, 4)
    logits[0, 1] = torch.tensor([0.4, 0.0, 0.3, 0.3]).log()
    _, gripper = head._decode(logits[None])
    torch.testing.assert_close(gripper, torch.tensor([[0.6 / 0.4]]).log())


def test_the_loss_is_the_cross_entropy_of_all_entries():
    head, features, actions = make_head(), make_features(), make_actions()
    mask = torch.ones(2, WINDOW, dtype=torch.bool)
    mask[1, 2:] = False
    loss, metrics = head.loss(features, actions, mask, LossConfig(), ActionConfig(dim=4, gripper=1))
    with torch.no_grad():
        logits = head.action_logits(head.recall(features))[mask]  # (steps, K, D, bins)
        target, kept = to_bins(actions, 256, gripper=1)[mask], actions[mask]
        pose, gripper = head.window(features)
    each = -logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    torch.testing.assert_close(loss.detach(), each.mean())
    torch.testing.assert_close(metrics["pose_loss"], each[..., [0, 2, 3]].mean())
    torch.testing.assert_close(metrics["gripper_loss"], each[..., 1].mean())
    torch.testing.assert_close(metrics["pose_error"], (pose[mask] - kept[..., [0, 2, 3]]).abs().mean())
    torch.testing.assert_close(metrics["gripper_accuracy"], ((gripper[mask] > 0) == (kept[..., 1] > 0)).float().mean())
    by_action = mask[:, :, None].expand(2, WINDOW, 2)
    again, _ = head.loss(features, actions, by_action, LossConfig(gripper_weight=9.0), ActionConfig(dim=4, gripper=1))
    torch.testing.assert_close(again, loss)


@pytest.mark.parametrize(("dim", "gripper"), [(4, 1), (3, None), (2, 0)])
def test_it_fits_actions_of_any_robot_up_to_rounding(dim, gripper):
    head, features, actions = make_head(dim, gripper), make_features(), make_actions(dim=dim, gripper=gripper)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(120):
        loss, metrics = head.loss(
            features, actions, torch.ones(2, WINDOW), LossConfig(), ActionConfig(dim=dim, gripper=gripper)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["pose_error"] <= 1 / 256
    assert ("gripper_accuracy" in metrics) == (gripper is not None)
    assert metrics.get("gripper_accuracy", 1.0) == 1.0


# --- the transformer ---


def test_attention_is_causal_over_frames_and_nobody_else_sees_a_readout():
    assert frame_mask(2, 3).int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],  # the readout of the first frame
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 1, 1, 1],
    ]


def test_readouts_depend_on_their_own_frame_and_the_past_alone():
    head, features = make_head().eval(), make_features(1)
    for changed in range(WINDOW):
        other = features.clone()
        other[:, changed, -1] += 1.0  # in the last token of a frame
        differs = (head.recall(other) != head.recall(features)).any(-1)[0]
        assert differs.tolist() == [step >= changed for step in range(WINDOW)]


def test_the_order_of_frames_and_the_place_of_tokens_matter():
    head, features = make_head().eval(), make_features(1)
    swapped = features.unflatten(-1, (TOKENS, WIDTH)).flip(2).flatten(2)
    now = head.recall(features)[:, -1]
    assert not torch.allclose(head.recall(swapped)[:, -1], now)
    assert not torch.allclose(head.recall(features[:, [1, 0, 2, 3]])[:, -1], now)


# --- the image tokenizer ---


def test_film_begins_as_the_identity_and_then_scales_and_shifts_channels():
    film, x, sentence = FiLM(4, 2), torch.randn(3, 2, 5, 5), torch.randn(3, 4)
    assert torch.equal(film(x, sentence), x)
    with torch.no_grad():
        film.project.bias.copy_(torch.tensor([1.0, -1.0, 0.0, 3.0]))
    torch.testing.assert_close(film(x, sentence), torch.stack((2 * x[:, 0], torch.full((3, 5, 5), 3.0)), dim=1))


def test_the_instruction_reaches_an_image_through_film_alone():
    policy, sentences = small(), []
    tokens = torch.randn(2, 2, policy.vision_tower.tokens, policy.vision_tower.dim)
    with torch.no_grad():
        for text in WORDS:
            sentences.append(policy.sentence_encoder(*policy.tokenize([text, text])))
        before = [policy.encoder(tokens, sentence) for sentence in sentences]
        torch.nn.init.normal_(policy.encoder.films[-1].project.weight)
        after = [policy.encoder(tokens, sentence) for sentence in sentences]
    assert torch.equal(*before) and not torch.allclose(*after)


def test_token_learner_gives_weighted_means():
    learner = TokenLearner(6, 3, 4)
    x = torch.randn(2, 9, 6)
    tokens = learner(x)
    assert tokens.shape == (2, 3, 6)
    assert (tokens <= x.amax(1, keepdim=True)).all() and (tokens >= x.amin(1, keepdim=True)).all()
    torch.testing.assert_close(learner(x[:, torch.randperm(9)]), tokens)  # a place counts by what is there
    assert torch.cdist(tokens[0], tokens[0]).add(torch.eye(3)).min() > 1e-3  # each looks elsewhere


def test_tokens_begin_as_single_places():
    """With maps as flat as usual (a place of 49 has 3 % of the weight) every token is the mean of its view at first."""
    torch.manual_seed(0)
    learner, x = TokenLearner(128, 8, 64), torch.eye(49, 128)[None] * 8
    weights = learner(x)[0, :, :49] / 8  # (8, 49), of each place in each token
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(8))
    assert weights.amax(dim=1).mean() > 0.25


def test_a_block_begins_as_the_identity_and_sees_its_neighbourhood_and_no_other_image():
    block, x = MBConv(4, 2), torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.project[1].weight)
    assert block(x).shape == x.shape and not torch.allclose(block(x), x)
    torch.testing.assert_close(block(x)[:1], block(x[:1]))
    depthwise = block.depthwise[0]
    impulse = F.pad(torch.ones(1, 8, 1, 1), (2, 2, 2, 2))
    assert (depthwise(impulse)[0, 0] != 0).sum() == 9


def test_views_are_tokenised_by_the_same_weights_one_by_one():
    policy = small()
    sentence = policy.sentence_encoder(*policy.tokenize(WORDS[:1]))
    tokens = torch.randn(1, 2, policy.vision_tower.tokens, policy.vision_tower.dim)
    with torch.no_grad():
        first, second = policy.encoder(tokens, sentence).chunk(2, dim=1)
        swapped = policy.encoder(tokens.flip(1), sentence)
    assert policy.encoder.count == 16
    torch.testing.assert_close(swapped, torch.cat((second, first), dim=1))


# --- the agent ---


def test_other_robots_act_in_their_own_units():
    action = ActionConfig(dim=3, normalization="min_max", low=(0.0, -5.0, 10.0), high=(1.0, 5.0, 30.0))
    policy = small(action=action, views=("rgb_static",))
    chunk = policy.predict_action_chunk(make_observation(0, n=2))
    assert chunk.shape == (2, 3, 3)
    assert (chunk >= np.array(action.low)).all() and (chunk <= np.array(action.high)).all()
    shares = (chunk - np.array(action.low)) / (np.array(action.high) - np.array(action.low))
    np.testing.assert_allclose(shares * 256 % 1, 0.5, atol=1e-2)  # the centres of 256 bins
    policy.reset()
    assert policy.act(make_observation(0)).shape == (3,)


def make_reach(index):
    """A robot without gripper whose first joint goes where the instruction says, to 10 or to 30."""
    rng, right = np.random.default_rng(index), index % 2
    images = rng.integers(0, 60, (9, 24, 24, 3), dtype=np.uint8)
    images[..., right] += 150
    actions = rng.uniform(-0.02, 0.02, (9, 2)).astype(np.float32)
    actions[:, 0] = 30.0 if right else 10.0
    text = f"go {'right' if right else 'left'}"
    return Demonstration({"front": images}, actions, text, text)


def test_it_learns_the_actions_of_a_robot_without_gripper(tmp_path):
    demos = [make_reach(index) for index in range(6)]
    path = write_demonstrations(tmp_path / "demos.hdf5", demos, fps=20, gripper=None)
    smaller = ("image.size=32", "encoder.width=32", "encoder.blocks=1", "head.hidden=32", "head.layers=2")
    settings = {"steps": 60, "batch_size": 4, "sequence_length": 6, "learning_rate": 3e-3, "ema_decay": 0.5}
    report = train(
        TrainConfig(
            demos=(path,),
            output=tmp_path / "run",
            preset="rt1-tiny",
            override=smaller,
            device="cpu",
            threads=1,
            validation_fraction=0.3,
            **settings,
        )
    )
    assert "gripper_accuracy" not in report.scalars
    policy = RT1Policy.from_pretrained(report.output, "cpu")
    assert policy.config.action.gripper is None and policy.encoder.count == 8
    for demo in demos[:2]:
        policy.reset()
        action = policy.act({"front": demo.images["front"][0], "instruction": demo.instruction})
        assert action.shape == (2,) and abs(action[0] - demo.actions[0, 0]) < 0.1 and abs(action[1]) <= 0.02


def test_the_robots_state_is_added_to_every_token():
    policy = small("head.proprioception=true")
    observation = make_observation(0)
    with torch.no_grad():
        added = policy.head.proprioception(torch.from_numpy(observation["robot_obs"])[None])
    assert added.shape == (1, policy.encoder.dim)
    assert torch.equal(added.unflatten(1, (16, -1)), added[:, None, :128].expand(1, 16, 128))
    chunk = policy.predict_action_chunk(observation)
    policy.reset()
    observation["robot_obs"] = -observation["robot_obs"]
    assert not np.array_equal(policy.predict_action_chunk(observation), chunk)


def test_another_head_regresses_from_the_same_tokens():
    policy = small("head.type=lstm", "head.layers=1", "head.mlp=[16]")
    assert policy.head.feature_dim == policy.encoder.dim == 16 * 128
    assert np.isfinite(policy.act(make_observation(0))).all()


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes():
    """The paper: a transformer of 19 M, TokenLearner of 34 k, six frames, 256 bins; tiny: that of roboflamingo-tiny."""
    tokenizer = build_tokenizer(WORDS, 300)
    with torch.device("meta"):
        paper, tiny = (RT1Policy(preset(name), tokenizer) for name in ("rt1", "rt1-tiny"))
    assert round(count(paper.head.decoder.blocks) / 1e6) == 19
    assert round(count(paper.encoder.learner) / 1e3) == 34
    assert round(count(paper.vision_tower.model) / 1e6, 1) == 10.7 and paper.vision_tower.tokens == 100
    assert paper.sentence_encoder.dim == 512
    assert (paper.head.window_size, paper.head.bins, paper.head.chunk_size) == (6, 256, 1)
    tiny.set_trainable()
    learns = sum(parameter.numel() for parameter in tiny.parameters() if parameter.requires_grad)
    assert learns == pytest.approx(2_241_819, rel=0.1) and count(tiny) == pytest.approx(3_500_395, rel=0.1)


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"head.heads is 5, which does not divide twice head.hidden \(32\)"):
        make_head(heads=5)
    with pytest.raises(ConfigError, match="head.bins is 1"):
        preset("rt1-tiny").changed(["head.bins=1"])
    with pytest.raises(ConfigError, match="encoder.tokens is 0, but it must be at least 1"):
        preset("rt1-tiny").changed(["encoder.tokens=0"])
