"""Flamingo: a vision tower, a perceiver resampler and a language model with gated cross-attention."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rf_agent.config import ConfigError, RoboFlamingoConfig
from rf_agent.nn.cross_attention import Conditioning, CrossAttend, GatedCrossAttentionBlock
from rf_agent.nn.fusion import arrange, build_fusion
from rf_agent.nn.language import EarlyExit, EarlyExitHook, build_language_model, decoder_layers
from rf_agent.nn.resampler import PerceiverResampler
from rf_agent.nn.towers import VisionTower


class Flamingo(nn.Module):
    """A vision-language model that reads an observation step (all views of one or several frames) and one text.

    N steps, F frames of a step, V views, n vision tokens per view, G groups of l latents (see `rf_agent.nn.fusion`),
    m = G * l * F media tokens, P passes of the text, L text tokens, d width of the language model.

    Args:
        config: the whole policy's; the head is not used.
        image_token: id of `<image>`; text before it sees no media.

    Attributes:
        dim: d. feature_dim: width of `hidden`, P * d.
        checkpoint_rows: frames that are read at a time in training, to save memory (gradient checkpointing); 0 for
            all, with nothing computed twice.
        recompute_context: makes the context in which they are read the second time, where the first one has a context
            of torch functions.
    """

    def __init__(self, config: RoboFlamingoConfig, image_token: int) -> None:
        super().__init__()
        self.image_token = image_token
        self.vision_encoder = VisionTower(config.vision, config.image.size, len(config.views))
        r = config.resampler
        self.perceiver = PerceiverResampler(
            self.vision_encoder.dim, r.layers, r.latents, r.heads, r.head_dim, r.ff_mult
        )
        self.fusion = build_fusion(config.fusion, len(config.views))
        self.other_perceivers = nn.ModuleList(  # of further views, where each has its own
            copy.deepcopy(self.perceiver) for _ in range(self.fusion.resamplers - 1)
        )
        language = config.language
        self.lang_encoder = build_language_model(language)
        self.dim: int = self.lang_encoder.get_input_embeddings().weight.shape[1]
        hidden = getattr(self.lang_encoder.config, "hidden_size", self.dim)
        if hidden != self.dim:
            raise ConfigError(
                f"language.model embeds words in {self.dim} numbers, but its layers have {hidden}; choose a language "
                "model in which both are equal."
            )
        self.feature_dim = self.fusion.passes * self.dim
        layers = decoder_layers(self.lang_encoder)
        if not 1 <= language.cross_attention_every <= len(layers):
            raise ConfigError(
                f"language.cross_attention_every is {language.cross_attention_every}, but the model has "
                f"{len(layers)} layers; choose 1 to {len(layers)}."
            )
        self.checkpoint_rows = 0
        self.recompute_context: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._conditioning = Conditioning()
        self.exits_early = language.lm_feature == "last_block_input"
        if self.exits_early:  # before the hook of the last cross-attention, which the feature does not see either
            layers[-1].register_forward_pre_hook(EarlyExitHook(self._conditioning), with_kwargs=True)
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
        """pixels (N, V, 3, S, S) normalised, in any number format -> vision tokens (N, V, n, dv)."""
        return self.vision_encoder(pixels.to(next(self.vision_encoder.parameters()).dtype))

    def resample(self, vision_tokens: Tensor) -> Tensor:
        """vision tokens (N, V, n, dv) of single frames -> latents (N, G, l, dv)."""
        return self.fusion.resample((self.perceiver, *self.other_perceivers), vision_tokens)

    def media(self, vision_tokens: Tensor) -> Tensor:
        """vision tokens (N, V, n, dv) of single frames -> media tokens (N, m, dv)."""
        return arrange(self.resample(vision_tokens)[:, None])

    def image_media(self, pixels: Tensor) -> Tensor:
        """Images without a robot, in the place of the first view: pixels (N, I, 3, S, S) of I images that a text is
        about -> media tokens (N, I * l, dv), for `logits` with `images=I`."""
        single = self.media(self.encode_vision(pixels.flatten(0, 1)[:, None]))  # (N * I, l, dv)
        return single.unflatten(0, pixels.shape[:2]).flatten(1, 2)

    def hidden(self, media: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """The hidden states of the language model that the head reads, as `language.lm_feature` says.

        Texts are right-padded and attention is causal, so padding changes no real token and needs no mask.

        Args:
            media: (N, m, dv).
            tokens: (N * R, L) token ids; R consecutive texts for each frame.
            mask: (N * R, L) true for tokens that others may attend to; matters to the hidden states of padding
                only, for those who read them.

        Returns:
            (N * R, L, P * d).
        """
        return self._passes(media, tokens, mask, early_exit=self.exits_early).flatten(2)

    def logits(
        self,
        media: Tensor,
        tokens: Tensor,
        mask: Tensor | None = None,
        images: int | None = None,
        at: Tensor | None = None,
    ) -> Tensor:
        """Next-token logits (N * R, L, vocabulary), always of all layers.

        Those of several passes are averaged.

        Args:
            media, tokens, mask: as of `hidden`.
            images: the media are those of so many images (`image_media`) instead of a robot's views. They are read in
                one pass, and a token attends to the last image before it: the i-th `<image>` of the text is the i-th.
            at: (N * R,) the only positions that are asked for; the result is then (N * R, vocabulary).
        """
        if images is None:
            final = self._passes(media, tokens, mask, early_exit=False)  # (N * R, L, P, d)
        else:
            final = self._read(media, tokens, mask, early_exit=False, images=images)[:, :, None]
        if at is not None:
            final = final[torch.arange(len(at), device=at.device), at]  # (N * R, P, d)
        return self.lang_encoder.get_output_embeddings()(final).mean(dim=-2)

    def _passes(self, media: Tensor, tokens: Tensor, mask: Tensor | None, early_exit: bool) -> Tensor:
        """Hidden states (N * R, L, P, d): of each text with each part of its media."""
        if len(tokens) % len(media):
            raise ValueError(
                f"{len(tokens)} texts for {len(media)} frames: give the same number of texts for every frame."
            )
        n, passes = len(media), self.fusion.passes
        if passes == 1:
            return self._read(media, tokens, mask, early_exit)[:, :, None]
        parts = media.unflatten(1, (passes, -1)).flatten(0, 1)  # (N * P, m / P, dv)

        def for_each_part(x: Tensor) -> Tensor:  # (N * R, L) -> (N * P * R, L)
            return x.unflatten(0, (n, 1, -1)).expand(-1, passes, -1, -1).flatten(0, 2)

        texts = for_each_part(tokens)
        hidden = self._read(parts, texts, None if mask is None else for_each_part(mask), early_exit)
        return hidden.unflatten(0, (n, passes, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1)

    def _read(self, media: Tensor, tokens: Tensor, mask: Tensor | None, early_exit: bool, images: int = 1) -> Tensor:
        """Hidden states after the final norm, or before the last decoder layer with `early_exit`.

        In training with `checkpoint_rows`, so many frames at a time: what lies between is computed again for the
        gradients, by the whole language model at once, as its cross-attention hooks need this call's media.
        """
        rows = self.checkpoint_rows
        if not rows or not self.training or not torch.is_grad_enabled():
            return self._read_at_once(media, tokens, mask, early_exit, images)
        texts = len(tokens) // len(media)
        parts = []
        for first in range(0, len(media), rows):
            own = slice(first * texts, (first + rows) * texts)
            given = (media[first : first + rows], tokens[own], None if mask is None else mask[own], early_exit, images)
            parts.append(checkpoint(self._read_at_once, *given, use_reentrant=False, context_fn=self._contexts))
        return torch.cat(parts)

    def _contexts(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), self.recompute_context()

    def _read_at_once(
        self, media: Tensor, tokens: Tensor, mask: Tensor | None, early_exit: bool, images: int
    ) -> Tensor:
        media = media.repeat_interleave(len(tokens) // len(media), dim=0)
        begun = (tokens == self.image_token).cumsum(1)[..., None]  # (N, L, 1) images before or at a token
        reachable = None
        if images > 1:
            number = torch.arange(images, device=media.device).repeat_interleave(media.shape[1] // images)  # (m,)
            reachable = (
                begun.clamp(1, images) - 1 == number
            )  # (N, L, m); text before the first image must reach one too
        now = self._conditioning
        now.media, now.sees, now.mask, now.early_exit = media, begun.clamp(max=1), reachable, early_exit
        try:
            return self.lang_encoder.base_model(
                input_ids=tokens, attention_mask=mask, use_cache=False
            ).last_hidden_state
        except EarlyExit as early:
            return early.args[0]
        finally:
            now.media, now.sees, now.mask, now.early_exit = None, None, None, False


def fsdp_blocks(flamingo: Flamingo) -> list[nn.Module]:
    """The parts that FSDP gathers one at a time: decoder layers and cross-attention blocks.

    A last layer that early exits end in is left to the whole: its forward pass never returns.
    """
    layers = list(decoder_layers(flamingo.lang_encoder))
    return [*flamingo.gated_cross_attn_layers.values(), *(layers[:-1] if flamingo.exits_early else layers)]
