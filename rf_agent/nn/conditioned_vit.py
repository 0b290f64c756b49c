"""The transformer of Voltron's V-Cond (arXiv:2302.12766, Sec. 4 and App. A) and its attention pooling.

Patches of one view and words of the instruction are read together, so that what a patch becomes depends on the
instruction. Blocks differ from a ViT's in three ways: RMS norm (arXiv:1910.07467), a gated MLP (SwiGLU,
arXiv:2002.05202), and residual branches scaled channel by channel (LayerScale, arXiv:2103.17239).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """Each vector divided by its root mean square, no smaller than `floor`, times a learned scale."""

    def __init__(self, dim: int, floor: float = 1e-8) -> None:
        super().__init__()
        self.scale, self.floor = nn.Parameter(torch.ones(dim)), floor

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        squares = x.float().square().mean(dim=-1, keepdim=True)  # float: 1e-16 is zero in half precision
        return (x * squares.clamp(min=self.floor**2).rsqrt()).to(x.dtype) * self.scale


class GatedMLP(nn.Module):
    """SwiGLU: one half of a widened input times the SiLU of the other, and back."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        value, gate = self.widen(x).chunk(2, dim=-1)  # each (..., hidden)
        return self.narrow(value * F.silu(gate))


class SelfAttention(nn.Module):
    """Multi-head self-attention over patches and words.

    Args:
        dim: w. heads: h.
        reads_padding: how padded words count. False hides them. True does as the published model: its mask hides the
            rows of the padding and not its columns, so that every token attends to padding too, and a padded word
            itself becomes the plain mean over all tokens.
    """

    def __init__(self, dim: int, heads: int, reads_padding: bool) -> None:
        super().__init__()
        self.heads, self.reads_padding = heads, reads_padding
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, m, w), mask (N, m) true for what is no padding -> (N, m, w)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (N, h, m, e)
        if self.reads_padding:
            out = F.scaled_dot_product_attention(q, k, v)  # (N, h, m, e)
            out = torch.where(mask[:, None, :, None], out, v.mean(dim=2, keepdim=True))
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return self.out(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and gated MLP, each on normalised input, scaled and added to it."""

    def __init__(self, dim: int, heads: int, mlp_width: int, reads_padding: bool) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = RMSNorm(dim), RMSNorm(dim)
        self.attention = SelfAttention(dim, heads, reads_padding)
        self.mlp = GatedMLP(dim, mlp_width)
        self.scale_attention = nn.Parameter(torch.full((dim,), 0.1))
        self.scale_mlp = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, m, w), mask (N, m) -> (N, m, w)."""
        x = x + self.scale_attention * self.attention(self.norm_attention(x), mask)
        return x + self.scale_mlp * self.mlp(self.norm_mlp(x))


class ConditionedViT(nn.Module):
    """Patches and words to one sequence in which each has read the others.

    Args:
        dim: w. layers, heads, mlp_width: of the blocks.
        word_dim: ds, width of the words' embeddings.
        reads_padding: see `SelfAttention`.
    """

    def __init__(
        self, dim: int, layers: int, heads: int, mlp_width: int, word_dim: int, reads_padding: bool = False
    ) -> None:
        super().__init__()
        self.words = nn.Linear(word_dim, dim)
        # which of the two kinds a token is
        self.image_mark = nn.Parameter(0.02 * torch.randn(dim))
        self.word_mark = nn.Parameter(0.02 * torch.randn(dim))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_width, reads_padding) for _ in range(layers))
        self.norm = RMSNorm(dim)
        for module in self.modules():  # as V-Cond draws them
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, patches: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Read them together.

        Args:
            patches: (N, n, w), with their places.
            words: (N, L, ds).
            mask: (N, L) true for real words.

        Returns:
            (N, n + L, w), the patches first, and its mask (N, n + L).
        """
        x = torch.cat((patches + self.image_mark, self.words(words) + self.word_mark), dim=1)
        mask = torch.cat((mask.new_ones(patches.shape[:2]), mask), dim=1)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask


class AttentionPooling(nn.Module):
    """Multi-head attention pooling (MAP, of the Set Transformer, arXiv:1810.00825): a learned query reads a sequence.

    Norms come after the additions, as in Voltron, which pools with twice the heads of its transformer.

    Args:
        dim: w. heads: h. mlp_width: of the gated MLP.
    """

    def __init__(self, dim: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(0.02 * torch.randn(dim))
        self.project = nn.Linear(dim, dim)
        self.q, self.kv = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.norm_attention, self.norm_mlp = RMSNorm(dim), RMSNorm(dim)
        self.mlp = GatedMLP(dim, mlp_width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, m, w), mask (N, m) true for what is read -> (N, w)."""
        q = self.q(self.query).view(self.heads, 1, -1).expand(len(x), -1, -1, -1)  # (N, h, 1, e)
        k, v = self.kv(self.project(x)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (N, h, m, e)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])  # (N, h, 1, e)
        pooled = self.norm_attention(self.query + self.out(read.flatten(1)))  # (N, w)
        return self.norm_mlp(pooled + self.mlp(pooled))
