import torch

from rf_agent.nn.cross_attention import GatedCrossAttentionBlock


def block(gate: float) -> GatedCrossAttentionBlock:
    return GatedCrossAttentionBlock(16, 24, heads=2, head_dim=8, initial_gate=gate)


def test_parameters_are_named_as_in_openflamingo():
    expected = {"attn_gate", "ff_gate", "attn.norm.weight", "attn.norm.bias"}
    expected |= {f"attn.{n}.weight" for n in ("to_q", "to_kv", "to_out")}
    expected |= {f"ff.{n}" for n in ("0.weight", "0.bias", "1.weight", "3.weight")}
    assert set(block(0.0).state_dict()) == expected


def test_size_of_openflamingos_layer():
    layer = GatedCrossAttentionBlock(2048, 1024, heads=8, head_dim=64)
    assert sum(p.numel() for p in layer.parameters()) == 36_708_354


def test_closed_gates_change_nothing():
    x = torch.randn(2, 5, 16)
    assert torch.equal(block(0.0)(x, torch.randn(2, 7, 24), torch.ones(2, 5, 1)), x)


def test_text_before_the_image_sees_no_media():
    layer, x = block(0.5), torch.randn(1, 4, 16)
    sees = torch.tensor([[[0], [0], [1], [1]]])
    one, other = (layer(x, torch.randn(1, 7, 24), sees) for _ in range(2))
    assert torch.equal(one[:, :2], other[:, :2])
    assert not torch.allclose(one[:, 2:], other[:, 2:])
