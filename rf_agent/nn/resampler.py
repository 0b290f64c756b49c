"""The perceiver resampler: any number of vision tokens to a fixed, small number of latents.

Flamingo (arXiv:2204.14198, section 3.1.1); parameters are named as in OpenFlamingo's checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def feed_forward(dim: int, mult: int = 4) -> nn.Sequential:
    """Norm, widen, GELU, narrow; without biases."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, dim * mult, bias=False),
        nn.GELU(),
        nn.Linear(dim * mult, dim, bias=False),
    )


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention: q (N, L, heads * e), k and v (N, M, heads * e) -> shape of q.

    `mask` (N, L, M) is true where q may attend to k, which it may everywhere without a mask.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (N, heads, ., e)
    if mask is None:
        out = F.scaled_dot_product_attention(q, k, v)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
    return out.transpose(1, 2).flatten(2)


class PerceiverAttention(nn.Module):
    """Latents attend to the vision tokens and to themselves."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.norm_media = nn.LayerNorm(dim)
        self.norm_latents = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, inner * 2, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, media: Tensor, latents: Tensor) -> Tensor:
        """media (N, n, d), latents (N, l, d) -> (N, l, d)."""
        latents = self.norm_latents(latents)
        k, v = self.to_kv(torch.cat((self.norm_media(media), latents), dim=1)).chunk(2, dim=-1)
        return self.to_out(attend(self.to_q(latents), k, v, self.heads))


class PerceiverResampler(nn.Module):
    """Vision tokens of one view to `latents` latents of the same width.

    Args:
        dim: width of the vision tokens.
        layers, latents, heads, head_dim, ff_mult: see `rf_agent.config.ResamplerConfig`.
    """

    def __init__(self, dim: int, layers: int, latents: int, heads: int, head_dim: int, ff_mult: int = 4) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, dim))
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, heads, head_dim), feed_forward(dim, ff_mult)]) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (N, n, d) -> latents (N, l, d)."""
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)  # for the type checker
            attention, ff = layer
            latents = attention(tokens, latents) + latents
            latents = ff(latents) + latents
        return self.norm(latents)
