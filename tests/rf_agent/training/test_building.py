"""A policy before its first step: what it takes from the one that it starts from, and what learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from policy_cases import make_observation

from rf_agent.checkpoint import CheckpointError
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.building import build_policy

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


def test_what_does_not_go_together_is_refused(start):
    with pytest.raises(UserError, match="--trainable head keeps parts .* without --init these are random"):
        build_policy(start.config, corpus=WORDS, trainable="head")
    with pytest.raises(ValueError, match="there is no trainable set 'most'"):
        build_policy(start.config, start, trainable="most")
    with pytest.raises(CheckpointError, match="runs/x does not fit its configuration; tensors of another shape: perc"):
        build_policy(start.config.changed(["resampler.latents=5"]), start, source="runs/x")
