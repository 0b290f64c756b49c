import pytest
import torch
from transformers import MptConfig, MptForCausalLM

from rf_agent.config import ConfigError
from rf_agent.nn.mosaic_gpt import MosaicGPT, alibi_causal_bias

SHAPE = {"d_model": 16, "n_heads": 2, "n_layers": 2, "vocab_size": 50, "max_seq_len": 32}
TOKENS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
TRANSFORMERS_NAMES = {".ln_": ".norm_", ".mlp.mlp_": ".ffn.", "up.weight": "up_proj.weight", "down.": "down_proj."}


def renamed(name):
    for ours, theirs in TRANSFORMERS_NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("transformer.norm_f", "transformer.norm_f")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MosaicGPT(**SHAPE).eval()


def test_without_query_key_norm_it_is_the_mpt_of_transformers():
    """That one has all but the norm; padded rows too."""
    torch.manual_seed(0)
    ours = MosaicGPT(**SHAPE, attn_qk_ln=False).eval()
    for p in ours.parameters():
        torch.nn.init.normal_(p, 0.2, 0.5)
    theirs = MptForCausalLM(MptConfig(**{k: v for k, v in SHAPE.items()})).eval()
    theirs.load_state_dict({renamed(name): tensor for name, tensor in ours.state_dict().items()})
    with torch.no_grad():
        wanted = theirs(TOKENS, attention_mask=MASK).logits
        torch.testing.assert_close(ours(TOKENS, MASK), wanted, atol=1e-4, rtol=1e-4)


def test_queries_and_keys_are_normalised_over_the_full_width(model):
    """Larger ones change nothing, but only if they are larger in all heads alike."""
    before = model(TOKENS)
    weight = model.transformer.blocks[0].attn.Wqkv.weight
    with torch.no_grad():
        weight[:32] *= 3.0
        torch.testing.assert_close(model(TOKENS), before, atol=1e-3, rtol=1e-3)
        weight[:8] *= 3.0
        assert not torch.allclose(model(TOKENS), before, atol=1e-3)


def test_alibi_looks_back_and_less_the_farther():
    bias = alibi_causal_bias(4, heads=2, bias_max=8, like=torch.zeros(1))
    assert bias.shape == (2, 4, 4)
    assert bias[0, 3].tolist() == [-3 / 16, -2 / 16, -1 / 16, 0.0]
    assert bias[1, 2].tolist()[:3] == [-2 / 256, -1 / 256, 0.0] and bias[1, 2, 3] == float("-inf")


def test_tensors_are_named_as_published(model):
    block = {"ln_1", "attn.Wqkv", "attn.q_ln", "attn.k_ln", "attn.out_proj", "ln_2", "mlp.mlp_up", "mlp.mlp_down"}
    expected = {f"transformer.blocks.{i}.{name}.weight" for i in range(2) for name in block}
    names = {name for name, _ in model.named_parameters()}
    assert names == expected | {"transformer.wte.weight", "transformer.ln_f.weight"}


def test_size_of_mpt_1b():
    with torch.device("meta"):
        model = MosaicGPT(d_model=2048, n_heads=16, n_layers=24, vocab_size=50368)
    assert sum(p.numel() for p in model.parameters()) == 1_208_158_208 + 50368 * 2048


def test_wrong_shapes_are_refused(model):
    with pytest.raises(ConfigError, match="d_modle"):
        MosaicGPT(d_modle=16, n_heads=2, n_layers=2, vocab_size=50)
    with pytest.raises(ConfigError, match="3 heads must divide"):
        MosaicGPT(**{**SHAPE, "n_heads": 3})
    with pytest.raises(ValueError, match="33 tokens.*at most 32"):
        model(torch.zeros(1, 33, dtype=torch.long))
