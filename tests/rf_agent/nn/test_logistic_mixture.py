import math

import pytest
import torch

from rf_agent.nn.logistic_mixture import LogisticMixture


def mixture(*shape, scale=1.0, seed=0):
    torch.manual_seed(seed)
    return LogisticMixture.from_parameters(scale * torch.randn(*shape, 3, 4))


@pytest.mark.parametrize(("bound", "bins"), [(1.0, 256), (math.sqrt(3), 10)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_the_bins_share_all_probability(bound, bins, scale):
    one = mixture(6, scale=scale)
    grid = torch.linspace(-bound, bound, bins)
    every = LogisticMixture(*(part.expand(bins, 6, 4) for part in one))
    likelihood = every.negative_log_likelihood(grid[:, None].expand(bins, 6), bound, bins)
    assert likelihood.min() >= 0
    torch.testing.assert_close(likelihood.neg().exp().sum(dim=0), torch.ones(6), atol=1e-4, rtol=0)


def test_a_bin_holds_the_probability_between_its_edges():
    one = LogisticMixture(torch.zeros(1, 1), torch.full((1, 1), 0.1), torch.full((1, 1), math.log(0.3)))
    cumulative = [1 / (1 + math.exp(-(edge - 0.1) / 0.3)) for edge in (0.25, 0.75)]
    measured = one.negative_log_likelihood(torch.tensor([0.5]), 1.0, 5)
    assert measured.item() == pytest.approx(-math.log(cumulative[1] - cumulative[0]), rel=1e-5)
    beyond = one.negative_log_likelihood(torch.tensor([7.0]), 1.0, 5)  # the outermost bin begins at 0.75
    assert beyond.item() == pytest.approx(-math.log(1 - cumulative[1]), rel=1e-5)


def test_errors_far_away_still_have_a_gradient():
    parameters = torch.tensor([[[0.0], [0.9], [-9.0]]], requires_grad=True)  # a scale below the least one
    LogisticMixture.from_parameters(parameters).negative_log_likelihood(torch.tensor([-0.5]), 1.0, 256).sum().backward()
    assert torch.isfinite(parameters.grad).all() and parameters.grad[0, 1, 0] > 100


def test_the_mode_is_the_mean_of_the_likeliest_part():
    one = LogisticMixture(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[0.5, -0.2, 0.9]]), torch.zeros(1, 3))
    assert one.mode().tolist() == pytest.approx([-0.2])
