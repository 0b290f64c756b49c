"""MosaicGPT, the language model of MPT-1B: a decoder with ALiBi, query-key layer norm and no biases.

`transformers` has no such model (its MPT ignores the query-key norm). Tensors are named as in the published
checkpoints (mosaicml/examples v0.0.4), and the module answers to the few methods of a `transformers` causal
language model that `rf_agent.nn.flamingo` uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.config import ConfigError


@dataclass(frozen=True)
class MosaicGPTConfig:
    """Shape of a MosaicGPT; the fields are named as in its config.json."""

    d_model: int
    n_heads: int
    n_layers: int
    vocab_size: int
    mlp_ratio: int = 4
    max_seq_len: int = 2048
    alibi_bias_max: int = 8
    attn_qk_ln: bool = True

    @property
    def num_hidden_layers(self) -> int:
        """Number of decoder layers, as `transformers` calls it."""
        return self.n_layers


class Hidden(NamedTuple):
    """What a language model's body returns, as far as it is read."""

    last_hidden_state: Tensor


def layer_norm(dim: int) -> nn.LayerNorm:
    """Layer norm without a bias."""
    return nn.LayerNorm(dim, bias=False)


def alibi_causal_bias(length: int, heads: int, bias_max: int, like: Tensor) -> Tensor:
    """What is added to attention scores: (h, L, L), minus infinity for the future, and the farther back the less.

    ALiBi (arXiv:2108.12409): head h of n weighs distance with 2 ** (-bias_max * h / n).
    """
    position = torch.arange(length, device=like.device)
    distance = position[None] - position[:, None]  # (L, L), key minus query, <= 0 in the past
    head = torch.arange(1, heads + 1, device=like.device, dtype=torch.float32)
    bias = torch.exp2(-bias_max / heads * head)[:, None, None] * distance  # (h, L, L)
    return bias.masked_fill(distance > 0, float("-inf")).to(like.dtype)


class Attention(nn.Module):
    """Multi-head self-attention; queries and keys are normalised over the full width, before the heads part."""

    def __init__(self, config: MosaicGPTConfig) -> None:
        super().__init__()
        d = config.d_model
        self.heads = config.n_heads
        self.Wqkv = nn.Linear(d, 3 * d, bias=False)
        self.q_ln: nn.Module = layer_norm(d) if config.attn_qk_ln else nn.Identity()
        self.k_ln: nn.Module = layer_norm(d) if config.attn_qk_ln else nn.Identity()
        self.out_proj = nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (N, L, d), bias broadcastable to (N, h, L, L) -> (N, L, d)."""
        q, k, v = self.Wqkv(x).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.q_ln(q), self.k_ln(k), v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (N, h, L, e)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Widen, GELU, narrow."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.mlp_up = nn.Linear(dim, ratio * dim, bias=False)
        self.mlp_down = nn.Linear(ratio * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, d) -> (N, L, d)."""
        return self.mlp_down(F.gelu(self.mlp_up(x)))


class Block(nn.Module):
    """Attention and MLP, each on normalised input and added to it."""

    def __init__(self, config: MosaicGPTConfig) -> None:
        super().__init__()
        self.ln_1 = layer_norm(config.d_model)
        self.attn = Attention(config)
        self.ln_2 = layer_norm(config.d_model)
        self.mlp = MLP(config.d_model, config.mlp_ratio)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (N, L, d), bias broadcastable to (N, h, L, L) -> (N, L, d)."""
        x = x + self.attn(self.ln_1(x), bias)
        return x + self.mlp(self.ln_2(x))


class Body(nn.Module):
    """Everything but the vocabulary projection."""

    def __init__(self, config: MosaicGPTConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_f = layer_norm(config.d_model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool = False) -> Hidden:
        """Hidden states after the final norm.

        Args:
            input_ids: (N, L), L <= max_seq_len.
            attention_mask: (N, L), true for tokens that may be attended to; the first of every row must be.
            use_cache: accepted for the protocol; nothing is cached.
        """
        c = self.config
        length = input_ids.shape[1]
        if length > c.max_seq_len:
            raise ValueError(f"a text of {length} tokens was given, but the model reads at most {c.max_seq_len}.")
        x = self.wte(input_ids)  # (N, L, d)
        bias = alibi_causal_bias(length, c.n_heads, c.alibi_bias_max, x)[None]  # once for all layers
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask.bool()[:, None, None], float("-inf"))
        for block in self.blocks:
            x = block(x, bias)
        return Hidden(self.ln_f(x))


class MosaicGPT(nn.Module):
    """The causal language model; its output layer is its token embedding.

    Args:
        values: fields of `MosaicGPTConfig`.

    Raises:
        ConfigError: an unknown or missing field, or a width that the heads do not divide.
    """

    def __init__(self, **values: int | bool) -> None:
        super().__init__()
        try:
            self.config = config = MosaicGPTConfig(**values)  # type: ignore[arg-type]
        except TypeError as error:
            known = ", ".join(MosaicGPTConfig.__dataclass_fields__)
            raise ConfigError(f"language.model of type mosaic_gpt: {error}; its fields are {known}.") from error
        if config.d_model % config.n_heads:
            raise ConfigError(f"language.model.d_model is {config.d_model}, but {config.n_heads} heads must divide it.")
        self.transformer = Body(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.apply(self._initialise)
        self.lm_head.weight = self.transformer.wte.weight

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    @property
    def base_model(self) -> Body:
        """The model without its vocabulary projection."""
        return self.transformer

    def get_input_embeddings(self) -> nn.Embedding:
        """Token embedding."""
        return self.transformer.wte

    def get_output_embeddings(self) -> nn.Linear:
        """Vocabulary projection."""
        return self.lm_head

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Next-token logits (N, L, vocabulary)."""
        return self.lm_head(self.transformer(input_ids, attention_mask).last_hidden_state)
