"""R3M and Voltron as configurations: their sizes, and values that do not fit."""

import pytest
import torch
from demo_files import make_store
from representation_files import save_distilbert, save_r3m, save_tokenizer, save_voltron

import rf_agent
from rf_agent.baselines.representation import R3MModel
from rf_agent.baselines.voltron import VoltronModel
from rf_agent.config import ConfigError, HeadConfig
from rf_agent.finetuning.trainable import parameter_groups, set_trainable
from rf_agent.model import RoboFlamingoModel
from rf_agent.presets import preset
from rf_agent.training.trainer import TrainConfig, train
from rf_agent.weights import from_r3m, from_voltron


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


def converted(kind, folder):
    head = HeadConfig(hidden=8, layers=1, window=3, mlp=(8,), dropout=0.0)
    if kind == "r3m":
        path, language_model = save_r3m(folder / "model.pt"), save_distilbert(folder / "lm")
        return from_r3m(path, language_model, head=head, image_size=40)[0]
    path, tokenizer = save_voltron(folder / "v-cond.pt"), save_tokenizer(folder / "lm")
    return from_voltron(path, tokenizer, head=head, head_width=16, language_head_width=8)[0]


@pytest.mark.parametrize("kind", ["r3m", "voltron"])
def test_a_frozen_representation_stays_as_it_was_published(tmp_path, kind):
    """Statistics of batch norms and places too; only head and pooling learn."""
    start = converted(kind, tmp_path)
    start.save_pretrained(tmp_path / "start")
    settings = {"steps": 3, "batch_size": 2, "sequence_length": 4, "validation_fraction": 0.3, "threads": 1}
    report = train(
        TrainConfig(
            demos=(make_store(tmp_path / "demos.hdf5", demos=4),),
            init=str(tmp_path / "start"),
            output=tmp_path / "run",
            trainable="head",
            device="cpu",
            **settings,
        )
    )
    before, after = start.state_dict(), rf_agent.load_policy(report.output, "cpu").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    parts = {".".join(name.split(".")[:2]) for name in changed}
    learns = {"head.rnn", "head.actions", "head.gripper"}
    assert parts == (learns | {"encoder.pool"} if kind == "voltron" else learns)
