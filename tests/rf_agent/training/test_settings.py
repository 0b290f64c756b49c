"""Settings of a run: what is refused, and the command line that a model card quotes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rf_agent.training.settings import command
from rf_agent.training.trainer import TrainConfig


def test_command_names_what_is_not_the_default():
    config = TrainConfig(
        demos=(Path("somewhere/a.hdf5"), Path("b.hdf5")),
        output=Path("runs/x"),
        minutes=3.0,
        train_vision=True,
        mix_instructions=False,
    )
    assert command("train", config) == (
        "rf-agent train --output x --minutes 3.0 --demos a.hdf5 b.hdf5 --train-vision --no-mix-instructions"
    )


@pytest.mark.parametrize(("name", "value"), [("ema_decay", 1.5), ("validation_fraction", 1.0), ("warmup", -0.1)])
def test_a_share_that_is_none_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}: give a share from 0 to below 1"):
        TrainConfig(demos=(Path("a.hdf5"),), output=Path("x"), **{name: value})


def test_a_model_card_does_not_say_where_files_lie(tmp_path):
    def words(init):
        return command("train", TrainConfig(demos=(Path("a.hdf5"),), output=Path("runs/x"), init=init))

    assert words(str(tmp_path / "policy")).endswith("--init policy")
    assert words("runs/p/policy").endswith("--init runs/p/policy")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("steps", 0, "above zero"),
        ("sequence_length", -3, "above zero"),
        ("learning_rate", float("nan"), "above zero"),
        ("minutes", float("inf"), "above zero"),
        ("vlm_lr_scale", -1.0, "zero or more"),  # the optimizer would climb
        ("weight_decay", -0.1, "zero or more"),
        ("min_lr_ratio", -3.0, "zero or more"),
        ("evaluations", -2, "zero or more"),
        ("keep", -1, "zero or more"),
        ("checkpoint_minutes", -1.0, "zero or more"),
        ("balance", float("nan"), "zero or more"),
        ("vl_caption_weight", -1.0, "zero or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(setting, value, said):
    with pytest.raises(ValueError, match=f"{setting} is .*: give .*{said}"):
        TrainConfig(demos=(Path("a.hdf5"),), output=Path("runs/x"), **{setting: value})
