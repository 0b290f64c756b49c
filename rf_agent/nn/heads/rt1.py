"""RT-1's transformer over the tokens of the last frames, and its discretised actions (arXiv:2212.06817)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.config import ActionConfig, ConfigError, HeadConfig, LossConfig, StateConfig
from rf_agent.nn.heads.base import PolicyHead, Proprioception, WindowOutput, register
from rf_agent.nn.losses import masked_mean


def to_bins(actions: Tensor, bins: int, gripper: int | None = None) -> Tensor:
    """Normalised actions (..., D) -> the bin (..., D) int64 that each entry falls into; values beyond [-1, 1] are cut.

    The bins divide [-1, 1] evenly. A gripper's entry that is above zero, which opens it, falls into the last bin, and
    any other into the first.
    """
    if gripper is not None:
        is_gripper = torch.arange(actions.shape[-1], device=actions.device) == gripper  # (D,)
        actions = torch.where(is_gripper, (actions > 0).to(actions.dtype) * 2 - 1, actions)
    return ((actions.float().clamp(-1.0, 1.0) + 1) / 2 * bins).long().clamp(max=bins - 1)


def from_bins(indices: Tensor, bins: int) -> Tensor:
    """Bins (...) int64 -> their centres (...) float32, at most 1 / bins away from what `to_bins` was given.

    An even number of bins, such as RT-1's 256, has none around zero: zero comes back as 1 / bins, so that CALVIN's
    gripper drifts by 0.08 mm a step when it should rest. An odd number (`head.bins=255`) has.
    """
    return (2 * indices.float() + 1) / bins - 1


class Attention(nn.Module):
    """Self-attention that is twice as wide inside as outside: RT-1 has 8 heads of 128 channels at a width of 512."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * 2 * dim)
        self.out = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, d), mask (L, L) true where the row's token sees the column's -> (B, L, d)."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)  # (B, heads, L, e)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a norm and around a residual.

    The feed-forward layer is a single matrix without an activation, as in the code that RT-1's authors released.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, d), mask (L, L) -> (B, L, d)."""
        x = x + self.attention(self.norm_1(x), mask)
        return x + self.drop(self.feed_forward(self.norm_2(x)))


class Decoder(nn.Module):
    """A transformer over the tokens of up to W frames, with a readout token behind those of each frame.

    Attention is causal over frames: a token sees all image tokens of its own frame and of earlier ones. A readout also
    sees itself; no other token sees it, so that a frame is read in the same way whether or not actions are predicted
    from it. RT-1's released code is causal over single tokens instead, and has an empty token for each entry of an
    action where this has one readout.

    Args:
        token_dim: width of a token as it comes in. tokens: n, image tokens of a frame. dim: d, width inside.
    """

    def __init__(
        self, token_dim: int, tokens: int, dim: int, layers: int, heads: int, window: int, dropout: float
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(token_dim, dim)
        # Learned places of the image tokens and, as nothing else comes in there, all that tells readouts apart.
        self.position = nn.Parameter(0.02 * torch.randn(window, tokens + 1, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Image tokens (B, T, n, token_dim) -> readouts (B, T, d), each of its own frame and those before it."""
        x = F.pad(self.embed(x), (0, 0, 0, 1))  # (B, T, n + 1, d): a readout behind each frame
        frames, places = x.shape[1:3]
        x = (x + self.position[:frames]).flatten(1, 2)  # (B, T * (n + 1), d)
        mask = frame_mask(frames, places, x.device)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x.unflatten(1, (frames, places))[:, :, -1])


def frame_mask(frames: int, places: int, device: torch.device | None = None) -> Tensor:
    """(L, L) true where the row's token sees the column's; L tokens of `frames` frames of `places` tokens, the last
    of which is the readout."""
    index = torch.arange(frames * places, device=device)
    frame, is_readout = index // places, index % places == places - 1
    earlier = frame[:, None] >= frame  # (L, L)
    return (earlier & ~is_readout) | (index[:, None] == index)


class TokenProprioception(Proprioception):
    """The robot's state, added to every token of a frame."""

    def __init__(self, token_dim: int, tokens: int, state: StateConfig, optional: bool) -> None:
        super().__init__(token_dim, state, optional)
        self.tokens = tokens

    def forward(self, robot: Tensor) -> Tensor:
        """State (N, S) in the robot's units -> (N, n * token_dim)."""
        return super().forward(robot).repeat(1, self.tokens)


@register("rt1")
class RT1Head(PolicyHead):
    """RT-1's action model: every entry of an action is one of `bins` equal parts of [-1, 1], learned by cross-entropy.

    All entries are treated alike, the gripper's included. RT-1 predicts one action a frame; a chunk of K actions is K
    times as many action tokens here, predicted at once and independently of each other from the frame's readout.

    Simplified: RT-1 has three more entries than an arm (a moving base) and one for the mode (arm, base, end of the
    episode), which are left out; its action tokens share one output layer, here each has its own rows.

    Args:
        dim: width of a feature: the image tokens of an observation step, one after another.
        config: `hidden`, `layers`, `heads`, `window`, `dropout`, `chunk_size` and `bins` count; `mlp` does not.
        action: what an action consists of.
        state: what proprioception reads; RT-1 itself reads none.
        tokens: image tokens of an observation step; `dim` is a multiple of it.
    """

    def __init__(self, dim: int, config: HeadConfig, action: ActionConfig, state: StateConfig, tokens: int = 1) -> None:
        # that of `PolicyHead` would have a row and a column for each number of all tokens
        super().__init__(dim, dataclasses.replace(config, proprioception=False), action, state)
        if 2 * config.hidden % config.heads:
            raise ConfigError(
                f"head.heads is {config.heads}, which does not divide twice head.hidden ({2 * config.hidden}), the "
                "width of RT-1's attention; choose a divisor."
            )
        self.tokens, self.bins, self.entries, self.opens = tokens, config.bins, action.dim, action.gripper
        token_dim = dim // tokens
        self.state_optional = config.state_optional
        if config.proprioception:
            self.proprioception = TokenProprioception(token_dim, tokens, state, config.state_optional)
        self.decoder = Decoder(
            token_dim, tokens, config.hidden, config.layers, config.heads, config.window, config.dropout
        )
        # Action tokens take the place of the MLPs that regress the motion and classify the gripper.
        self.actions = nn.Linear(config.hidden, config.chunk_size * action.dim * config.bins)
        self.gripper = None

    def recall(self, features: Tensor) -> Tensor:
        """features (B, T, f) -> readouts (B, T, hidden)."""
        self.check_length(features)
        return self.decoder(features.unflatten(-1, (self.tokens, -1)))

    def action_logits(self, x: Tensor) -> Tensor:
        """Readouts (..., hidden) -> float32 logits (..., K, D, bins)."""
        return self.actions(x).float().unflatten(-1, (self.chunk_size, self.entries, self.bins))

    def act(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Readouts (..., hidden) -> the most likely actions.

        Returns:
            pose (..., K, A), the centres of the most likely bins, so that no gradient passes; and gripper logits
            (..., K), the log odds of opening: of the bins above zero against those below. None without a gripper.
        """
        return self._decode(self.action_logits(x))

    def _decode(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        chosen = from_bins(logits.argmax(dim=-1), self.bins)  # (..., K, D)
        if self.opens is None:
            return chosen, None
        pose = torch.cat((chosen[..., : self.opens], chosen[..., self.opens + 1 :]), dim=-1)  # (..., K, A)
        gripper, half = logits[..., self.opens, :], self.bins // 2
        above, below = gripper[..., self.bins - half :], gripper[..., :half]  # an odd bin in the middle says neither
        return pose, above.logsumexp(dim=-1) - below.logsumexp(dim=-1)

    def loss(
        self, features: Tensor, actions: Tensor, mask: Tensor, config: LossConfig, action: ActionConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the bins (RT-1, Section 5.1), the mean over the entries of all actions that count.

        Arguments are those of `PolicyHead.loss`; of `config` nothing is read, as the gripper is an entry like others.

        Returns:
            The loss, and detached scalars: `pose_loss` and `gripper_loss`, the cross-entropy of these entries in nats;
            `pose_error`, the mean absolute error of the most likely action in normalised units, rounding to bins
            included; `gripper_accuracy`. The gripper's are left out where there is none.
        """
        if mask.dim() == 2:
            mask = mask[:, :, None].expand(actions.shape[:3])  # (B, T, K)
        logits = self.action_logits(self.recall(features))  # (B, T, K, D, bins)
        target = to_bins(actions, self.bins, self.opens)  # (B, T, K, D)
        entropy = F.cross_entropy(logits.flatten(0, 3), target.flatten(), reduction="none").view_as(target)
        loss = masked_mean(entropy, mask[..., None])
        return loss, self._metrics(logits.detach(), entropy.detach(), actions.float(), mask)

    def _metrics(self, logits: Tensor, entropy: Tensor, actions: Tensor, mask: Tensor) -> dict[str, Tensor]:
        out = WindowOutput(*self._decode(logits))
        is_pose = torch.arange(self.entries, device=logits.device) != (-1 if self.opens is None else self.opens)
        metrics = {
            "pose_loss": masked_mean(entropy[..., is_pose], mask[..., None]),
            "pose_error": masked_mean((out.pose - actions[..., is_pose]).abs(), mask[..., None]),
        }
        if self.opens is not None and out.gripper_logits is not None:
            opens = actions[..., self.opens] > 0
            metrics["gripper_loss"] = masked_mean(entropy[..., self.opens], mask)
            metrics["gripper_accuracy"] = masked_mean(((out.gripper_logits > 0) == opens).float(), mask)
        return metrics
