import pytest
import torch

from rf_agent.config import ConfigError, VisionConfig
from rf_agent.nn.towers import VisionTower, sine_cosine_grid
from rf_agent.presets import preset

CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 8,
}


def test_convolutional_tower_gives_a_token_per_cell():
    config = preset("roboflamingo-tiny")
    tower = VisionTower(config.vision, 112, views=2)
    assert tower.tokens == 49
    assert tower(torch.randn(3, 2, 3, 112, 112)).shape == (3, 2, 49, tower.dim)


def test_transformer_tower_gives_patch_tokens_without_the_class_token():
    tower = VisionTower(VisionConfig(model=CLIP, position_embedding=False), 32, views=1)
    assert tower(torch.randn(2, 1, 3, 32, 32)).shape == (2, 1, 16, 16)


def test_tokens_of_an_image_do_not_depend_on_its_batch():
    """No batch statistics: in training mode too, and so for small batches."""
    tower = VisionTower(preset("roboflamingo-tiny").vision, 112, views=2).train()
    pixels = torch.randn(3, 2, 3, 112, 112)
    torch.testing.assert_close(tower(pixels)[:1], tower(pixels[:1]), atol=1e-5, rtol=1e-4)


def test_same_image_has_other_tokens_in_another_view():
    tower = VisionTower(preset("roboflamingo-test").vision, 32, views=2)
    tokens = tower(torch.randn(1, 1, 3, 32, 32).expand(1, 2, 3, 32, 32))
    assert not torch.allclose(tokens[:, 0], tokens[:, 1])


def test_position_embedding_tells_cells_apart():
    table = sine_cosine_grid(7, 7, 128)
    assert torch.cdist(table, table).add(torch.eye(49) * 9).min() > 0.3


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"model_type": "no_such_model"},
        {"model_type": "vit_mae"},
        {"model_type": "clip"},
        {"model_type": "resnet", "embedding_size": "big"},
        {"model_type": "resnet", "embedding_size": -8},
        {"model_type": "resnet", "hidden_sizes": []},
        {"model_type": "clip_vit", "patch_size": 0},
        {"model_type": "patch_embedding", "patch_size": 0},
    ],
)
def test_unknown_model_is_refused(model):
    with pytest.raises(ConfigError, match="vision.model"):
        VisionTower(VisionConfig(model=model), 32, views=2)
