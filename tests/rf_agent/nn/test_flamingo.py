import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rf_agent.config import ConfigError
from rf_agent.nn.flamingo import Flamingo
from rf_agent.nn.language import decoder_layers
from rf_agent.presets import preset

IMAGE = 2
TOKENS = torch.tensor([[IMAGE, 10, 11, 1, 0], [IMAGE, 12, 1, 0, 3]])


@pytest.fixture
def config():
    return preset("roboflamingo-test")


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return Flamingo(config, IMAGE).eval()


def media(model, n=2):
    return torch.randn(n, 8, model.vision_encoder.dim)


def test_language_model_keeps_its_tensor_names(model, config):
    values = dict(config.language.model)
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    assert set(model.lang_encoder.state_dict()) == set(plain.state_dict())


def test_closed_gates_leave_the_language_model_as_it_was(config):
    config.language.initial_gate = 0.0
    model = Flamingo(config, IMAGE).eval()
    plain = model.lang_encoder(TOKENS, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(model.hidden(media(model), TOKENS), plain)


def test_plain_text_passes_are_unconditioned_again(model):
    before = model.lang_encoder(TOKENS).logits
    model.hidden(media(model), TOKENS)
    assert torch.equal(model.lang_encoder(TOKENS).logits, before)


def test_media_matter_and_only_from_the_image_on(model):
    tokens = torch.tensor([[10, 11, IMAGE, 12]])
    one, other = (model.hidden(media(model, 1), tokens) for _ in range(2))
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert (one[:, 2:] - other[:, 2:]).abs().max() > 1e-3


def test_padding_changes_no_real_token(model):
    m = media(model)
    longer = torch.nn.functional.pad(TOKENS, (0, 4), value=3)
    torch.testing.assert_close(model.hidden(m, longer)[:, :5], model.hidden(m, TOKENS), atol=1e-6, rtol=1e-5)


def test_several_texts_for_each_frame(model):
    m = media(model)
    tokens = TOKENS.repeat(2, 1)  # two texts for each of two frames
    both = model.hidden(m, tokens)
    torch.testing.assert_close(both[2:], model.hidden(m[1:], tokens[2:]), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="3 texts for 2 frames"):
        model.hidden(m, tokens[:3])


def test_media_are_the_latents_of_both_views(model, config):
    pixels = torch.randn(2, 2, 3, 32, 32)
    tokens = model.encode_vision(pixels)
    m = model.media(tokens)
    latents = config.resampler.latents
    assert m.shape == (2, 2 * latents, model.vision_encoder.dim)
    torch.testing.assert_close(m[:, latents:], model.perceiver(tokens[:, 1]), atol=1e-6, rtol=1e-5)


def test_logits(model, config):
    assert model.logits(media(model), TOKENS).shape == (2, 5, config.language.model["vocab_size"])


def test_cross_attention_stands_before_every_nth_layer(config):
    config.language.cross_attention_every = 2
    assert list(Flamingo(config, IMAGE).gated_cross_attn_layers) == ["1"]
    config.language.cross_attention_every = 3
    with pytest.raises(ConfigError, match="2 layers"):
        Flamingo(config, IMAGE)


def test_a_copy_uses_its_own_cross_attention(model):
    twin = copy.deepcopy(model)
    m = media(model)
    before = model.hidden(m, TOKENS)
    with torch.no_grad():
        for p in twin.gated_cross_attn_layers.parameters():
            p.zero_()
    assert torch.equal(model.hidden(m, TOKENS), before)
    assert not torch.allclose(twin.hidden(m, TOKENS), before)


@pytest.mark.parametrize("lm_feature", ["final_norm", "last_block_input"])
@pytest.mark.parametrize(
    "language",
    [
        {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
        {"model_type": "gpt_neox", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
        {"model_type": "mpt", "d_model": 16, "n_heads": 2, "n_layers": 2},
        {"model_type": "mosaic_gpt", "d_model": 16, "n_heads": 2, "n_layers": 2},
        {
            "model_type": "opt",
            "hidden_size": 16,
            "ffn_dim": 32,
            "num_hidden_layers": 2,
            "word_embed_proj_dim": 16,
        },
    ],
)
def test_language_models(config, language, lm_feature):
    if "d_model" not in language:
        language = {**language, "num_attention_heads": 2, "pad_token_id": None}
    config.language.model = {**language, "vocab_size": 64}
    config.language.lm_feature = lm_feature
    model = Flamingo(config, IMAGE).eval()
    m = media(model)
    out = model.hidden(m, TOKENS)
    assert out.shape == (2, 5, 16)
    torch.testing.assert_close(model.hidden(m[:1], TOKENS[:1]), out[:1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.hidden(m + 1, TOKENS), out)
    mask = TOKENS != 3
    torch.testing.assert_close(model.hidden(m, TOKENS, mask)[mask], out[mask], atol=1e-5, rtol=1e-5)
    out.square().sum().backward()
    learning = ["gated_cross_attn_layers.0."] + ["gated_cross_attn_layers.1."] * (lm_feature == "final_norm")
    for name, p in model.named_parameters():
        if name.startswith("gated_cross_attn_layers."):
            assert (p.grad is not None) == name.startswith(tuple(learning)), name
    embedding = model.lang_encoder.get_input_embeddings().weight.grad
    assert all(embedding[token].any() for token in (IMAGE, 10, 12))


@pytest.mark.parametrize("kind", ["llama", "mosaic_gpt"])
def test_the_last_block_takes_no_part_in_its_input(config, kind):
    """The feature of MPT-1B: what follows neither matters nor is computed, but is there for the next token."""
    if kind == "mosaic_gpt":
        config.language.model = {"model_type": kind, "d_model": 16, "n_heads": 2, "n_layers": 2, "vocab_size": 64}
    model = Flamingo(config, IMAGE).eval()
    last, computed = decoder_layers(model.lang_encoder)[-1], []
    block_input = []
    last.register_forward_hook(lambda *_: computed.append(1))
    m = media(model)
    model.gated_cross_attn_layers["1"].register_forward_pre_hook(lambda _, args: block_input.append(args[0]))
    model.hidden(m, TOKENS)
    assert computed == [1]
    config.language.lm_feature = "last_block_input"
    early = Flamingo(config, IMAGE).eval()
    early.load_state_dict(model.state_dict())
    last = decoder_layers(early.lang_encoder)[-1]
    last.register_forward_hook(lambda *_: computed.append(2))
    assert torch.equal(early.hidden(m, TOKENS), block_input[0])
    assert computed == [1]
    torch.testing.assert_close(early.logits(m, TOKENS), model.logits(m, TOKENS))
    torch.testing.assert_close(early.hidden(m, TOKENS), block_input[0])  # again, after a whole pass
    twin = copy.deepcopy(early)
    with pytest.raises(ValueError, match="texts for"):
        twin.hidden(m, TOKENS[:1])
    assert torch.equal(twin.hidden(m, TOKENS), block_input[0])


def test_tokens_before_the_image_receive_nothing(config):
    """As the BOS of LLaMA: the output of the cross-attention is exactly zero there."""
    model = Flamingo(config, IMAGE).eval()
    received = []
    for block in model.gated_cross_attn_layers.values():
        block.attn.register_forward_hook(lambda _, args, out: received.append(out))
    model.hidden(media(model, 1), torch.tensor([[1, IMAGE, 12]]))
    assert len(received) == 2
    for out in received:
        assert not out[:, 0].any() and out[:, 1:].abs().min() > 0
