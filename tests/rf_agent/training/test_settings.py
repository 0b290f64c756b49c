"""The command line that a model card quotes."""

from __future__ import annotations

from pathlib import Path

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
