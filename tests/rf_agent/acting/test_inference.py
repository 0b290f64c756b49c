"""What is computed at an observation step, and how often."""

import pytest
import torch
from policy_cases import CORPUS, make_observation, make_policy

from rf_agent import base_policy as policy_module


@pytest.fixture
def policy():
    return make_policy()


def calls_of(*modules):
    """A list to which every call of `modules` adds the shape of its first input."""
    shapes = []
    for module in modules:
        module.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    return shapes


def test_all_views_of_all_environments_go_through_tower_and_resampler_at_once(policy):
    tower, resampler = calls_of(policy.vlm.vision_encoder.model), calls_of(policy.vlm.perceiver)
    policy.predict_action_chunk(make_observation(0, n=3))
    tokens, width = policy.vlm.vision_encoder.tokens, policy.vlm.vision_encoder.dim
    assert tower == [(6, 3, 32, 32)] and resampler == [(6, tokens, width)]


def test_acting_projects_on_no_vocabulary(policy):
    calls = calls_of(policy.vlm.lang_encoder.get_output_embeddings())
    policy.predict_action_chunk(make_observation(0))
    assert not calls
    tokens, mask = policy.tokenize([CORPUS[0]])
    policy.vlm.logits(torch.zeros(1, 8, policy.vlm.vision_encoder.dim), tokens, mask)
    assert len(calls) == 1  # the hook would have seen it


def test_dead_layers_are_not_run():
    policy = make_policy(0, "language.lm_feature=last_block_input")
    blocks = list(policy.vlm.gated_cross_attn_layers.values())
    layers = policy.vlm.lang_encoder.model.layers
    attended, decoded = calls_of(*blocks), calls_of(*(layer.mlp for layer in layers))
    policy.predict_action_chunk(make_observation(0))
    assert len(attended) == len(blocks) - 1 and len(decoded) == len(layers) - 1


def test_an_instruction_is_tokenized_once(policy, monkeypatch):
    encode, texts = policy_module.encode, []
    monkeypatch.setattr(policy_module, "encode", lambda *given: texts.extend(given[1]) or encode(*given))
    for step in range(4):
        policy.predict_action_chunk(make_observation(step, n=3, instruction=[CORPUS[0], CORPUS[1], CORPUS[0]]))
    assert len(texts) == 2 and CORPUS[0] in texts[0] and CORPUS[1] in texts[1]


def test_a_step_of_the_lstm_costs_the_same_at_every_step():
    """W states advance by one observation step each; the window is not run again."""
    policy = make_policy(0, "head.window=4")
    rows = []
    cell = policy.head._cell
    policy.head._cell = lambda layer, x, h, c: rows.append(len(h)) or cell(layer, x, h, c)
    for step in range(6):
        policy.predict_action_chunk(make_observation(step, n=2))
    assert rows == [2 * 4] * 6
