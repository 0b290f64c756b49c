"""The first layer of a vision transformer alone: patches and their places, for what reads the text together with them.

Tensors are shaped as Voltron's (arXiv:2302.12766), whose places are the fixed sines and cosines of MAE
(arXiv:2111.06377).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rf_agent.config import ConfigError
from rf_agent.nn.clip_vit import Tokens


@dataclass(frozen=True)
class PatchEmbeddingConfig:
    """Shape of a patch embedding; Voltron's ViT-Small by default."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 384


class PatchEmbedding(nn.Module):
    """Pixels to embedded patches with their places.

    Args:
        values: fields of `PatchEmbeddingConfig`.

    Raises:
        ConfigError: an unknown field, or sizes that do not divide each other.
    """

    position: Tensor

    def __init__(self, **values: int) -> None:
        super().__init__()
        try:
            c = PatchEmbeddingConfig(**values)
        except TypeError as error:
            known = ", ".join(PatchEmbeddingConfig.__dataclass_fields__)
            raise ConfigError(f"vision.model of type patch_embedding: {error}; its fields are {known}.") from error
        if c.image_size % c.patch_size or c.width % 4:
            raise ConfigError(
                f"vision.model of type patch_embedding: patches of {c.patch_size} must divide images of "
                f"{c.image_size}, and 4 a width of {c.width}."
            )
        self.proj = nn.Conv2d(3, c.width, c.patch_size, stride=c.patch_size)
        # a buffer, as it never learns; kept in checkpoints, since published ones hold it
        self.register_buffer("position", mae_positions(c.image_size // c.patch_size, c.width))  # (n, w)

    def forward(self, pixels: Tensor) -> Tokens:
        """pixels (N, 3, S, S) normalised -> patches (N, n, w), row by row."""
        x = self.proj(pixels).flatten(2).transpose(1, 2)  # (N, n, w)
        return Tokens(x + self.position.to(x.dtype))


def mae_positions(side: int, dim: int) -> Tensor:
    """(side * side, dim): the first half of the channels says the column, the second the row; each is half sines, half
    cosines, of wavelengths from 2 pi to 20,000 pi."""
    bands = dim // 4
    frequency = 10_000 ** (-torch.arange(bands, dtype=torch.float64) / bands)
    phase = torch.arange(side, dtype=torch.float64)[:, None] * frequency  # (side, bands)
    line = torch.cat((phase.sin(), phase.cos()), dim=1).float()  # (side, dim / 2)
    columns, rows = line[None].expand(side, -1, -1), line[:, None].expand(-1, side, -1)
    return torch.cat((columns, rows), dim=2).flatten(0, 1)
