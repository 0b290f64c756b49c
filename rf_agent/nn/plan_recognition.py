"""Networks that read a whole window to recognise its plan: the posteriors of MCIL and HULC."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from rf_agent.config import ConfigError


class RecurrentRecognition(nn.Module):
    """A bidirectional GRU (MCIL, "plan recognition"), read at the end of each direction.

    Args:
        dim: p, width of a step. hidden: width of each direction. layers: of the GRU. out: P.
        dropout: between its layers.

    Attributes:
        sequence: width of the embedding of a window, from which the plan's parameters are read.
    """

    def __init__(self, dim: int, hidden: int, layers: int, out: int, dropout: float) -> None:
        super().__init__()
        between = dropout if layers > 1 else 0.0
        self.rnn = nn.GRU(dim, hidden, layers, batch_first=True, bidirectional=True, dropout=between)
        self.sequence = 2 * hidden
        self.out = nn.Linear(self.sequence, out)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, p), of which the first `lengths` (B,) steps count -> parameters (B, P), embedding (B, sequence)."""
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        ends = self.rnn(packed)[1][-2:]  # (2, B, hidden): the last layer, forwards and backwards
        sequence = torch.cat((ends[0], ends[1]), dim=-1)
        return self.out(sequence), sequence


class TransformerRecognition(nn.Module):
    """A transformer encoder over the steps, averaged over time, as HULC recognises plans.

    Args:
        dim: p, width of a step: the embeddings of all views, side by side. heads: of its attention.
        feed_forward: width of its feed-forward layers. layers: how many there are.
        window: W. sequence: width of the embedding of a window. out: P. dropout: of the encoder.

    Raises:
        ConfigError: the heads do not divide p.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        feed_forward: int,
        layers: int,
        window: int,
        sequence: int,
        out: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(
                f"head.heads is {heads}, which does not divide the width of the perceptual embedding, {dim}: choose a "
                "divisor, or another encoder.width."
            )
        self.position = nn.Embedding(window, dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, feed_forward, dropout, batch_first=True) for _ in range(layers)
        )
        self.drop = nn.Dropout(dropout)
        self.sequence = sequence
        self.gather = nn.Linear(dim, sequence)
        self.out = nn.Linear(sequence, out)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, p), of which the first `lengths` (B,) steps count -> parameters (B, P), embedding (B, sequence)."""
        steps = x.shape[1]
        padding = torch.arange(steps, device=x.device) >= lengths[:, None]  # (B, T)
        x = self.drop(x + self.position.weight[:steps])
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        x = self.gather(x).masked_fill(padding[..., None], 0.0)  # (B, T, sequence)
        sequence = x.sum(dim=1) / lengths[:, None]
        return self.out(sequence), sequence
