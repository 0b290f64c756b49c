"""Every kind of folder in the reference's layout, converted: it acts as the policy from which the folder was made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from case import build, convert
from make_case import HEADS, LANGUAGES, make_case

from rf_agent.policy import RoboFlamingoPolicy

TEXTS = ["push the block", "open the drawer wide"]
CASES = [(language, "lstm", "post") for language in LANGUAGES]
CASES += [("neox", head, "post") for head in HEADS if head != "lstm"]
CASES += [
    ("neox", "lstm", "pre"),
    ("neox", "lstm", "separate"),
    ("neox", "lstm", "two_way"),
    ("neox", "gpt", "two_way"),
]


def window(policy):
    """Actions of a padded batch of two windows."""
    generator = torch.Generator().manual_seed(7)
    pixels = torch.randn(2, 4, 2, 3, 28, 28, generator=generator)
    with torch.no_grad():
        return policy.window(pixels, *policy.tokenize(TEXTS), torch.randn(2, 4, 15, generator=generator))


@pytest.mark.parametrize(("language", "head", "fusion"), CASES)
def test_converted_policy_is_the_one_that_was_written(language, head, fusion, tmp_path):
    original = make_case(tmp_path / "case", language, head, fusion)
    policy, report = convert(tmp_path / "case")
    assert policy.config.to_dict() | {"language": None} == original.config.to_dict() | {"language": None}
    for ours, wanted in zip(window(policy), window(original), strict=True):
        assert torch.equal(ours, wanted)
    assert not report.missing
    assert len(report.used) == sum(1 for _ in policy.state_dict(keep_vars=True)) - policy_aliases(policy)


def policy_aliases(policy):
    tensors = [id(tensor) for tensor in policy.state_dict(keep_vars=True).values()]
    return len(tensors) - len(set(tensors))


def test_converted_directory_acts_as_the_policy(tmp_path):
    make_case(tmp_path / "case", "mosaic")
    policy = build(tmp_path / "case")
    loaded = RoboFlamingoPolicy.from_pretrained(policy.save_pretrained(tmp_path / "policy"), device="cpu")
    rng = np.random.default_rng(0)
    for _ in range(6):
        images = {view: rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for view in policy.config.views}
        observation = {**images, "instruction": TEXTS[0]}
        assert np.array_equal(policy.act(observation), loaded.act(observation))


def test_first_version_of_openflamingo(tmp_path):
    """Its cross-attention has another name, and so has the one of a file without data-parallel training."""
    original = make_case(tmp_path / "case", "llama")
    path = tmp_path / "case" / "roboflamingo.pt"
    tensors = {name.removeprefix("module."): t for name, t in torch.load(path)["model_state_dict"].items()}
    torch.save({name: t for name, t in tensors.items() if "gated_cross_attn_layer." not in name}, path)
    for ours, wanted in zip(window(build(tmp_path / "case")), window(original), strict=True):
        assert torch.equal(ours, wanted)
