"""Distributions over latent plans: what a network predicts of a plan, to a plan and to a divergence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_STD = 1e-4


class LatentPlan:
    """A kind of distribution over plans, with functions of the numbers that say which one it is.

    Sampling draws from torch's global generator, and gradients pass through what is drawn.

    Attributes:
        dim: numbers of a plan (z).
        parameters: numbers that a network predicts for it (P).
    """

    dim: int
    parameters: int

    def mode(self, parameters: Tensor) -> Tensor:
        """(..., P) -> the most likely plan (..., z)."""
        raise NotImplementedError

    def sample(self, parameters: Tensor) -> Tensor:
        """(..., P) -> a random plan (..., z)."""
        raise NotImplementedError

    def divergence(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the posterior (..., P) from the prior (..., P) in nats, (...)."""
        raise NotImplementedError


class GaussianPlan(LatentPlan):
    """Independent normal distributions, as in MCIL (and Play-LMP, arXiv:1903.01973)."""

    def __init__(self, dim: int) -> None:
        self.dim, self.parameters = dim, 2 * dim

    def mode(self, parameters: Tensor) -> Tensor:
        """The mean."""
        return parameters[..., : self.dim]

    def sample(self, parameters: Tensor) -> Tensor:
        """By reparameterisation: mean + deviation * noise."""
        mean, std = self._moments(parameters)
        return (mean + std * torch.randn_like(mean)).to(parameters.dtype)

    def divergence(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """In closed form, summed over the numbers of a plan."""
        (mean, std), (other_mean, other_std) = self._moments(posterior), self._moments(prior)
        ratio, shift = (std / other_std) ** 2, ((mean - other_mean) / other_std) ** 2
        return 0.5 * (ratio + shift - 1 - ratio.log()).sum(dim=-1)

    def _moments(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = parameters.float().chunk(2, dim=-1)
        return mean, F.softplus(raw) + LEAST_STD


class CategoricalPlan(LatentPlan):
    """Independent categorical variables, each as a one-hot vector, as in HULC (and DreamerV2, arXiv:2010.02193).

    Args:
        categoricals: variables (C). classes: values of each (k).
        balance: share of the divergence's gradient that moves the prior towards the posterior. The rest moves the
            posterior, so that it is less drawn to a prior that has not learned yet.
    """

    def __init__(self, categoricals: int, classes: int, balance: float) -> None:
        self.classes, self.balance = classes, balance
        self.dim = self.parameters = categoricals * classes

    def mode(self, parameters: Tensor) -> Tensor:
        """The likeliest value of each variable."""
        return self._one_hot(self._logits(parameters).argmax(dim=-1)).to(parameters.dtype)

    def sample(self, parameters: Tensor) -> Tensor:
        """Values as drawn, gradients as if they were the probabilities (straight-through)."""
        probabilities = self._logits(parameters).softmax(dim=-1)  # (..., C, k)
        drawn = torch.multinomial(probabilities.detach().flatten(0, -2), 1).view(probabilities.shape[:-1])
        hard, soft = self._one_hot(drawn), probabilities.flatten(-2)
        return (hard + soft - soft.detach()).to(parameters.dtype)

    def divergence(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """Summed over the variables, with balanced gradients (HULC, KL balancing)."""
        to_prior = self._divergence(posterior.detach(), prior)
        to_posterior = self._divergence(posterior, prior.detach())
        return self.balance * to_prior + (1 - self.balance) * to_posterior

    def _divergence(self, posterior: Tensor, prior: Tensor) -> Tensor:
        log_q, log_p = (self._logits(x).log_softmax(dim=-1) for x in (posterior, prior))
        return (log_q.exp() * (log_q - log_p)).sum(dim=(-2, -1))

    def _logits(self, parameters: Tensor) -> Tensor:
        return parameters.float().unflatten(-1, (-1, self.classes))  # (..., C, k)

    def _one_hot(self, values: Tensor) -> Tensor:
        return F.one_hot(values, self.classes).float().flatten(-2)  # (..., C * k)
