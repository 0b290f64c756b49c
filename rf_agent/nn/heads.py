"""Policy heads: pooled features of the last looks to a chunk of actions.

A head is a pure function of the window it is given. To add one: subclass `PolicyHead`, implement `recall`,
add it to `HEADS`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rf_agent.config import ConfigError, HeadConfig


class History(NamedTuple):
    """The last looks of each environment, oldest first, padded at the end."""

    features: Tensor
    """(N, W, d)."""
    length: Tensor
    """(N,) int64: how many of the W are real."""


def max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Largest value of each channel over the real tokens.

    hidden (N, L, d), mask (N, L) true where real -> (N, d).

    The reference implementation pools over padding too, so that its features depend on the longest text of the batch.
    """
    return hidden.masked_fill(~mask.bool()[..., None], float("-inf")).amax(dim=1)


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


class PolicyHead(nn.Module):
    """Base of the heads: features of up to W looks to poses and grippers.

    Args:
        dim: width d of a feature.
        config: `hidden` is the width that `recall` returns.
    """

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.dim, self.window_size, self.chunk = dim, config.window, config.chunk
        self.actions = MLP(config.hidden, config.mlp, 6 * config.chunk)
        self.gripper = MLP(config.hidden, config.mlp, config.chunk)

    def recall(self, features: Tensor) -> Tensor:
        """features (B, T, d), T <= W -> (B, T, hidden), each from itself and those before it."""
        raise NotImplementedError

    def window(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Actions at every look of a window.

        Args:
            features: (B, T, d) consecutive looks, T <= W.

        Returns:
            pose (B, T, K, 6) in [-1, 1] and gripper logits (B, T, K), above zero opens.

        Raises:
            ValueError: T exceeds the window.
        """
        length = features.shape[1]
        if length > self.window_size:
            raise ValueError(
                f"a window of {length} looks was given, but the head sees at most {self.window_size}; cut it."
            )
        x = self.recall(features)
        pose = self.actions(x).tanh().unflatten(-1, (self.chunk, 6))
        return pose, self.gripper(x)

    def empty_history(self, n: int) -> History:
        """A history without looks for n environments."""
        parameter = next(self.parameters())
        features = parameter.new_zeros(n, self.window_size, self.dim)
        return History(features, torch.zeros(n, dtype=torch.long, device=parameter.device))

    def step(self, feature: Tensor, history: History) -> tuple[Tensor, Tensor, History]:
        """Append a look and act on the window that ends with it.

        Args:
            feature: (N, d).
            history: not changed.

        Returns:
            pose (N, K, 6), gripper logits (N, K), and the history with this look.
        """
        features, length = history
        full = (length == self.window_size)[:, None, None]
        features = torch.where(full, features.roll(-1, dims=1), features)
        rows, last = torch.arange(len(feature), device=feature.device), length.clamp(max=self.window_size - 1)
        features = features.index_put((rows, last), feature.to(features.dtype))
        pose, gripper = self.window(features[:, : int(last.max()) + 1])
        return pose[rows, last], gripper[rows, last], History(features, last + 1)


class LSTMHead(PolicyHead):
    """An LSTM that starts from zero at the first look of the window (paper, Fig. 3a; the reference's default)."""

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__(dim, config)
        dropout = config.dropout if config.layers > 1 else 0.0
        self.rnn = nn.LSTM(dim, config.hidden, config.layers, batch_first=True, dropout=dropout)

    def recall(self, features: Tensor) -> Tensor:
        """features (B, T, d) -> (B, T, hidden)."""
        return self.rnn(features)[0]


HEADS: dict[str, type[PolicyHead]] = {"lstm": LSTMHead}


def build_head(dim: int, config: HeadConfig) -> PolicyHead:
    """The head that `config.type` names. Raises ConfigError with the known ones."""
    if config.type not in HEADS:
        raise ConfigError(f"head.type is {config.type!r}, but known heads are {', '.join(HEADS)}.")
    return HEADS[config.type](dim, config)
