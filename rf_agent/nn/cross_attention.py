"""Gated cross-attention from text to media, laid over a decoder that stays intact.

Flamingo (arXiv:2204.14198, section 3.1.2); parameters are named as in OpenFlamingo's checkpoints. The paper
of RoboFlamingo writes one gate (Eq. 4); OpenFlamingo has two, one for the attention and one for the
feed-forward layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rf_agent.nn.resampler import attend, feed_forward


class MaskedCrossAttention(nn.Module):
    """Text tokens attend to media tokens, all of them without a mask; those before the first image receive nothing."""

    def __init__(self, dim: int, media_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(media_dim, inner * 2, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, media: Tensor, sees: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (N, L, d), media (N, m, dv), sees (N, L, 1) 1 or 0, mask (N, L, m) or None -> (N, L, d)."""
        k, v = self.to_kv(media).chunk(2, dim=-1)
        out = attend(self.to_q(self.norm(x)), k, v, self.heads, mask)
        return self.to_out(out) * sees.to(out.dtype)


class GatedCrossAttentionBlock(nn.Module):
    """``x + tanh(g1) attn(x, media)``, then ``x + tanh(g2) ff(x)``; with gates at 0 it does nothing.

    Args:
        dim: width of the text.
        media_dim: width of the media tokens.
        heads, head_dim, ff_mult, initial_gate: see `rf_agent.config.LanguageConfig`.
    """

    def __init__(
        self,
        dim: int,
        media_dim: int,
        heads: int,
        head_dim: int,
        ff_mult: int = 4,
        initial_gate: float = 0.0,
    ) -> None:
        super().__init__()
        self.attn = MaskedCrossAttention(dim, media_dim, heads, head_dim)
        self.attn_gate = nn.Parameter(torch.tensor([initial_gate]))
        self.ff = feed_forward(dim, ff_mult)
        self.ff_gate = nn.Parameter(torch.tensor([initial_gate]))

    def forward(self, x: Tensor, media: Tensor, sees: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (N, L, d), media (N, m, dv), sees (N, L, 1), mask (N, L, m) or None -> (N, L, d)."""
        x = x + self.attn(x, media, sees, mask) * self.attn_gate.tanh()
        return x + self.ff(x) * self.ff_gate.tanh()


class Conditioning:
    """What the text is conditioned on during one forward pass; empty outside of it."""

    media: Tensor | None = None
    sees: Tensor | None = None
    mask: Tensor | None = None
    """Which media a token attends to, where the text is about several images."""
    early_exit: bool = False
    """Whether the pass ends before the last decoder layer."""


class CrossAttend:
    """Forward pre-hook of a decoder layer: cross-attention first, then the layer.

    A hook rather than a wrapper, so that the language model keeps its class and the names of its tensors. An
    object rather than a closure, so that copies and pickles of the model refer to their own layers.
    """

    def __init__(self, block: GatedCrossAttentionBlock, conditioning: Conditioning) -> None:
        self.block = block
        self.conditioning = conditioning

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        media, sees = self.conditioning.media, self.conditioning.sees
        if media is None or sees is None:  # plain text
            return None
        mask = self.conditioning.mask
        if args:
            return (self.block(args[0], media, sees, mask), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.block(kwargs["hidden_states"], media, sees, mask)}
