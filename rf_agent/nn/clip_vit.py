"""The vision transformer of CLIP, up to its patch tokens.

OpenFlamingo reads the tokens as they leave the last block: without the class token, and before the final norm and
projection, which are therefore left out. Tensors are named as by OpenAI and open_clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.config import ConfigError


@dataclass(frozen=True)
class ClipViTConfig:
    """Shape of a CLIP vision tower; ViT-L/14 by default."""

    image_size: int = 224
    patch_size: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    quick_gelu: bool = True
    """OpenAI's weights were trained with x * sigmoid(1.702 x) in place of the exact GELU."""


class Tokens(NamedTuple):
    """What a vision tower returns, as far as it is read."""

    last_hidden_state: Tensor


class Attention(nn.Module):
    """Multi-head self-attention, with its tensors where `torch.nn.MultiheadAttention` has them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, w) -> (N, n, w)."""
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (N, n, 3 w)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(q, k, v)  # (N, h, n, e)
        return self.out_proj(out.transpose(1, 2).flatten(2))


def quick_gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``; in the memory of x when there are no gradients, as fresh memory takes longer."""
    if torch.is_grad_enabled():
        return x * torch.sigmoid(1.702 * x)
    return F.silu(x.mul_(1.702), inplace=True).mul_(1 / 1.702)


class MLP(nn.Module):
    """Widen, GELU, narrow."""

    def __init__(self, width: int, hidden: int, quick_gelu: bool) -> None:
        super().__init__()
        self.quick_gelu = quick_gelu
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, w) -> (N, n, w)."""
        x = self.c_fc(x)
        return self.c_proj(quick_gelu(x) if self.quick_gelu else F.gelu(x))


class Block(nn.Module):
    """Attention and MLP, each on normalised input and added to it."""

    def __init__(self, config: ClipViTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config.width, config.mlp_width, config.quick_gelu)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, w) -> (N, n, w)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """The blocks, one after the other."""

    def __init__(self, config: ClipViTConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        """(N, n, w) -> (N, n, w)."""
        for block in self.resblocks:
            x = block(x)
        return x


class ClipViT(nn.Module):
    """Pixels to patch tokens.

    Args:
        values: fields of `ClipViTConfig`.

    Raises:
        ConfigError: an unknown field, or sizes that do not divide each other.
    """

    def __init__(self, **values: int | bool) -> None:
        super().__init__()
        try:
            c = ClipViTConfig(**values)  # type: ignore[arg-type]
        except TypeError as error:
            known = ", ".join(ClipViTConfig.__dataclass_fields__)
            raise ConfigError(f"vision.model of type clip_vit: {error}; its fields are {known}.") from error
        if c.image_size % c.patch_size or c.width % c.heads:
            raise ConfigError(
                f"vision.model of type clip_vit: patches of {c.patch_size} must divide images of {c.image_size}, and "
                f"{c.heads} heads a width of {c.width}."
            )
        side = c.image_size // c.patch_size
        self.conv1 = nn.Conv2d(3, c.width, c.patch_size, stride=c.patch_size, bias=False)
        self.class_embedding = nn.Parameter(c.width**-0.5 * torch.randn(c.width))
        self.positional_embedding = nn.Parameter(c.width**-0.5 * torch.randn(side**2 + 1, c.width))
        self.ln_pre = nn.LayerNorm(c.width)
        self.transformer = Transformer(c)

    def forward(self, pixels: Tensor) -> Tokens:
        """pixels (N, 3, S, S) normalised -> patch tokens (N, n, w), row by row."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)  # (N, n, w)
        x = torch.cat((self.class_embedding.expand(len(x), 1, -1), x), dim=1)  # (N, 1 + n, w)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return Tokens(x[:, 1:])
