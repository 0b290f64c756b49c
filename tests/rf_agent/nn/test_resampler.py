import torch

from rf_agent.nn.resampler import PerceiverResampler


def test_parameters_are_named_as_in_openflamingo():
    resampler = PerceiverResampler(dim=16, layers=2, latents=4, heads=2, head_dim=8)
    expected = {"latents", "norm.weight", "norm.bias"}
    for i in range(2):
        expected |= {f"layers.{i}.0.{n}.{p}" for n in ("norm_media", "norm_latents") for p in ("weight", "bias")}
        expected |= {f"layers.{i}.0.{n}.weight" for n in ("to_q", "to_kv", "to_out")}
        expected |= {f"layers.{i}.1.{n}" for n in ("0.weight", "0.bias", "1.weight", "3.weight")}
    assert set(resampler.state_dict()) == expected


def test_size_of_openflamingos_resampler():
    resampler = PerceiverResampler(dim=1024, layers=6, latents=64, heads=8, head_dim=64)
    assert sum(p.numel() for p in resampler.parameters()) == 63_019_008


def test_any_number_of_tokens_gives_the_same_number_of_latents():
    resampler = PerceiverResampler(dim=16, layers=1, latents=4, heads=2, head_dim=8)
    assert resampler(torch.randn(3, 49, 16)).shape == (3, 4, 16)
    assert resampler(torch.randn(3, 5, 16)).shape == (3, 4, 16)


def test_order_of_tokens_does_not_matter():
    """Places must therefore be in the tokens themselves (position embedding)."""
    resampler = PerceiverResampler(dim=16, layers=2, latents=4, heads=2, head_dim=8)
    tokens = torch.randn(1, 9, 16)
    torch.testing.assert_close(resampler(tokens), resampler(tokens.flip(1)), atol=1e-5, rtol=0)
