"""A stand-in for a live model of the package `open_flamingo`, which cannot be installed beside this one.

Its modules lie where the package's do, the cross-attention and the decoder layers twice, so its state dict has the
names of the package's. Resampler and cross-attention are ours, whose tensors are named alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rf_agent.nn.cross_attention import GatedCrossAttentionBlock
from rf_agent.nn.resampler import PerceiverResampler


class FakeFlamingoLayer(nn.Module):
    """Cross-attention, if there is any, and then a decoder layer."""

    def __init__(self, cross: nn.Module | None, layer: nn.Module) -> None:
        super().__init__()
        self.gated_cross_attn_layer, self.decoder_layer = cross, layer
        self.media: Tensor | None = None
        self.sees: Tensor | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.gated_cross_attn_layer is not None:
            x = self.gated_cross_attn_layer(x, self.media, self.sees)
        return self.decoder_layer(x, *args, **kwargs)


class FakeFlamingo(nn.Module):
    """As `open_flamingo.src.flamingo.Flamingo`, of one image.

    Args:
        vision: with the tower as `visual`, which returns (pooled, patch tokens).
        language: a causal language model of `transformers`.
        layers_name: of the list of its decoder layers.
    """

    def __init__(
        self, vision: Any, language: Any, layers_name: str, image_token: int, vis_dim: int, cross_attn_every: int
    ) -> None:
        super().__init__()
        self.vision_encoder, self.lang_encoder, self.image_token = vision.visual, language, image_token
        self.perceiver = PerceiverResampler(vis_dim, layers=6, latents=64, heads=8, head_dim=64)
        parent, _, name = layers_name.rpartition(".")
        blocks = language.get_submodule(layers_name)
        width = language.get_input_embeddings().weight.shape[1]
        language.old_decoder_blocks = blocks
        language.gated_cross_attn_layers = nn.ModuleList(
            None if (i + 1) % cross_attn_every else GatedCrossAttentionBlock(width, vis_dim, heads=8, head_dim=64)
            for i in range(len(blocks))
        )
        self.layers = [FakeFlamingoLayer(*pair) for pair in zip(language.gated_cross_attn_layers, blocks, strict=True)]
        setattr(language.get_submodule(parent), name, nn.ModuleList(self.layers))

    def forward(self, vision_x: Tensor, lang_x: Tensor, attention_mask: Tensor) -> Any:
        """pixels (B, 1, 1, 3, S, S), token ids (B, L), mask (B, L) -> what the language model returns."""
        media = self.perceiver(self.vision_encoder(vision_x.flatten(0, 2))[1])
        sees = (lang_x == self.image_token).cumsum(dim=1).clamp(max=1)[..., None]
        for layer in self.layers:
            layer.media, layer.sees = media, sees.to(torch.float32)
        return self.lang_encoder(input_ids=lang_x, attention_mask=attention_mask)
