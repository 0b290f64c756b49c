"""The GPT over the features of the last observation steps (paper, Fig. 3a): a GPT-2 whose tokens are observation steps.

It computes what `transformers`' GPT2Model does with `inputs_embeds`, under the same names of layers.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.config import ActionConfig, ConfigError, HeadConfig, StateConfig
from rf_agent.nn.heads.base import PolicyHead, register


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.c_attn = nn.Linear(dim, 3 * dim)
        self.c_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) -> (B, T, d)."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.c_attn(x).chunk(3, dim=-1))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (B, heads, T, e)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Four times as wide inside, with GELU (tanh approximation)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, 4 * dim)
        self.c_proj = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and feed-forward layer, each after a norm and around a residual."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = Attention(dim, heads, dropout), FeedForward(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) -> (B, T, d)."""
        x = x + self.drop(self.attn(self.ln_1(x)))
        return x + self.drop(self.mlp(self.ln_2(x)))


class Trunk(nn.Module):
    """GPT-2 without its vocabulary: learned positions 0..W-1, blocks, a last norm."""

    def __init__(self, dim: int, layers: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.wpe = nn.Embedding(window, dim)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.ln_f = nn.LayerNorm(dim)
        self.apply(self._init)

    @staticmethod
    def _init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) -> (B, T, d)."""
        x = self.drop(x + self.wpe.weight[: x.shape[1]])
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


@register("gpt")
class GPTHead(PolicyHead):
    """A GPT-2 over the window; acting keeps the last W features and runs it again, as positions shift at every step."""

    def __init__(self, dim: int, config: HeadConfig, action: ActionConfig, state: StateConfig) -> None:
        super().__init__(dim, config, action, state)
        if config.hidden % config.heads:
            raise ConfigError(
                f"head.hidden is {config.hidden}, which {config.heads} attention heads (head.heads) do not divide; "
                "choose a multiple."
            )
        self.fc: nn.Module = nn.Identity() if dim == config.hidden else nn.Linear(dim, config.hidden)
        self.gpt = Trunk(config.hidden, config.layers, config.heads, config.window, config.dropout)

    def recall(self, features: Tensor) -> Tensor:
        """features (B, T, f) -> (B, T, hidden)."""
        self.check_length(features)
        return self.gpt(self.fc(features))

    @classmethod
    def reference_tensors(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `PolicyHead.reference_tensors`; matrices stand the other way round there, and masks are stored."""
        transposed = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
        masks = (".attn.bias", ".attn.masked_bias")
        return {
            name: tensor.t().contiguous() if name.endswith(transposed) else tensor
            for name, tensor in super().reference_tensors(tensors).items()
            if not name.endswith(masks)
        }
