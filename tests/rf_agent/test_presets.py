"""The paper's policies at full size, without memory for their tensors."""

import pytest
import torch
from policy_cases import CORPUS

from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.tokenizer import build_tokenizer


@pytest.mark.parametrize(
    ("name", "trainable", "cross_attention"),
    [
        ("M-3B", 1_088_187_703, 24 * 36_708_354),  # the number that the reference implementation prints
        ("M-3B-IFT", 1_088_187_703, 24 * 36_708_354),
        ("G-4B", 1_132_772_647, 16 * 56_109_058),
        ("G-4B-IFT", 1_132_772_647, 16 * 56_109_058),
        ("L-9B", 1_359_502_615, 8 * 139_476_994),
        ("M-9B", 1_434_365_207, 8 * 139_476_994),
    ],
)
def test_number_of_trainable_parameters(name, trainable, cross_attention):
    tokenizer = build_tokenizer(CORPUS, 300)
    with torch.device("meta"):
        policy = RoboFlamingoPolicy(preset(name), tokenizer)
    policy.set_trainable()
    assert sum(p.numel() for p in policy.parameters() if p.requires_grad) == trainable
    assert sum(p.numel() for p in policy.vlm.gated_cross_attn_layers.parameters()) == cross_attention
    assert sum(p.numel() for p in policy.vlm.perceiver.parameters()) == 63_019_008
    assert policy.vlm.vision_encoder.tokens == 256


def test_only_mpt_1b_is_read_before_its_last_block():
    features = {name: preset(name).language.lm_feature for name in ("M-3B", "M-3B-IFT", "G-4B", "L-9B", "M-9B")}
    assert [name for name, feature in features.items() if feature == "last_block_input"] == ["M-3B", "M-3B-IFT"]
