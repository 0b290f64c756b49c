"""Live models: a stand-in everywhere, and the real package where it is there.

The latter takes `pip install --no-deps open_flamingo==2.0.1` and `pip install einops einops-exts`.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections import OrderedDict

import pytest
import torch
from fake_open_flamingo import FakeFlamingo
from make_case import LANGUAGES, make_case
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from rf_agent.config import HeadConfig
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.tokenizer import add_flamingo_tokens, load_tokenizer
from rf_agent.weights import ConversionError, from_live_openflamingo

LAYERS = {
    "neox": "gpt_neox.layers",
    "llama": "model.layers",
    "mpt": "transformer.blocks",
    "opt": "model.decoder.layers",
}
HEAD = HeadConfig(hidden=8, layers=1, window=3, mlp=(8,))


class QuickGELU(nn.Module):
    """As open_clip calls it."""

    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A block of open_clip's vision tower."""

    def __init__(self, width):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 3, batch_first=True)
        layers = {"c_fc": nn.Linear(width, 40), "gelu": QuickGELU(), "c_proj": nn.Linear(40, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y)[0]
        return x + self.mlp(self.ln_2(x))


class Tower(nn.Module):
    """open_clip's vision tower of version 2.20: (pooled, patch tokens before the final norm)."""

    def __init__(self, width=24):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 14, 14, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(5, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(Block(width) for _ in range(2))
        self.proj = nn.Parameter(torch.randn(width, 8))

    def forward(self, pixels):
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat((self.class_embedding.expand(len(x), 1, -1), x), dim=1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj, x[:, 1:]


def of_the_package(monkeypatch, vision, language, kind, tokens):
    """A live model, made as open_flamingo's factory does."""
    pytest.importorskip("einops_exts")
    if importlib.util.find_spec("open_flamingo") is None:
        pytest.skip("open_flamingo is not installed")
    try:
        import open_clip  # noqa: F401
    except Exception:  # it needs torchvision; the parts of open_flamingo that are used here do not
        monkeypatch.setitem(sys.modules, "open_clip", types.ModuleType("open_clip"))
    from open_flamingo.src.flamingo import Flamingo
    from open_flamingo.src.flamingo_lm import FlamingoLMMixin
    from open_flamingo.src.utils import extend_instance

    extend_instance(language, FlamingoLMMixin)
    language.set_decoder_layers_attr_name(LAYERS[kind])
    image, end = tokens
    return Flamingo(vision, language, end, image, vis_dim=24, cross_attn_every_n_layers=2)


@pytest.fixture(params=[(kind, source) for kind in LAYERS for source in ("stand-in", "package")], ids="-".join)
def flamingo(request, tmp_path, monkeypatch):
    """A live model and its tokenizer."""
    kind, source = request.param
    make_case(tmp_path / "case")  # for its tokenizer
    tokenizer = load_tokenizer(tmp_path / "case" / "lm")
    add_flamingo_tokens(tokenizer)
    tokens = tokenizer.convert_tokens_to_ids(["<image>", "<|endofchunk|>"])
    values = dict(LANGUAGES[kind], vocab_size=300)
    torch.manual_seed(0)
    language = AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    language.resize_token_embeddings(len(tokenizer))
    vision = types.SimpleNamespace(visual=Tower())
    if source == "package":
        model = of_the_package(monkeypatch, vision, language, kind, tokens)
    else:
        model = FakeFlamingo(vision, language, LAYERS[kind], tokens[0], vis_dim=24, cross_attn_every=2)
    for name, p in model.named_parameters():
        if name.endswith("_gate"):
            nn.init.constant_(p, 0.7)
    return model.eval(), tokenizer


@torch.no_grad()
def test_live_model_and_policy_read_the_same(flamingo, tmp_path):
    model, tokenizer = flamingo
    policy, _ = from_live_openflamingo(model, tokenizer, head=HEAD, views=("rgb_static",))
    pixels = torch.randn(2, 1, 3, 28, 28)
    tokens, mask = policy.tokenize(["push it", "open the drawer"])
    theirs = model(pixels[:, :, None], tokens, attention_mask=mask)
    media = policy.vlm.media(policy.encode_vision(pixels))
    torch.testing.assert_close(policy.vlm.logits(media, tokens, mask), theirs.logits, atol=1e-5, rtol=1e-5)
    assert policy.config.vision.model["heads"] == 3 and policy.config.vision.model["quick_gelu"]
    loaded = RoboFlamingoPolicy.from_pretrained(policy.save_pretrained(tmp_path / "policy"), device="cpu")
    assert torch.equal(loaded.vlm.hidden(media, tokens), policy.vlm.hidden(media, tokens))


def test_other_models_are_refused():
    with pytest.raises(ConversionError, match="a Linear was given, but a Flamingo"):
        from_live_openflamingo(nn.Linear(2, 2), None)
