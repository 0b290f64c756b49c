"""The LSTM over the features of the last observation steps (paper, Fig. 3a; the reference's default)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.config import ActionConfig, HeadConfig, StateConfig
from rf_agent.nn.heads.base import History, PolicyHead, register


@register("lstm")
class LSTMHead(PolicyHead):
    """An LSTM that starts from zero at the first observation step of the window.

    Acting does not run the window again at every step. W chains of states are kept, each begun at another step;
    a step advances them all at once, and the oldest, which began W observation steps ago, acts and ends.
    """

    def __init__(self, dim: int, config: HeadConfig, action: ActionConfig, state: StateConfig) -> None:
        super().__init__(dim, config, action, state)
        dropout = config.dropout if config.layers > 1 else 0.0
        self.rnn = nn.LSTM(dim, config.hidden, config.layers, batch_first=True, dropout=dropout)

    def recall(self, features: Tensor) -> Tensor:
        """features (B, T, f) -> (B, T, hidden)."""
        self.check_length(features)
        return self.rnn(features)[0]

    def memory_shape(self, frame: tuple[int, ...]) -> tuple[int, ...]:
        """(W chains, layers, h and c, hidden); the oldest chain first."""
        return self.window_size, self.rnn.num_layers, 2, self.rnn.hidden_size

    def step(self, feature: Tensor, history: History) -> tuple[Tensor, Tensor | None, History]:
        """As `PolicyHead.step`; without dropout."""
        memory, length = history
        n, window = memory.shape[:2]
        full = (length == window)[:, None, None, None, None]
        chains = torch.where(full, memory.roll(-1, dims=1), memory)
        steps = length.clamp(max=window - 1)  # chains under way, and the place of the one that begins now
        begun = torch.arange(window, device=steps.device) < steps[:, None]  # (N, W)
        chains = torch.where(begun[..., None, None, None], chains, 0.0).flatten(0, 1)  # (N * W, layers, 2, hidden)
        x, states = feature, []  # (N, f): all chains of an environment read the same observation step
        for layer, (h, c) in enumerate(s.unbind(1) for s in chains.unbind(1)):
            h, c = self._cell(layer, x, h, c)
            states.append(torch.stack((h, c), dim=1))
            x = h
        pose, gripper = self.act(x[::window].to(feature.dtype))  # that of the oldest chains
        return pose, gripper, History(torch.stack(states, dim=1).unflatten(0, (n, window)), steps + 1)

    def _cell(self, layer: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step of one layer: x (N, .) or (M, .), M a multiple of N; h and c (M, hidden) -> new h and c."""
        of_x, of_h, bias_of_x, bias_of_h = self.rnn.all_weights[layer]
        from_x = F.linear(x.to(of_x.dtype), of_x, bias_of_x).repeat_interleave(len(h) // len(x), dim=0)
        from_h = F.linear(h.to(of_h.dtype), of_h, bias_of_h)
        gates = from_x.to(c.dtype) + from_h  # (M, 4 hidden), in the precision of the state
        enters, stays, new, leaves = gates.chunk(4, dim=1)
        c = stays.sigmoid() * c + enters.sigmoid() * new.tanh()
        return leaves.sigmoid() * c.tanh(), c
