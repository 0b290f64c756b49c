"""The network of a baseline: a vision tower, a sentence encoder, an encoder that joins them, and a head.

Tower and sentence encoder are frozen if training begins with another policy's (`--init`), and learn otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from rf_agent import checkpoint
from rf_agent.base_policy import BasePolicy
from rf_agent.baselines.config import BaselineConfig
from rf_agent.errors import ConfigError, UserError
from rf_agent.nn.heads import PolicyHead, build_head
from rf_agent.nn.heads.base import mean_pool
from rf_agent.nn.language import OWN_MODELS
from rf_agent.nn.model_config import model_config
from rf_agent.nn.towers import VisionTower
from rf_agent.policy_config import TextConfig
from rf_agent.policy_model import PolicyModel, TextInputs

if TYPE_CHECKING:
    from typing_extensions import Self


class Sentence(NamedTuple):
    """Instructions as a sentence encoder embeds them."""

    embedding: Tensor
    """(N, ds) of the whole sentence: the mean over its tokens."""
    tokens: Tensor
    """(N, L, ds) of each token."""
    mask: Tensor
    """(N, L) true for real tokens."""


class SentenceEncoder(nn.Module):
    """A language model that embeds the instruction without seeing images.

    Args:
        config: `model` is the configuration of a model of `transformers`, with its `model_type`.
        reads_words: see `BaselineConfig.sentence`.

    Attributes:
        dim: width of an embedding.
    """

    def __init__(self, config: TextConfig, reads_words: bool = False) -> None:
        super().__init__()
        values = dict(config.model)
        kind = values.pop("model_type", None)
        if kind is None:
            raise ConfigError(
                "language.model has no 'model_type'; name a language model of transformers, such as 'bert'."
            )
        if kind in OWN_MODELS:
            raise ConfigError(
                f"language.model.model_type is {kind!r}, but a baseline embeds the instruction with a model of "
                "transformers: begin from another policy than one of MPT-1B."
            )
        try:
            self.model = AutoModel.from_config(model_config(kind, values, "language.model"))
        except ConfigError:
            raise
        except Exception as error:  # transformers checks values in many places, each with errors of its own
            raise ConfigError(f"language.model cannot be built: {error}") from error
        self.reads_words = reads_words
        if self.model.config.is_encoder_decoder and not reads_words:
            raise ConfigError(
                f"language.model.model_type is {kind!r}, an encoder with a decoder, but the instruction is only read: "
                "choose an encoder or a causal model, or sentence=words."
            )
        width = int(self.model.get_input_embeddings().weight.shape[1])
        wide = "word_embed_proj_dim" not in self.model.config.to_dict()  # OPT projects its hidden states back
        self.dim = int(self.model.config.hidden_size) if wide and not reads_words else width

    def train(self, mode: bool = True) -> SentenceEncoder:
        """Without dropout as long as it is frozen: a text is then the same in training and acting."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    def forward(self, tokens: Tensor, mask: Tensor) -> Sentence:
        """Token ids (N, L), mask (N, L) true for real ones -> embeddings of the N texts."""
        different, rows = torch.unique(tokens, dim=0, return_inverse=True)  # steps of a sequence share their text
        first = torch.zeros(len(different), dtype=torch.long, device=tokens.device).scatter_(
            0, rows, torch.arange(len(rows), device=tokens.device)
        )
        if self.reads_words:
            embedded = F.layer_norm(self.model.get_input_embeddings()(different), (self.dim,))
        else:
            embedded = self.model(input_ids=different, attention_mask=mask[first].long()).last_hidden_state
        return Sentence(mean_pool(embedded, mask[first])[rows], embedded[rows], mask)


class Encoder(nn.Module):
    """Vision tokens of a frame and the instruction to what the head remembers of an observation step.

    Attributes:
        dim: width of the result.
    """

    dim: int

    def forward(self, vision_tokens: Tensor, sentence: Sentence) -> Tensor:
        """Vision tokens (N, V, n, dv), N sentences -> (N, dim)."""
        raise NotImplementedError


class BaselineModel(PolicyModel):
    """A network that reads the instruction as a sentence embedding.

    Args:
        config: the whole configuration.
        image_token: not used: texts come with `<image>` as for RoboFlamingo, which here is a token like others.
    """

    config: BaselineConfig
    encoder: Encoder
    parts: ClassVar[dict[str, str]] = {
        "vision_tower.": "vision",
        "sentence_encoder.": "language",
        "encoder.": "encoder",
        "head.": "head",
    }
    always_frozen: ClassVar[frozenset[str]] = frozenset({"embeddings", "language"})

    def __init__(self, config: BaselineConfig, image_token: int) -> None:
        super().__init__(config)
        if config.head.type == "fc_hist":
            raise ConfigError("head.type is 'fc_hist', but a baseline reads one frame a step; choose 'lstm'.")
        self.vision_tower = VisionTower(config.vision, config.image.size, len(config.views))
        self.sentence_encoder = SentenceEncoder(config.language, config.sentence == "words")
        self.encoder = self.make_encoder()
        self.head = self.make_head()

    def make_encoder(self) -> Encoder:
        """The encoder, when the vision tower and the sentence encoder are there."""
        raise NotImplementedError

    def make_head(self) -> PolicyHead:
        """The head, when the encoder is there: the one that `head.type` names."""
        return build_head(self.encoder.dim, self.config.head, self.config.action, self.config.state)

    @property
    def vision_encoder(self) -> Any:
        return self.vision_tower

    @property
    def language_model(self) -> Any:
        return self.sentence_encoder.model

    @property
    def runs_language_model(self) -> bool:
        return not self.sentence_encoder.reads_words

    @property
    def width(self) -> int:
        return self.sentence_encoder.dim

    @property
    def stages(self) -> dict[str, list[nn.Module]]:
        return {
            "vision tower": [self.vision_tower],
            "language model": [self.sentence_encoder],
            "encoder": [self.encoder],
        }

    def pretrained_parameters(self, vl_pretrained: bool = True) -> Iterable[nn.Parameter]:
        return [*self.vision_tower.parameters(), *self.sentence_encoder.parameters()]

    def fuse(self, frames: Tensor, text: TextInputs) -> Tensor:
        """Features (N, f) of vision tokens (N, 1, V, n, dv), read with a text."""
        encoded = self.encoder(frames[:, 0], self.sentence_encoder(text.tokens, text.mask))[:, None]  # (N, 1, dim)
        return self.head.feature(encoded, torch.ones_like(encoded[..., 0], dtype=torch.bool), text.robot_state)


class BaselinePolicy(BasePolicy, BaselineModel):
    """What the baselines have in common as agents."""

    config: BaselineConfig

    def prompt(self, instruction: str) -> str:
        """As `BasePolicy.prompt`; but sentence encoders that mark beginning and end themselves (BERT and its kin) read
        the bare instruction, as in their pre-training."""
        return instruction.strip() if self.tokenizer.cls_token is not None else super().prompt(instruction)

    def begin_from(self, start: BasePolicy, source: str, vl_pretrained: bool = True) -> None:
        """Take the vision tower and the language model of any policy, and the encoder of one of the same type."""
        pairs = [(self.vision_tower, start.vision_encoder), (self.language_model, start.language_model.base_model)]
        if isinstance(start, type(self)):
            self._check_encoder(start, source)
            pairs.append((self.encoder, start.encoder))
        for own, theirs in pairs:
            checkpoint.load_strictly(own, checkpoint.unique_tensors(theirs), source)

    def _check_encoder(self, start: Self, source: str) -> None:
        """Raise UserError that names the values by which an encoder differs from the one that it shall begin from."""
        own, theirs = (checkpoint.unique_tensors(policy.encoder) for policy in (self, start))
        if {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in theirs.items()}:
            return
        values, had = (policy.config.to_dict().get("encoder", {}) for policy in (self, start))
        differing = ", ".join(
            f"encoder.{name}={json.dumps(had[name])}"
            for name in values
            if json.dumps(values[name]) != json.dumps(had[name])
        )
        raise UserError(
            f"{source} has an encoder of another shape than this {self.config.type}: begin from a policy of another "
            f"type, of which no encoder is taken, or keep its values (--override {differing or 'views=...'})"
        )
