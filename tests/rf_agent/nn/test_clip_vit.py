import pytest
import torch

from rf_agent.config import ConfigError
from rf_agent.nn.clip_vit import ClipViT

SHAPE = {"image_size": 28, "patch_size": 14, "width": 24, "layers": 2, "heads": 3, "mlp_width": 40}


def test_patch_tokens_are_those_of_open_clip():
    """torch's own attention and the layout of open_clip, written down: class token first, norms, no final norm."""
    torch.manual_seed(0)
    model = ClipViT(**SHAPE, quick_gelu=True).eval()
    pixels = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        x = model.conv1(pixels).reshape(2, 24, 4).permute(0, 2, 1)
        x = torch.cat((model.class_embedding.expand(2, 1, 24), x), 1) + model.positional_embedding
        x = model.ln_pre(x)
        for block in model.transformer.resblocks:
            attention = torch.nn.MultiheadAttention(24, 3, batch_first=True)
            attention.load_state_dict(block.attn.state_dict())
            y = block.ln_1(x)
            x = x + attention(y, y, y)[0]
            y = block.mlp.c_fc(block.ln_2(x))
            x = x + block.mlp.c_proj(y * torch.sigmoid(1.702 * y))
        torch.testing.assert_close(model(pixels).last_hidden_state, x[:, 1:], atol=1e-5, rtol=1e-5)


def test_activation_matters():
    torch.manual_seed(0)
    quick = ClipViT(**SHAPE, quick_gelu=True)
    exact = ClipViT(**SHAPE, quick_gelu=False)
    exact.load_state_dict(quick.state_dict())
    pixels = torch.randn(1, 3, 28, 28)
    difference = (quick(pixels).last_hidden_state - exact(pixels).last_hidden_state).abs().max()
    assert 1e-5 < difference < 0.1


def test_size_of_vit_l_14():
    with torch.device("meta"):
        model = ClipViT()
    final_norm, projection = 2 * 1024, 1024 * 768
    assert sum(p.numel() for p in model.parameters()) == 303_966_208 - final_norm - projection


@pytest.mark.parametrize("wrong", [{"image_size": 30}, {"heads": 5}, {"depth": 3}])
def test_wrong_shapes_are_refused(wrong):
    with pytest.raises(ConfigError, match="clip_vit"):
        ClipViT(**{**SHAPE, **wrong})
