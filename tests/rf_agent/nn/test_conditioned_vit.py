import pytest
import torch

from rf_agent.config import ConfigError, VisionConfig
from rf_agent.nn.conditioned_vit import AttentionPooling, ConditionedViT, RMSNorm
from rf_agent.nn.patch_embedding import PatchEmbedding, mae_positions
from rf_agent.nn.towers import VisionTower


def test_zero_has_a_norm_and_a_gradient():
    x = torch.zeros(2, 4, requires_grad=True)
    RMSNorm(4)(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    torch.testing.assert_close(RMSNorm(4)(torch.tensor([3.0, 4.0, 0.0, 0.0])), torch.tensor([1.2, 1.6, 0.0, 0.0]))


@pytest.mark.parametrize("reads_padding", [False, True])
def test_padding_counts_only_where_it_shall(reads_padding):
    torch.manual_seed(0)
    vit, pool = ConditionedViT(16, 2, 2, 24, 6, reads_padding).eval(), AttentionPooling(16, 4, 24)
    patches, words = torch.randn(1, 5, 16), torch.randn(1, 4, 6)
    mask = torch.tensor([[True, True, False, False]])
    with torch.no_grad():
        short = pool(*vit(patches, words[:, :2], mask[:, :2]))
        long = pool(*vit(patches, words, mask))
    assert torch.allclose(short, long, atol=1e-6) != reads_padding


def test_patches_depend_on_the_words():
    torch.manual_seed(0)
    vit, patches, mask = ConditionedViT(16, 1, 2, 24, 6), torch.randn(1, 5, 16), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        a, b = (vit(patches, torch.randn(1, 3, 6), mask)[0][:, :5] for _ in range(2))
    assert not torch.allclose(a, b)


def test_places_are_those_of_mae():
    table = mae_positions(3, 8)  # columns in the first half, 2 sines before 2 cosines, wavelengths 2 pi and 200 pi
    assert table.shape == (9, 8)
    column, row = torch.tensor(2.0), torch.tensor(1.0)
    said = [f(place * rate) for place in (column, row) for f in (torch.sin, torch.cos) for rate in (1.0, 0.01)]
    torch.testing.assert_close(table[1 * 3 + 2], torch.stack(said))


def test_a_tower_of_patches_and_their_places():
    model = {"model_type": "patch_embedding", "patch_size": 8, "width": 12}
    tower = VisionTower(VisionConfig(model=model, position_embedding=False), 24, views=2)
    assert (tower.tokens, tower.dim) == (9, 12)
    pixels = torch.randn(1, 2, 3, 24, 24)
    with torch.no_grad():
        tokens, moved = tower(pixels), tower(pixels.roll(8, dims=4))
    assert tokens.shape == (1, 2, 9, 12)
    place = tower.model.position
    torch.testing.assert_close((tokens - place)[:, :, 0], (moved - place)[:, :, 1])
    assert not any(name.endswith("position") for name, _ in tower.named_parameters())  # it is fixed


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="patches of 5 must divide images of 24"):
        PatchEmbedding(image_size=24, patch_size=5)
    with pytest.raises(ConfigError, match="its fields are image_size, patch_size, width"):
        PatchEmbedding(layers=3)
