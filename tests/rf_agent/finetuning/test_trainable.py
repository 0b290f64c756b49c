"""Which parameters learn, and that only those do."""

import json
import sys

import numpy as np
import pytest
import torch
from policy_cases import CORPUS, make_observation, make_policy

from rf_agent.errors import UserError
from rf_agent.finetuning.lora import has_adapters
from rf_agent.policy import RoboFlamingoPolicy

EMBEDDINGS = "vlm.lang_encoder.model.embed_tokens.weight"


@pytest.fixture
def policy():
    return make_policy()


def learning(policy):
    return {name for name, p in policy.named_parameters() if p.requires_grad}


def parts(policy):
    """First two words of the names of what learns."""
    return {".".join(name.split(".")[:2]) if name.startswith("vlm") else "head" for name in learning(policy)}


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("default", {"vlm.perceiver", "vlm.gated_cross_attn_layers", "vlm.lang_encoder", "head"}),
        ("freeze-emb", {"vlm.perceiver", "vlm.gated_cross_attn_layers", "head"}),
        ("head", {"head"}),
        ("last-1", {"vlm.gated_cross_attn_layers", "vlm.lang_encoder", "head"}),
    ],
)
def test_sets(policy, which, expected):
    groups = policy.set_trainable(which)
    assert parts(policy) == expected
    assert {name for name in learning(policy) if name.startswith("vlm.lang_encoder")} <= {EMBEDDINGS}
    assert ("embeddings" in groups) == ("vlm.lang_encoder" in expected)
    assert not any(name.startswith("vlm.vision_encoder") for name in learning(policy))


def test_last_n_are_those_that_the_head_sees():
    policy = make_policy(0, "language.lm_feature=last_block_input")
    policy.set_trainable("last-1")
    assert {name.split(".")[2] for name in learning(policy) if "cross_attn" in name} == {"0"}
    with pytest.raises(ValueError, match="last-2 was chosen, but the model has 1 cross-attention layers that its head"):
        policy.set_trainable("last-2")


def test_last_n_counts_from_the_top(policy):
    policy.set_trainable("last-1")
    layers = {name.split(".")[2] for name in learning(policy) if "cross_attn" in name}
    assert layers == {"1"}
    policy.set_trainable("last-2")
    assert any(".0." in name for name in learning(policy) if "cross_attn" in name)
    with pytest.raises(ValueError, match="last-3 was chosen, but the model has 2"):
        policy.set_trainable("last-3")
    with pytest.raises(ValueError, match="no trainable set 'best'.*freeze-emb.*last-N"):
        policy.set_trainable("best")


def test_frozen_parts_can_be_added(policy):
    policy.set_trainable("head", train_vision=True)
    assert parts(policy) == {"head", "vlm.vision_encoder"}
    policy.set_trainable("full")
    assert all(p.requires_grad for p in policy.parameters())


def test_further_resamplers_learn_with_the_first():
    policy = make_policy(0, "fusion=separate")
    policy.set_trainable()
    assert {"vlm.perceiver", "vlm.other_perceivers"} <= parts(policy)
    policy.set_trainable("head")
    assert parts(policy) == {"head"}


def test_summary_counts_tied_embeddings_once(policy):
    policy.set_trainable("freeze-emb")
    rows = {
        line.split()[0]: [int(n.replace(",", "")) for n in line.split()[1:]]
        for line in policy.trainable_summary().splitlines()[1:]
    }
    assert rows["embeddings"] == [320 * 16, 0]
    assert rows["total"][0] == sum(p.numel() for p in policy.parameters())
    assert rows["total"][1] == sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert "adapters" not in rows


def train_a_little(policy, steps=3):
    torch.manual_seed(0)
    tokens, mask = policy.tokenize(CORPUS[:2])
    batch = {
        "pixels": torch.randn(2, 4, 2, 3, 32, 32),
        "tokens": tokens,
        "token_mask": mask,
        "actions": torch.rand(2, 4, 3, 7) * 2 - 1,
        "mask": torch.ones(2, 4, dtype=torch.bool),
    }
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=0.01)
    for _ in range(steps):
        loss, _ = policy.train()(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.eval()


@pytest.mark.parametrize("which", ["freeze-emb", "head", "last-1"])
def test_only_what_learns_moves(policy, which):
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    policy.set_trainable(which)
    train_a_little(policy)
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved == learning(policy)


@pytest.fixture(params=["llama", "gpt2"])
def adapted(request):
    pytest.importorskip("peft")
    language = {"model_type": "gpt2", "vocab_size": 320, "n_embd": 16, "n_layer": 2, "n_head": 2, "eos_token_id": 0}
    changes = (f"language.model={json.dumps(language)}",) if request.param == "gpt2" else ()
    policy = make_policy(0, *changes)
    before = policy.predict_action_chunk(make_observation(0))
    policy.set_trainable("lora", lora_rank=2)
    policy.reset()
    np.testing.assert_array_equal(policy.predict_action_chunk(make_observation(0)), before)  # adapters begin as zero
    return policy


def test_adapters_learn_and_their_layers_do_not(adapted):
    base = {name: p.detach().clone() for name, p in adapted.named_parameters() if ".base_layer." in name}
    train_a_little(adapted)
    assert base and all(torch.equal(p, base[name]) for name, p in adapted.named_parameters() if name in base)
    assert any(p.abs().max() > 0 for name, p in adapted.named_parameters() if "lora_B" in name)
    assert "adapters" in adapted.trainable_summary()


def test_saved_adapters_are_folded_in(adapted, tmp_path):
    train_a_little(adapted)
    loaded = RoboFlamingoPolicy.from_pretrained(adapted.save_pretrained(tmp_path / "policy"), "cpu")
    assert not has_adapters(loaded) and has_adapters(adapted)
    adapted.reset()
    for t in range(3):
        np.testing.assert_allclose(adapted.act(make_observation(t)), loaded.act(make_observation(t)), atol=1e-5)
    plain = make_policy()
    if adapted.config.language.model["model_type"] == "llama":
        assert loaded.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():  # what was learned is in there: without it, actions differ
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.zero_()
    adapted.reset(), loaded.reset()
    assert not np.allclose(
        adapted.predict_action_chunk(make_observation(0)), loaded.predict_action_chunk(make_observation(0)), atol=1e-5
    )


def test_missing_peft_is_explained(policy, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match="LoRA.*pip install peft"):
        policy.set_trainable("lora")


@pytest.mark.parametrize(
    ("which", "expected"), [("default", 1_088_187_703), ("freeze-emb", 985_214_263), ("head", 41_194_759)]
)
def test_the_papers_model_learns_as_many_parameters_as_the_reference(paper, which, expected):
    paper.set_trainable(which)
    total = paper.trainable_summary().splitlines()[-1].split()
    assert int(total[-1].replace(",", "")) == expected


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):  # shapes without numbers
        return RoboFlamingoPolicy.from_preset("M-3B-IFT", CORPUS)
