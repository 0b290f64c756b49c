"""What every network of a policy does: sequences and windows of observation steps in, actions or a loss out.

Tensors only. The history is a value that is passed in and handed back; files, NumPy and text live elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rf_agent.errors import UserError
from rf_agent.nn.heads import History, PolicyHead, WindowOutput, append
from rf_agent.nn.language import longest_text
from rf_agent.nn.losses import POSE_LOSSES
from rf_agent.normalization import normalize_actions
from rf_agent.policy_config import ConfigError, PolicyConfig


class TextInputs(NamedTuple):
    """What the model reads at N observation steps besides the images."""

    tokens: Tensor
    """(N, L) ids of the prompts, right-padded."""
    mask: Tensor
    """(N, L) true for real tokens."""
    robot_state: Tensor | None = None
    """(N, S) measured state of the robot, for heads with proprioception; NaN where it is optional and not known."""
    pool_padding: bool = False
    """Whether to pool over padding too."""

    def at(self, rows: Tensor) -> TextInputs:
        """Those of some of the steps."""
        state = None if self.robot_state is None else self.robot_state[rows]
        return self._replace(tokens=self.tokens[rows], mask=self.mask[rows], robot_state=state)


class PolicyModel(nn.Module):
    """A network that encodes each frame once, reads it with the instruction, and acts by what it remembers.

    Subclasses make the parts: `head`, and what `encode_vision` and `fuse` need.

    Shapes: N observation steps, B sequences of T steps, F frames seen at one step (1, but for `fc_hist`), V views,
    n vision tokens of width dv per view, L text tokens, f feature width, K actions per chunk of D entries, A of them
    regressed (all but the gripper), S entries of the robot's state.

    Attributes:
        config: the whole configuration.
        head: features of the last observation steps to actions.
        parts: prefixes of parameter names and the parts of a policy that they belong to
            (`rf_agent.finetuning.trainable`).
        always_frozen: parts that no set of what learns includes but `full`; `--train-language` does, too.

    Raises:
        ConfigError: something is missing in the configuration, such as the size of an action.
    """

    config: PolicyConfig
    head: PolicyHead
    parts: ClassVar[dict[str, str]]
    always_frozen: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        config.__post_init__()  # it may have been changed in place
        config.check_complete()
        if config.loss.pose not in POSE_LOSSES:
            known = ", ".join(sorted(POSE_LOSSES))
            raise ConfigError(f"loss.pose is {config.loss.pose!r}, but known losses are {known}.")
        self.config = config

    # --- its parts ---

    @property
    def vision_encoder(self) -> Any:
        """The vision tower (`rf_agent.nn.towers.VisionTower`)."""
        raise NotImplementedError

    @property
    def language_model(self) -> Any:
        """The language model of `transformers` that reads the instruction."""
        raise NotImplementedError

    @property
    def longest_text(self) -> int | None:
        """Tokens that its language model reads at most; None where that does not say."""
        return longest_text(self.language_model)

    @property
    def runs_language_model(self) -> bool:
        """Whether texts go through the language model's layers, so that these can learn."""
        return True

    @property
    def width(self) -> int:
        """Width of the language model, which says which kernels suit a CPU."""
        raise NotImplementedError

    def pretrained_parameters(self, vl_pretrained: bool = True) -> Iterable[nn.Parameter]:
        """Those that come from a pre-trained model, which learn at a lower rate; without `vl_pretrained` resampler and
        cross-attention do not (`begin_from`)."""
        raise NotImplementedError

    @property
    def cross_attention_blocks(self) -> list[str]:
        """Names of its cross-attention layers, first to last; empty where there are none."""
        return []

    @property
    def unread_blocks(self) -> list[str]:
        """Those of them that the head does not see, so that imitation teaches them nothing."""
        return []

    @property
    def reads_padding(self) -> bool:
        """Whether a text means something else with more padding."""
        return False

    @property
    def stages(self) -> dict[str, list[nn.Module]]:
        """The modules that a step runs through before the head, by what they are called in measurements."""
        raise NotImplementedError

    def fsdp_blocks(self) -> list[nn.Module]:
        """The parts that FSDP gathers one at a time."""
        return []

    def checkpoint_gradients(self, rows: int, context: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """Read so many frames at a time in training, and compute twice, to save memory; 0 for all at once.

        The second time computes within a `context`, as the first one does for its caller's sake.
        """
        if rows:
            raise UserError(
                f"--gradient-checkpointing is for RoboFlamingo: a policy of type {self.config.type!r} has none"
            )

    # --- from pixels to features ---

    def encode_vision(self, pixels: Tensor) -> Tensor:
        """The vision tower alone: pixels (N, V, 3, S, S) normalised, in any number format -> vision tokens
        (N, V, n, dv)."""
        return self.vision_encoder(pixels.to(next(self.vision_encoder.parameters()).dtype))

    def encode_frames(self, vision_tokens: Tensor) -> Tensor:
        """What does not depend on a frame's place in a window or on the instruction, so that it is computed once for
        each frame: vision tokens (N, V, n, dv) -> (N, ...)."""
        return vision_tokens

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape of one encoded frame."""
        return len(self.config.views), self.vision_encoder.tokens, self.vision_encoder.dim

    def fuse(self, frames: Tensor, text: TextInputs) -> Tensor:
        """Features (N, f) of encoded frames (N, F, ...), oldest first, read with a text."""
        raise NotImplementedError

    def _fuse_windows(self, frames: Tensor, last: Tensor, counts: Tensor, text: TextInputs) -> Tensor:
        """Features (N, f) of windows that hold different numbers of frames.

        Args:
            frames: (M, ...) all encoded frames.
            last: (N,) index of each window's last frame; the others stand before it.
            counts: (N,) frames in each window. Windows of equal length are read together.
        """
        rows, parts = [], []
        for count in counts.unique().tolist():
            (same,) = torch.nonzero(counts == count, as_tuple=True)
            indices = last[same, None] + torch.arange(1 - count, 1, device=last.device)  # (r, F)
            rows.append(same)
            parts.append(self.fuse(frames[indices], text.at(same)))
        return torch.cat(parts)[torch.cat(rows).argsort()]

    def features(
        self,
        vision_tokens: Tensor,
        tokens: Tensor,
        mask: Tensor,
        robot_state: Tensor | None = None,
        pool_padding: bool = False,
    ) -> Tensor:
        """Features of single observation steps.

        Args:
            vision_tokens: (N, V, n, dv), or (N, F, V, n, dv) with the oldest frame first, from `encode_vision`.
            tokens: (N, L) ids, right-padded.
            mask: (N, L) true for real tokens.
            robot_state: (N, S), for heads with proprioception.
            pool_padding: pool over padding too.

        Returns:
            (N, f): the hidden states that `language.lm_feature` names, pooled by the head.

        Raises:
            ValueError: more frames than the policy sees at one step.
        """
        frames = vision_tokens if vision_tokens.dim() == 5 else vision_tokens[:, None]
        if frames.shape[1] > self.head.frames:
            raise ValueError(
                f"an observation step of {frames.shape[1]} frames was given, but the policy sees at most "
                f"{self.head.frames} at once: give its last frames."
            )
        encoded = self.encode_frames(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return self.fuse(encoded, TextInputs(tokens, mask, robot_state, pool_padding))

    def sequence_features(
        self, vision_tokens: Tensor, valid: Tensor, tokens: Tensor, mask: Tensor, robot_state: Tensor | None = None
    ) -> Tensor:
        """Features of every step of some sequences, as training supervises them. Each frame is encoded once.

        A head that sees several frames sees those of the same sequence, as if an episode began with it.

        Args:
            vision_tokens: (M, V, n, dv), one for each valid step, sequence by sequence.
            valid: (B, T) true for the steps there are, M of them, at the beginning of each sequence.
            tokens, mask: (B, L).
            robot_state: (M, S), for heads with proprioception.

        Returns:
            (B, T, f), zero where there is no step.
        """
        counts = valid.sum(dim=1)
        repeated = tokens.repeat_interleave(counts, dim=0), mask.repeat_interleave(counts, dim=0)
        text = TextInputs(*repeated, robot_state, self.config.head.pool_padding)
        frames = self.encode_frames(vision_tokens)
        if self.head.frames == 1:
            features = self.fuse(frames[:, None], text)
        else:
            seen = valid.cumsum(dim=1)[valid].clamp(max=self.head.frames)
            features = self._fuse_windows(frames, torch.arange(len(frames), device=frames.device), seen, text)
        return features.new_zeros(*valid.shape, features.shape[-1]).masked_scatter(valid[..., None], features)

    # --- from features to actions ---

    def step(self, pixels: Tensor, text: TextInputs, history: History) -> tuple[Tensor, Tensor | None, History]:
        """One observation step of N environments, from pixels to actions.

        Args:
            pixels: (N, V, 3, S, S) normalised.
            text: of the N steps.
            history: not changed.

        Returns:
            pose (N, K, A), gripper logits (N, K) or None, and the history with this step.
        """
        frames = self.encode_frames(self.encode_vision(pixels))
        if self.head.frames == 1:
            return self.head.step(self.fuse(frames[:, None], text), history)
        history = append(history, frames)
        n, window = history.memory.shape[:2]
        last = torch.arange(n, device=frames.device) * window + history.length - 1
        past = history.memory.flatten(0, 1).to(frames.dtype)
        return *self.head.act(self._fuse_windows(past, last, history.length, text)), history

    def window(
        self, pixels: Tensor, tokens: Tensor, token_mask: Tensor, robot_state: Tensor | None = None
    ) -> WindowOutput:
        """Actions at every step of a window, as if the history began with its first step.

        Heads that see all frames of the window at once (`fc_hist`) act at the last step alone: T is 1 in what they
        return.

        Args:
            pixels: (B, T, V, 3, S, S) normalised.
            tokens, token_mask: (B, L).
            robot_state: (B, T, S), for heads with proprioception.
        """
        vision_tokens = self.encode_vision(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        return self.head.window(self._window_features(vision_tokens, tokens, token_mask, robot_state))

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Imitation loss of a batch, and metrics.

        Args:
            batch: `pixels` (B, T, V, 3, S, S) or `vision_tokens` (B, T, V, n, dv), `tokens` and `token_mask` (B, L),
                `actions` (B, T, K, D) in the environment's units, `mask` (B, T) true for steps that count, and for
                heads with proprioception the robot's state (B, T, S) under its name in the observation (`robot_obs`
                for CALVIN). Where `window` acts at the last step alone, that one counts.
        """
        if "vision_tokens" in batch:
            vision_tokens = batch["vision_tokens"]
        else:
            vision_tokens = self.encode_vision(batch["pixels"].flatten(0, 1)).unflatten(0, batch["pixels"].shape[:2])
        state = batch.get(self.config.state.key)
        features = self._window_features(vision_tokens, batch["tokens"], batch["token_mask"], state)
        acted = features.shape[1]
        return self.imitation_loss(features, batch["actions"][:, -acted:], batch["mask"][:, -acted:])

    def imitation_loss(self, features: Tensor, actions: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of windows, and metrics, see `PolicyHead.loss`.

        Args:
            features: (B, T, f) of consecutive observation steps.
            actions: (B, T, K, D) demonstrated, in the environment's units.
            mask: (B, T) or (B, T, K) true for what counts.

        Raises:
            ValueError: the actions have another shape, which a robot without a gripper would not notice.
        """
        expected = (*features.shape[:2], self.config.head.chunk_size, self.config.action.dim)
        if actions.shape != expected:
            raise ValueError(f"actions have shape {tuple(actions.shape)}: give (B, T, K, D) = {expected}")
        return self.head.loss(
            features, normalize_actions(actions, self.config.action), mask, self.config.loss, self.config.action
        )

    def _window_features(
        self, vision_tokens: Tensor, tokens: Tensor, mask: Tensor, robot_state: Tensor | None
    ) -> Tensor:
        """Vision tokens (B, T, V, n, dv), text (B, L) -> features (B, T, f) of every step, or of the last."""
        if self.head.frames > 1:
            now = None if robot_state is None else robot_state[:, -1]
            return self.features(vision_tokens, tokens, mask, now, self.config.head.pool_padding)[:, None]
        valid = torch.ones(vision_tokens.shape[:2], dtype=torch.bool, device=vision_tokens.device)
        robot_state = None if robot_state is None else robot_state.flatten(0, 1)
        return self.sequence_features(vision_tokens.flatten(0, 1), valid, tokens, mask, robot_state)
