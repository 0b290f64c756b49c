"""What the heads of MCIL and HULC share: a latent plan for a window, and a recurrent decoder that carries it out.

In training the plan is recognised from the whole window (the posterior of a conditional variational autoencoder). When
acting it is proposed from the window's first observation step and the goal (the prior), and kept until the window is
full; then everything begins anew with the present step.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.config import ActionConfig, ConfigError, HeadConfig, LossConfig, StateConfig
from rf_agent.nn.heads.base import MLP, History, PolicyHead, WindowOutput
from rf_agent.nn.latent_plans import LatentPlan
from rf_agent.nn.logistic_mixture import LogisticMixture
from rf_agent.nn.losses import action_loss, masked_mean
from rf_agent.nn.plan_config import PlanHeadConfig

Own = TypeVar("Own", bound=PlanHeadConfig)
INITIAL_SCALE = 0.135
"""Scale of the logistic distributions before training, about as wide as actions in [-1, 1] are spread. Those of scale 1
are wider than their range: with them the mixture first learns how all actions together are distributed, and hundreds of
steps later still acts the same whatever it sees."""


class FeatureLayout(NamedTuple):
    """What the encoder's part of a feature consists of."""

    views: int
    """V: embeddings of the views, which come first."""
    width: int
    """Width of each of them."""
    sentence: int
    """ds: the sentence embedding, which comes next."""

    @property
    def perceptual(self) -> int:
        """Width of the perceptual embedding: of all views (p)."""
        return self.views * self.width


class GoalEncoder(nn.Module):
    """An embedding to the latent goal space: an MLP and a norm, as in HULC's code."""

    def __init__(self, dim: int, hidden: int, goal: int) -> None:
        super().__init__()
        self.mlp, self.norm = MLP(dim, (hidden, hidden), goal), nn.LayerNorm(goal)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., g)."""
        return self.norm(self.mlp(x))


class PlanHead(PolicyHead):
    """Base of the heads with a latent plan.

    Shapes besides those of `PolicyHead`: p perceptual embedding, ds sentence embedding, g goal, z plan, P numbers that
    say how plans are distributed, M mixed distributions. A feature is the perceptual embedding, the sentence
    embedding, and what a subclass adds.

    Args:
        dim: p + ds. config: see `PlanHeadConfig`. action, state: as of `PolicyHead`.
        layout: how a feature is divided.
        plans: how plans are distributed.
        recognition: the posterior: perceptual embeddings (B, T, p) and lengths (B,) to parameters (B, P) and an
            embedding of the window.
        feature_dim: f, where a subclass adds something.
        sees: width of the end of the perceptual embedding that the decoder reads; all of it by default.
        bound: largest absolute value of an entry of the motions that it predicts.
    """

    def __init__(
        self,
        dim: int,
        config: PlanHeadConfig,
        action: ActionConfig,
        state: StateConfig,
        layout: FeatureLayout,
        plans: LatentPlan,
        recognition: nn.Module,
        *,
        feature_dim: int | None = None,
        sees: int | None = None,
        bound: float = 1.0,
    ) -> None:
        # proprioception is no number that is added to all of a feature
        super().__init__(dim, dataclasses.replace(config, proprioception=False), action, state, feature_dim)
        self.layout, self.plans, self.recognition = layout, plans, recognition
        self.sees, self.bound = sees or layout.perceptual, bound
        self.mixtures, self.bins, self.beta = config.mixtures, config.bins, config.beta
        self.language_goal = GoalEncoder(layout.sentence, config.goal_hidden, config.goal)
        self.visual_goal = GoalEncoder(layout.perceptual, config.goal_hidden, config.goal)
        self.proposal = MLP(layout.perceptual + config.goal, config.proposal, plans.parameters)
        self.decoder = nn.GRU(self.sees + config.goal + plans.dim, config.hidden, config.layers, batch_first=True)
        self.actions = MLP(config.hidden, config.mlp, self.chunk_size * self.regressed * 3 * config.mixtures)
        last = self.actions.mlp[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.unflatten(0, (-1, 3, config.mixtures))[:, 2] += math.log(INITIAL_SCALE)

    # --- the parts of a window ---

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (..., f) -> perceptual embeddings (..., p), sentence embeddings (..., ds)."""
        perceptual, sentence = self.layout.perceptual, self.layout.sentence
        return features[..., :perceptual], features[..., perceptual : perceptual + sentence]

    def propose(self, first: Tensor, goal: Tensor) -> Tensor:
        """The prior: the first step (N, p) and the goal (N, g) -> parameters (N, P)."""
        return self.proposal(torch.cat((first, goal), dim=-1))

    def decode(
        self, perceptual: Tensor, goal: Tensor, plan: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Carry a plan out.

        Args:
            perceptual: (N, T, p). goal: (N, g). plan: (N, z).
            state: (layers, N, hidden) of the RNN before the first step; zero by default.

        Returns:
            (N, T, hidden), and the state after the last step.
        """
        steps = perceptual.shape[1]
        constant = torch.cat((goal, plan), dim=-1)[:, None].expand(-1, steps, -1)
        return self.decoder(torch.cat((perceptual[..., -self.sees :], constant), dim=-1), state)

    def mixture(self, x: Tensor) -> LogisticMixture:
        """(..., hidden) -> distributions of (..., K, A) numbers."""
        shape = (self.chunk_size, self.regressed, 3, self.mixtures)
        return LogisticMixture.from_parameters(self.actions(x).unflatten(-1, shape))

    def to_own_frame(self, motion: Tensor, features: Tensor) -> Tensor:
        """Demonstrated motions (..., K, A) at the steps of some features (..., f), as this head predicts them."""
        return motion

    def to_world(self, motion: Tensor, features: Tensor) -> Tensor:
        """Inverse of `to_own_frame`, for motions in [-1, 1] of the world."""
        return motion

    # --- acting ---

    def recall(self, features: Tensor) -> Tensor:
        """features (B, T, f) -> (B, T, hidden), by the plan that is likeliest at the first step."""
        self.check_length(features)
        perceptual, sentence = self.split(features)
        goal = self.language_goal(sentence[:, 0])
        plan = self.plans.mode(self.propose(perceptual[:, 0], goal))
        return self.decode(perceptual, goal, plan)[0]

    def act(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(..., hidden) -> motion (..., K, A) in the head's own frame: the mean of the likeliest distribution of each
        mixture; gripper logits (..., K) or None."""
        pose = self.mixture(x).mode().clamp(-self.bound, self.bound)
        return pose, None if self.gripper is None else self.gripper(x)

    def window(self, features: Tensor) -> WindowOutput:
        """As `PolicyHead.window`."""
        pose, gripper = self.act(self.recall(features))
        return WindowOutput(self.to_world(pose, features), gripper)

    def memory_shape(self, frame: tuple[int, ...]) -> tuple[int, ...]:
        """(z + layers * hidden,): the plan that is carried out, and the state of the decoder."""
        return (self.plans.dim + self.decoder.num_layers * self.decoder.hidden_size,)

    def step(self, feature: Tensor, history: History) -> tuple[Tensor, Tensor | None, History]:
        """As `PolicyHead.step`. The length of the history is how many observation steps the plan has been kept for; at
        W a new plan is made, as if the episode began with this step."""
        memory, length = history
        begins = (length == 0) | (length == self.window_size)  # (N,)
        plan, state = memory.to(feature.dtype).split([self.plans.dim, memory.shape[1] - self.plans.dim], dim=1)
        perceptual, sentence = self.split(feature)
        goal = self.language_goal(sentence)
        plan = torch.where(begins[:, None], self.plans.mode(self.propose(perceptual, goal)), plan)  # (N, z)
        state = torch.where(begins[:, None], 0.0, state).unflatten(1, (self.decoder.num_layers, -1))
        hidden, state = self.decode(perceptual[:, None], goal, plan, state.transpose(0, 1).contiguous())
        pose, gripper = self.act(hidden[:, 0])
        memory = torch.cat((plan, state.transpose(0, 1).flatten(1)), dim=1).to(memory.dtype)
        return self.to_world(pose, feature), gripper, History(memory, torch.where(begins, 1, length + 1))

    # --- learning ---

    def loss(
        self, features: Tensor, actions: Tensor, mask: Tensor, config: LossConfig, action: ActionConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative evidence lower bound of windows, averaged over two contexts: the goal as the instruction says
        it, and as the window's last step shows it (MCIL, multi-context imitation).

        The likelihood is summed over the entries of an action and averaged over actions. The gripper's cross-entropy
        is weighted by `config.gripper_weight`; `config.pose` is not read. In evaluation mode the plan is the mode of
        the posterior, so that the loss is not random.

        Arguments are those of `PolicyHead.loss`. Of a window all steps count up to the last one in `mask`.

        Returns:
            The loss, and detached scalars: `action_nll`, `gripper_loss`, `kl` in nats, those of `auxiliary_loss`; and
            of the action that the head would take, by the prior and the instruction, `pose_error` and
            `gripper_accuracy` as of `rf_agent.nn.losses.action_loss`.
        """
        self.check_length(features)
        mask = mask[:, :, None].expand(actions.shape[:3]) if mask.dim() == 2 else mask  # (B, T, K)
        steps = mask.any(dim=-1)  # (B, T)
        lengths = (steps * torch.arange(1, steps.shape[1] + 1, device=mask.device)).amax(dim=1).clamp(min=1)
        perceptual, sentence = self.split(features)
        posterior, sequence = self.recognition(perceptual, lengths)  # (B, P)
        plan = self.plans.sample(posterior) if self.training else self.plans.mode(posterior)  # (B, z)

        regressed = list(action.regressed)
        targets = self.to_own_frame(actions[..., regressed], features)  # (B, T, K, A)
        opens = None if action.gripper is None else (actions[..., action.gripper] > 0).float()  # (B, T, K)
        last = perceptual[torch.arange(len(perceptual), device=lengths.device), lengths - 1]  # (B, p)
        language, visual = self.language_goal(sentence[:, 0]), self.visual_goal(last)  # (B, g)
        terms: dict[str, list[Tensor]] = {"action_nll": [], "gripper_loss": [], "kl": []}
        for goal in (language, visual):
            x = self.decode(perceptual, goal, plan)[0]  # (B, T, hidden)
            likelihood = self.mixture(x).negative_log_likelihood(targets, self.bound, self.bins)  # (B, T, K, A)
            terms["action_nll"].append(masked_mean(likelihood.sum(dim=-1), mask))
            if self.gripper is not None and opens is not None:
                entropy = F.binary_cross_entropy_with_logits(self.gripper(x).float(), opens, reduction="none")
                terms["gripper_loss"].append(masked_mean(entropy, mask))
            divergence = self.plans.divergence(posterior, self.propose(perceptual[:, 0], goal))  # (B,)
            terms["kl"].append(masked_mean(divergence, steps.any(dim=1)))
        means = {name: torch.stack(values).mean() for name, values in terms.items() if values}
        weights = {"action_nll": 1.0, "gripper_loss": config.gripper_weight, "kl": self.beta}
        extra, more = self.auxiliary_loss(sequence, language, sentence[:, 0])
        loss = sum((weights[name] * value for name, value in means.items()), extra)
        with torch.no_grad():
            acted = self.window(features)
            taken = action_loss(acted.pose, acted.gripper_logits, actions, mask, config, action.gripper)[1]
        metrics = {name: value.detach() for name, value in {**means, **more}.items()}
        return loss, metrics | {name: taken[name] for name in ("pose_error", "gripper_accuracy") if name in taken}

    def auxiliary_loss(self, sequence: Tensor, language: Tensor, sentence: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What is added to the loss, and metrics, of the embeddings of windows (B, .), their language goals (B, g) and
        sentence embeddings (B, ds): nothing, unless a subclass does."""
        return sequence.new_zeros(()), {}


def own_config(config: HeadConfig, kind: type[Own], layout: FeatureLayout | None) -> tuple[Own, FeatureLayout]:
    """A head's configuration and the layout of its features, if they are there.

    Raises:
        ConfigError: the head was chosen for a policy of another type, which has neither.
    """
    if layout is None or not isinstance(config, kind):
        raise ConfigError(
            f"head.type is {config.type!r}, but that head needs an encoder of its own: choose the preset "
            f"{config.type!r} or '{config.type}-tiny', or another head.type such as 'lstm'."
        )
    return config, layout
