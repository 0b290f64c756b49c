"""Kernels for a CPU: which calls take them, and the same numbers as torch's own."""

import numpy as np
import pytest
import torch
from policy_cases import make_observation, make_policy
from torch.nn import functional as F

from rf_agent.acting import compiled as stepping
from rf_agent.nn.cpu_kernels import CPUKernels, attention, cpu_kernels


def test_linear_layers_keep_their_numbers():
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 64), torch.randn(5)
    with torch.no_grad():
        for x in (torch.randn(3, 64), torch.randn(2, 3, 64), torch.randn(2, 64, 3).transpose(1, 2), torch.randn(64)):
            for given in (None, bias):
                expected = F.linear(x, weight, given)
                with cpu_kernels():
                    torch.testing.assert_close(F.linear(x, weight, given), expected)
                    torch.testing.assert_close(F.linear(x, weight, bias=given), expected)


@pytest.mark.parametrize(
    ("grad", "dtype", "taken"),
    [(False, torch.float32, True), (True, torch.float32, False), (False, torch.float64, False)],
)
def test_only_float32_without_gradients_goes_through_onednn(grad, dtype, taken):
    layer, calls = torch.nn.Linear(4, 5).to(dtype), []

    def product(*arguments):
        calls.append(arguments)
        return F.linear(*arguments[:3])

    with torch.set_grad_enabled(grad), CPUKernels(product):
        out = layer(torch.ones(2, 4, dtype=dtype))
    assert len(calls) == taken and out.requires_grad == grad


def test_attention_in_bfloat16_keeps_its_numbers():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, length, 3, 8).transpose(1, 2) for length in (5, 7, 7))
    torch.testing.assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    halves = [x.bfloat16() for x in (q, k, v)]
    with torch.no_grad(), cpu_kernels():
        out = F.scaled_dot_product_attention(*halves)
        masked = F.scaled_dot_product_attention(*halves, attn_mask=torch.tensor([True] + [False] * 6).expand(5, 7))
    torch.testing.assert_close(out, attention(*halves), atol=0, rtol=0)
    torch.testing.assert_close(masked, halves[2][:, :, :1].expand(-1, -1, 5, -1))


def test_wide_policies_act_through_them_and_as_without(monkeypatch):
    policy = make_policy()
    used = []
    monkeypatch.setattr(stepping, "cpu_kernels", lambda: used.append(1) or cpu_kernels())
    plain = [policy.act(make_observation(t, n=2)) for t in range(6)]
    assert not used  # it is too narrow for them to pay
    monkeypatch.setattr(stepping, "WIDE", policy.vlm.dim)
    policy.reset()
    acted = [policy.act(make_observation(t, n=2)) for t in range(6)]
    assert len(used) == 3  # looks
    np.testing.assert_allclose(acted, plain, atol=1e-6)
