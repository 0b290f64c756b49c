"""A policy before its first step: what it takes from the one that it starts from, and what learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from demo_files import make_store
from policy_cases import make_observation

from rf_agent.checkpoint import CheckpointError
from rf_agent.config import VisionConfig
from rf_agent.demos.windows import DemoSet
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.presets import preset
from rf_agent.training.building import build_policy, fit_running_statistics
from rf_agent.training.robot import open_all

WORDS = ["open the drawer", "close the drawer"]


@pytest.fixture(scope="module")
def start():
    return RoboFlamingoPolicy.from_preset("roboflamingo-test", WORDS, seed=1).eval()


def learning(policy):
    names = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    return {name.removeprefix("vlm.").split(".")[0] for name in names}


def first_action(policy):
    policy.reset()
    return policy.act(make_observation(0))


def test_it_begins_as_the_policy_that_it_starts_from(start):
    policy = build_policy(start.config, start).eval()
    assert np.array_equal(first_action(policy), first_action(start))
    assert policy.tokenizer is start.tokenizer
    assert learning(policy) == {"perceiver", "gated_cross_attn_layers", "lang_encoder", "head"}
    assert not any("layers" in name for name, p in policy.vlm.lang_encoder.named_parameters() if p.requires_grad)


def test_every_view_begins_with_the_shared_resampler(start):
    policy = build_policy(start.config.changed(["fusion=separate"]), start)
    assert torch.equal(policy.vlm.other_perceivers[0].latents, start.vlm.perceiver.latents)


def test_a_head_that_lacks_the_state_alone_is_taken(start):
    policy = build_policy(start.config.changed(["head.proprioception=true"]), start).eval()
    np.testing.assert_allclose(first_action(policy), first_action(start), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "options"),
    [((), {"init_head": False}), (("head.hidden=24",), {})],
    ids=["init_head", "another shape"],
)
def test_a_head_is_drawn_anew(start, changes, options):
    drawn = [build_policy(start.config.changed(changes), start, seed=seed, **options) for seed in (3, 3, 4)]
    one, same, other = (policy.head.actions.mlp[0].weight for policy in drawn)
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.sum() != start.head.actions.mlp[0].weight.sum()  # shapes may differ
    assert torch.equal(drawn[0].vlm.perceiver.latents, start.vlm.perceiver.latents)


def test_without_a_start_all_of_it_learns_and_the_tokenizer_knows_the_words(start):
    state = torch.random.get_rng_state()
    policy = build_policy(start.config, corpus=WORDS, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.requires_grad for parameter in policy.parameters())
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), start.parameters(), strict=True))
    assert len(policy.tokenizer(WORDS[0])["input_ids"]) == len(start.tokenizer(WORDS[0])["input_ids"])


TOWERS = {
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 1.0, "hidden_dim": 320},
    "resnet": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
}


@pytest.mark.parametrize("kind", TOWERS)
def test_a_tower_that_nobody_has_trained_tells_images_apart(tmp_path, kind):
    config = preset("roboflamingo-test")
    config = replace(config, vision=VisionConfig(model={"model_type": kind, **TOWERS[kind]}, norm=False))
    frames = DemoSet(open_all([make_store(tmp_path / "demos.hdf5")]), config).frames
    policy = build_policy(config, corpus=WORDS, seed=0)
    chosen = np.arange(10, len(frames))
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(frames, "get", lambda rows, get=frames.get: seen.append(rows) or get(rows))
        fit_running_statistics(policy, frames, chosen)
    assert policy.training and set(np.concatenate(seen)) <= set(chosen)
    policy.eval()
    pixels = normalise(torch.from_numpy(frames.get(np.array([0, len(frames) - 1]))), config.image)
    norms = [module for module in policy.vision_encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(norm.momentum > 0 and (norm.weight == 1).all() for norm in norms)
    with torch.no_grad():
        first, last = policy.vision_encoder.model(pixels.flatten(0, 1)).last_hidden_state[::2]
    assert (first - last).norm() > 0.05 * first.norm() > 0.01 * first.numel() ** 0.5


def test_statistics_of_a_tower_without_batch_norms_are_left_alone(start, tmp_path):
    frames = DemoSet(open_all([make_store(tmp_path / "demos.hdf5")]), start.config).frames
    policy = build_policy(start.config, corpus=WORDS, seed=0).eval()
    fit_running_statistics(policy, frames, np.arange(len(frames)))
    assert not policy.training


def test_what_is_drawn_anew_does_not_learn_as_slowly_as_what_is_kept(start):
    names = {id(parameter): name for name, parameter in start.named_parameters()}
    every, kept = ({names[id(p)] for p in start.pretrained_parameters(known)} for known in (True, False))
    drawn = every - kept
    assert kept and any("lang_encoder" in name for name in kept) and any("vision_encoder" in name for name in kept)
    assert any("perceiver" in name for name in drawn) and any("gated_cross_attn" in name for name in drawn)
    assert not any("lang_encoder" in name or "vision_encoder" in name or "head" in name for name in drawn)


def test_what_does_not_go_together_is_refused(start):
    with pytest.raises(UserError, match="--trainable head keeps parts .* without --init these are random"):
        build_policy(start.config, corpus=WORDS, trainable="head")
    with pytest.raises(ValueError, match="there is no trainable set 'most'"):
        build_policy(start.config, start, trainable="most")
    with pytest.raises(CheckpointError, match="runs/x does not fit its configuration; tensors of another shape: perc"):
        build_policy(start.config.changed(["resampler.latents=5"]), start, source="runs/x")
