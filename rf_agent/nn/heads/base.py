"""What all policy heads share: pooling, proprioception, the MLPs of motion and gripper, stepping through a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rf_agent.config import ActionConfig, ConfigError, HeadConfig, LossConfig, StateConfig
from rf_agent.nn.losses import action_loss


class History(NamedTuple):
    """What a head remembers of each environment: a value, handed in and out."""

    memory: Tensor
    """(N, *`PolicyHead.memory_shape`), oldest first, padded at the end; may be more precise than the head."""
    length: Tensor
    """(N,) int64: how many observation steps it holds, W at most."""


class WindowOutput(NamedTuple):
    """Predictions at every observation step of a window."""

    pose: Tensor
    """(B, T, K, A) in [-1, 1]: all entries of an action but the gripper (6 in CALVIN)."""
    gripper_logits: Tensor | None
    """(B, T, K), above zero opens; None for robots without a gripper."""


def append(history: History, item: Tensor) -> History:
    """A history with one more observation step, without the oldest where it was full.

    Args:
        history: of memory (N, W, ...); not changed.
        item: (N, ...).
    """
    memory, length = history
    window = memory.shape[1]
    full = (length == window).view(-1, *(1,) * (memory.dim() - 1))
    memory = torch.where(full, memory.roll(-1, dims=1), memory)
    rows, last = torch.arange(len(item), device=item.device), length.clamp(max=window - 1)
    return History(memory.index_put((rows, last), item.to(memory.dtype)), last + 1)


def max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Largest value of each channel over the real tokens.

    hidden (N, L, d), mask (N, L) true where real -> (N, d).

    The reference implementation pools over padding too, so that its features depend on the longest text of the batch.
    """
    return hidden.masked_fill(~mask.bool()[..., None], float("-inf")).amax(dim=1)


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of each channel over the real tokens: hidden (N, L, d), mask (N, L) -> (N, d)."""
    weights = mask.to(hidden.dtype)
    return (hidden * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)


POOLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"max": max_pool, "mean": mean_pool}


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: tuple[int, ...], out: int) -> None:
        super().__init__()
        sizes = (dim, *hidden, out)
        layers: list[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., out)."""
        return self.mlp(x)


class Proprioception(nn.Module):
    """The robot's state as something to add to a feature of width `dim` (the reference's `use_state`).

    Args:
        dim: width.
        state: which entries are read.
        optional: whether a state may be unknown: a row that is not finite, for which nothing is added.
    """

    plain: Tensor
    angles: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, state: StateConfig, optional: bool = False) -> None:
        super().__init__()
        self.optional = optional
        self.arm = nn.Linear(state.numbers, dim)
        # The last entry is counted from the end: the reference implementation cuts what neither of the two reads.
        self.binary = -1 if state.binary == state.dim - 1 else state.binary
        self.gripper = nn.Embedding(2, dim) if state.binary is not None else None
        self.join = nn.Linear(dim if self.gripper is None else 2 * dim, dim)
        # They come from the configuration, so that no checkpoint needs to hold them.
        plain = [entry for entry in state.entries if entry not in state.angles]
        for name, indices in (("plain", plain), ("angles", state.angles)):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.long), persistent=False)
        self.register_buffer("mean", torch.tensor(state.mean or [0.0] * state.numbers), persistent=False)
        self.register_buffer("std", torch.tensor(state.std or [1.0] * state.numbers), persistent=False)

    def zero_init(self) -> None:
        """Add nothing, until it has learned to: a head that has learned without begins as it was."""
        nn.init.zeros_(self.join.weight)
        nn.init.zeros_(self.join.bias)

    def forward(self, robot: Tensor) -> Tensor:
        """State (N, S) in the robot's units -> (N, dim)."""
        known = robot.isfinite().all(dim=-1, keepdim=True) if self.optional else None
        if known is not None:
            robot = robot.where(known, 0.0)  # else the gradient of what is left out is NaN
        angles = robot[:, self.angles].float()
        numbers = torch.cat([robot[:, self.plain].float(), angles.sin(), angles.cos()], dim=-1)  # (N, numbers)
        numbers = (numbers - self.mean.float()) / self.std.float()
        parts = [self.arm(numbers.to(self.arm.weight.dtype)).relu()]
        if self.gripper is not None:
            parts.append(self.gripper((robot[:, self.binary] > 0).long()).relu())
        joined: Tensor = self.join(torch.cat(parts, dim=-1))
        return joined if known is None else joined * known


class PolicyHead(nn.Module):
    """Base of the heads. A head is a pure function of what it is given; `history` is a value.

    N rows, L text tokens, d width of the hidden states, f width of a feature, W window, K chunk, A entries of an
    action that are regressed ("pose": the motion, without a gripper).

    Args:
        dim: d.
        config: `hidden` is the width that `recall` returns.
        action: what an action consists of.
        state: what proprioception reads.
        feature_dim: f; d if not given.

    Attributes:
        window_size: observation steps that `recall` mixes (W).
        frames: frames that the language model sees at one step; with more than one, the history is of frames.
        position: (frames, width of a vision token) or None: added to the vision tokens of a step's frames, oldest
            first, to tell them apart.
    """

    def __init__(
        self, dim: int, config: HeadConfig, action: ActionConfig, state: StateConfig, feature_dim: int | None = None
    ) -> None:
        super().__init__()
        self.regressed = len(action.regressed)
        self.feature_dim = feature_dim or dim
        self.window_size, self.frames, self.chunk_size = config.window, 1, config.chunk_size
        self.position: nn.Parameter | None = None
        self.reduce = POOLS[config.pooling]
        self.state_optional = config.state_optional
        self.proprioception: Proprioception | None = None
        if config.proprioception:
            self.proprioception = Proprioception(self.feature_dim, state, self.state_optional)
        self.actions: nn.Module = MLP(config.hidden, config.mlp, self.regressed * config.chunk_size)
        self.gripper: nn.Module | None = None
        if action.gripper is not None:
            self.gripper = MLP(config.hidden, config.mlp, config.chunk_size)

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (N, L, d) of an observation step, mask (N, L) true for tokens that count -> (N, f)."""
        return self.reduce(hidden, mask)

    def feature(self, hidden: Tensor, mask: Tensor, robot: Tensor | None = None) -> Tensor:
        """What the history remembers of an observation step.

        Args:
            hidden: (N, L, d).
            mask: (N, L) true for tokens that count.
            robot: (N, S) state of the robot, NaN where it is not known; needed with proprioception unless the head
                has learned without, too (`head.state_dropout`), and ignored without.

        Returns:
            (N, f).
        """
        feature = self.pool(hidden, mask)
        if self.proprioception is None or (robot is None and self.state_optional):
            return feature
        if robot is None:
            raise ValueError("no state of the robot was given, but the head reads it (head.proprioception); add it.")
        return feature + self.proprioception(robot)

    def recall(self, features: Tensor) -> Tensor:
        """features (B, T, f) of T <= W observation steps -> (B, T, hidden), each from itself and those before it."""
        raise NotImplementedError

    def window(self, features: Tensor) -> WindowOutput:
        """Actions at every observation step of a window.

        Args:
            features: (B, T, f) consecutive observation steps, T <= W.

        Returns:
            pose (B, T, K, A) in [-1, 1] and gripper logits (B, T, K), above zero opens; None without a gripper.

        Raises:
            ValueError: T exceeds the window.
        """
        return WindowOutput(*self.act(self.recall(features)))

    def loss(
        self, features: Tensor, actions: Tensor, mask: Tensor, config: LossConfig, action: ActionConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the head learns from windows of demonstrations, and metrics.

        Args:
            features: (B, T, f) consecutive observation steps, T <= W.
            actions: (B, T, K, D) demonstrated, normalised.
            mask: (B, T) observation steps or (B, T, K) actions that count.
            config: how errors are weighed.
            action: what an action consists of.

        Returns:
            The loss, and detached scalars; see `rf_agent.nn.losses.action_loss`, which is what it is by default.
        """
        out = self.window(features)
        return action_loss(out.pose, out.gripper_logits, actions, mask, config, action.gripper)

    def act(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(..., hidden) -> pose (..., K, A), gripper logits (..., K) or None."""
        pose = self.actions(x).tanh().unflatten(-1, (self.chunk_size, self.regressed))
        return pose, None if self.gripper is None else self.gripper(x)

    def memory_shape(self, frame: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one environment's memory; `frame` is that of what is kept of a frame."""
        return (self.frames, *frame) if self.frames > 1 else (self.window_size, self.feature_dim)

    def empty_history(self, n: int, frame: tuple[int, ...] = ()) -> History:
        """A history without observation steps for n environments; `frame` as in `memory_shape`."""
        parameter = next(self.parameters())
        memory = parameter.detach().new_zeros(n, *self.memory_shape(frame))
        return History(memory, torch.zeros(n, dtype=torch.long, device=parameter.device))

    def step(self, feature: Tensor, history: History) -> tuple[Tensor, Tensor | None, History]:
        """Append an observation step and act on the window that ends with it.

        Args:
            feature: (N, f).
            history: not changed.

        Returns:
            pose (N, K, A), gripper logits (N, K) or None, and the history with this observation step.
        """
        history = append(history, feature)
        rows = torch.arange(len(feature), device=feature.device)
        pose, gripper = self.act(self.recall(history.memory.to(feature.dtype))[rows, history.length - 1])
        return pose, gripper, history

    def mark_frames(self, vision_dim: int) -> None:
        """Learn what tells frames apart (`head.frame_position`). Raises ConfigError where a step is one frame."""
        raise ConfigError("head.frame_position is set, but only head.type 'fc_hist' sees several frames at once.")

    def check_length(self, features: Tensor) -> None:
        """Raise ValueError for features (B, T, f) of more observation steps than the window has."""
        if features.shape[1] > self.window_size:
            raise ValueError(
                f"a window of {features.shape[1]} steps was given, but the head sees at most {self.window_size}: "
                "cut it."
            )

    @classmethod
    def reference_tensors(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A head of the reference implementation as one of ours.

        Args:
            tensors: its `lm_head.*` tensors, by their names without that prefix.

        Returns:
            The tensors by our names, ready to be loaded strictly.
        """
        names = {
            "embed_arm_state.0.": "proprioception.arm.",
            "embed_gripper_state.0.": "proprioception.gripper.",
            "embed_state.": "proprioception.join.",
        }

        def rename(name: str) -> str:
            for theirs, ours in names.items():
                if name.startswith(theirs):
                    return ours + name[len(theirs) :]
            return name

        return {rename(name): tensor for name, tensor in tensors.items()}


HEADS: dict[str, type[PolicyHead]] = {}
"""Heads by the name in `head.type`."""


def register(name: str) -> Callable[[type[PolicyHead]], type[PolicyHead]]:
    """Class decorator: `head.type` may be `name`."""

    def add(head: type[PolicyHead]) -> type[PolicyHead]:
        HEADS[name] = head
        return head

    return add


def build_head(
    dim: int, config: HeadConfig, action: ActionConfig, state: StateConfig | None = None, vision_dim: int = 0
) -> PolicyHead:
    """The head that `config.type` names.

    Args:
        dim: width of the hidden states.
        config: its values.
        action: what an action consists of.
        state: what proprioception reads.
        vision_dim: width of the vision tokens, for heads that mark them.

    Raises:
        ConfigError: there is no such head (the known ones are named), or it does not fit its values.
    """
    if config.type not in HEADS:
        raise ConfigError(f"head.type is {config.type!r}, but known heads are {', '.join(sorted(HEADS))}.")
    head = HEADS[config.type](dim, config, action, state or StateConfig())
    if config.frame_position:
        head.mark_frames(vision_dim)
    return head
