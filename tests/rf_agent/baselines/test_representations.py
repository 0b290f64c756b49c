"""R3M and Voltron as configurations: their sizes, and values that do not fit."""

import pytest
import torch

from rf_agent.baselines.representation import R3MModel
from rf_agent.baselines.voltron import VoltronModel
from rf_agent.config import ConfigError
from rf_agent.finetuning.trainable import parameter_groups, set_trainable
from rf_agent.model import RoboFlamingoModel
from rf_agent.presets import preset


def sizes(model_class, name, which="default"):
    """Parameters of each part, and how many of all learn, without memory for them."""
    with torch.device("meta"):
        model = model_class(preset(name), 2)
    set_trainable(model, which)
    parts = {group: sum(p.numel() for p in ps.values()) for group, ps in parameter_groups(model).items()}
    return model, parts, sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_r3m_has_the_published_size():
    model, parts, learns = sizes(R3MModel, "r3m")
    assert parts["vision"] == 23_508_032  # torchvision's ResNet-50 without its classifier
    special = 2 * 768  # rows of <image> and <|endofchunk|>
    assert parts["embeddings"] + parts["language"] == 66_362_880 + special  # distilbert-base-uncased
    assert model.encoder.dim == 2 * 2048 + 768 and learns == parts["head"]


def test_voltron_has_the_published_size():
    model, parts, learns = sizes(VoltronModel, "voltron")
    w, hidden = 384, 1536
    attention, mlp = 4 * w * w + 4 * w, 2 * hidden * w + 2 * hidden + hidden * w + w
    assert parts["encoder"] == 12 * (attention + mlp + 4 * w) + (768 * w + w) + 3 * w
    assert parts["vision"] == 3 * 16 * 16 * w + w
    assert model.encoder.dim == 2 * w and model.vision_tower.tokens == 14 * 14
    assert learns == parts["encoder"] + parts["head"]
    _, _, frozen = sizes(VoltronModel, "voltron", "head")
    assert frozen == parts["head"]


def test_voltron_tiny_is_as_large_as_roboflamingo_tiny():
    _, own, learns = sizes(VoltronModel, "voltron-tiny")
    _, theirs, reference = sizes(RoboFlamingoModel, "roboflamingo-tiny")
    assert abs(learns / reference - 1) < 0.1
    assert abs(sum(own.values()) / sum(theirs.values()) - 1) < 0.1


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("voltron-tiny", "encoder.heads=5", "encoder.width is 192, but 10 heads"),
        ("voltron-tiny", "encoder.layers=0", "encoder.layers is 0, but it must be at least 1"),
        ("voltron-tiny", "encoder.pooling=mean", "pooling"),
        ("r3m-tiny", "encoder.pooling=max", "choose 'mean' or 'flat'"),
    ],
)
def test_values_that_do_not_fit_are_refused(name, change, said):
    with pytest.raises(ConfigError, match=said):
        preset(name).changed([change])
