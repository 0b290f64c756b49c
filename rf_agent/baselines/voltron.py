"""Voltron (arXiv:2302.12766), its V-Cond, as the representation under our policy head (the paper's Table 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.baselines.config import VoltronConfig, VoltronEncoderConfig
from rf_agent.baselines.model import BaselineModel, BaselinePolicy, Encoder, Sentence
from rf_agent.nn.conditioned_vit import AttentionPooling, ConditionedViT


class VoltronEncoder(Encoder):
    """Each view's patches, read with the words of the instruction and pooled to one vector; the views side by side.

    The views share all weights and are told apart by their places alone. The paper's pre-training by masked
    reconstruction is not here: it gives weights (`rf-agent convert voltron`), and its decoder does not act.

    Args:
        views: V.
        vision_dim: dv; where it is not `config.width`, a linear layer comes between.
        word_dim: ds.
        config: of the transformer.
    """

    def __init__(self, views: int, vision_dim: int, word_dim: int, config: VoltronEncoderConfig) -> None:
        super().__init__()
        c = config
        self.patches = nn.Identity() if vision_dim == c.width else nn.Linear(vision_dim, c.width)
        self.transformer = ConditionedViT(c.width, c.layers, c.heads, c.mlp_width, word_dim, c.pad_text)
        self.pool = AttentionPooling(c.width, 2 * c.heads, c.mlp_width)
        self.pad_text, self.dim = c.pad_text, views * c.width

    def forward(self, vision_tokens: Tensor, sentence: Sentence) -> Tensor:
        """Vision tokens (N, V, n, dv), N sentences -> (N, V * width)."""
        views = vision_tokens.shape[1]
        patches = self.patches(vision_tokens).flatten(0, 1)  # (N * V, n, w)
        words = sentence.tokens.to(patches.dtype).repeat_interleave(views, dim=0)  # (N * V, L, ds)
        mask = sentence.mask.bool().repeat_interleave(views, dim=0)  # (N * V, L)
        x, mask = self.transformer(patches, words, mask)  # (N * V, n + L, w)
        pooled = self.pool(x, mask.new_ones(mask.shape) if self.pad_text else mask)  # (N * V, w)
        return pooled.unflatten(0, (-1, views)).flatten(1)


class VoltronModel(BaselineModel):
    """V-Cond under our head.

    What pools is part of the head in the sets of what learns: it is not pre-trained, and Voltron's frozen
    representation is one under a pooling that learns.
    """

    config: VoltronConfig
    parts: ClassVar[dict[str, str]] = {"encoder.pool.": "head", **BaselineModel.parts}

    @property
    def reads_padding(self) -> bool:
        return self.config.encoder.pad_text

    def make_encoder(self) -> Encoder:
        return VoltronEncoder(
            len(self.config.views), self.vision_tower.dim, self.sentence_encoder.dim, self.config.encoder
        )


class VoltronPolicy(BaselinePolicy, VoltronModel):
    """The agent over Voltron's representation."""

    config: VoltronConfig
    config_class = VoltronConfig

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As `BasePolicy.tokenize`; with `encoder.pad_text` always `language.max_tokens` long."""
        tokens, mask = super().tokenize(texts)
        missing = self.config.language.max_tokens - tokens.shape[1] if self.config.encoder.pad_text else 0
        return F.pad(tokens, (0, missing), value=self.tokenizer.pad_token_id), F.pad(mask, (0, missing), value=False)
