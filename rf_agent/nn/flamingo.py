"""Flamingo: a vision tower, a perceiver resampler and a language model with gated cross-attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from rf_agent.config import ConfigError, LanguageConfig, RoboFlamingoConfig
from rf_agent.nn.cross_attention import Conditioning, CrossAttend, GatedCrossAttentionBlock
from rf_agent.nn.resampler import PerceiverResampler
from rf_agent.nn.towers import VisionTower


class Flamingo(nn.Module):
    """A vision-language model that reads one frame (all its views) and one text.

    N frames, V views, n vision tokens per view, m = V * latents media tokens, L text tokens, d width of the
    language model.

    Args:
        config: the whole policy's; the head is not used.
        image_token: id of `<image>`; text before it sees no media.
    """

    def __init__(self, config: RoboFlamingoConfig, image_token: int) -> None:
        super().__init__()
        self.image_token = image_token
        self.vision_encoder = VisionTower(config.vision, config.image.size, len(config.views))
        r = config.resampler
        self.perceiver = PerceiverResampler(
            self.vision_encoder.dim, r.layers, r.latents, r.heads, r.head_dim, r.ff_mult
        )
        language = config.language
        self.lang_encoder = build_language_model(language)
        self.dim: int = self.lang_encoder.get_input_embeddings().weight.shape[1]
        layers = decoder_layers(self.lang_encoder)
        if not 1 <= language.cross_attention_every <= len(layers):
            raise ConfigError(
                f"language.cross_attention_every is {language.cross_attention_every}, but the model has "
                f"{len(layers)} layers; choose 1 to {len(layers)}."
            )
        self._conditioning = Conditioning()
        self.gated_cross_attn_layers = nn.ModuleDict()  # keyed by the decoder layer that it precedes
        for i, layer in enumerate(layers):
            if (i + 1) % language.cross_attention_every:
                continue
            block = GatedCrossAttentionBlock(
                self.dim,
                self.vision_encoder.dim,
                language.heads,
                language.head_dim,
                language.ff_mult,
                language.initial_gate,
            )
            self.gated_cross_attn_layers[str(i)] = block
            layer.register_forward_pre_hook(CrossAttend(block, self._conditioning), with_kwargs=True)

    def encode_vision(self, pixels: Tensor) -> Tensor:
        """pixels (N, V, 3, S, S) normalised -> vision tokens (N, V, n, dv)."""
        return self.vision_encoder(pixels)

    def media(self, vision_tokens: Tensor) -> Tensor:
        """vision tokens (N, V, n, dv) -> media tokens (N, m, dv): each view resampled alone (post fusion)."""
        n, views = vision_tokens.shape[:2]
        return self.perceiver(vision_tokens.flatten(0, 1)).unflatten(0, (n, views)).flatten(1, 2)

    def hidden(self, media: Tensor, tokens: Tensor) -> Tensor:
        """Last hidden states of the language model.

        Texts are right-padded and attention is causal, so padding changes no real token and needs no mask here.

        Args:
            media: (N, m, dv).
            tokens: (N * R, L) token ids; R consecutive texts for each frame.

        Returns:
            (N * R, L, d), after the final norm.
        """
        if len(tokens) % len(media):
            raise ValueError(
                f"{len(tokens)} texts for {len(media)} frames: give the same number of texts for every frame."
            )
        media = media.repeat_interleave(len(tokens) // len(media), dim=0)
        sees = (tokens == self.image_token).cumsum(1).clamp(max=1)[..., None]  # (N, L, 1)
        self._conditioning.media, self._conditioning.sees = media, sees
        try:
            return self.lang_encoder.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        finally:
            self._conditioning.media = self._conditioning.sees = None

    def logits(self, vision_tokens: Tensor, tokens: Tensor) -> Tensor:
        """Next-token logits (N * R, L, vocabulary)."""
        hidden = self.hidden(self.media(vision_tokens), tokens)
        return self.lang_encoder.get_output_embeddings()(hidden)


def build_language_model(config: LanguageConfig) -> Any:
    """The `transformers` causal language model of `config`, with random weights."""
    values = dict(config.model)
    kind = values.pop("model_type", None)
    if kind is None:
        raise ConfigError("language.model has no 'model_type'; name a causal language model of transformers: 'llama'.")
    try:
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))
    except (ValueError, KeyError) as error:
        raise ConfigError(f"language.model cannot be built by transformers: {error}") from error


def decoder_layers(language_model: Any) -> nn.ModuleList:
    """The decoder layers of any `transformers` language model: the list as long as its configuration says."""
    count = language_model.config.num_hidden_layers
    for module in language_model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ConfigError(f"{type(language_model).__name__} has no list of {count} decoder layers; use another model_type.")
