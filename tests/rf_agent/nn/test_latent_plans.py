import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from rf_agent.nn.latent_plans import LEAST_STD, CategoricalPlan, GaussianPlan


def parameters(plans, rows=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, plans.parameters, generator=generator).requires_grad_()


def normal(x):
    mean, raw = x.chunk(2, dim=-1)
    return Normal(mean, torch.nn.functional.softplus(raw) + LEAST_STD)


def test_divergence_of_normal_distributions():
    plans = GaussianPlan(3)
    q, p = parameters(plans), parameters(plans, seed=1)
    torch.testing.assert_close(plans.divergence(q, p), kl_divergence(normal(q), normal(p)).sum(-1))
    assert plans.divergence(q, q).abs().max() < 1e-6


def test_normal_plans_are_drawn_with_their_gradient():
    plans = GaussianPlan(3)
    q = parameters(plans, 1)
    torch.manual_seed(0)
    drawn = plans.sample(q.expand(20_000, -1))
    expected = normal(q)
    torch.testing.assert_close(drawn.mean(0), expected.mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std(0), expected.stddev[0], atol=0.03, rtol=0)
    drawn.mean(0).sum().backward()
    torch.testing.assert_close(q.grad[0, :3], torch.ones(3))  # as of the mean
    torch.testing.assert_close(plans.mode(q), expected.mean)


def test_divergence_of_categorical_variables_is_balanced():
    plans = CategoricalPlan(4, 3, balance=0.8)
    q, p = parameters(plans), parameters(plans, seed=1)
    exact = kl_divergence(*(Categorical(logits=x.unflatten(-1, (4, 3))) for x in (q, p))).sum(-1)
    torch.testing.assert_close(plans.divergence(q, p), exact)
    full = torch.autograd.grad(exact.sum(), (q, p))
    balanced = torch.autograd.grad(plans.divergence(q, p).sum(), (q, p))
    torch.testing.assert_close(balanced, (0.2 * full[0], 0.8 * full[1]))


def test_categorical_plans_are_drawn_with_the_gradient_of_their_probabilities():
    plans = CategoricalPlan(2, 3, balance=0.8)
    q = parameters(plans, 1)
    torch.manual_seed(0)
    drawn = plans.sample(q.expand(20_000, -1))
    assert set(drawn.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    assert drawn.detach().unflatten(-1, (2, 3)).sum(-1).round().eq(1).all()
    probabilities = q.unflatten(-1, (2, 3)).softmax(-1).flatten(-2)
    torch.testing.assert_close(drawn.mean(0), probabilities[0], atol=0.015, rtol=0)
    weights = torch.arange(6.0)
    (through,) = torch.autograd.grad((plans.sample(q) * weights).sum(), q)
    torch.testing.assert_close(through, torch.autograd.grad((probabilities * weights).sum(), q)[0])


def test_the_mode_takes_the_likeliest_values():
    plans = CategoricalPlan(2, 3, balance=0.5)
    assert plans.mode(torch.tensor([[0.0, 2.0, 1.0, 3.0, -1.0, 0.0]])).tolist() == [[0, 1, 0, 1, 0, 0]]


@pytest.mark.parametrize("plans", [GaussianPlan(3), CategoricalPlan(2, 3, 0.8)], ids=["normal", "categorical"])
def test_samples_come_from_the_global_generator(plans):
    """So that the trainer, which seeds it at every step, repeats a step exactly."""
    q = parameters(plans, 50)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(plans.sample(q))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
