"""The code of docs/training.md runs as it stands."""

import re
from pathlib import Path

import pytest
from demo_files import make_store

GUIDE = Path(__file__).parents[3] / "docs" / "training.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_a_head_and_a_loss_of_ones_own(tmp_path, monkeypatch, capsys):
    from rf_agent.config import ConfigError
    from rf_agent.nn.heads import HEADS
    from rf_agent.nn.losses import POSE_LOSSES
    from rf_agent.policy import RoboFlamingoPolicy

    with pytest.raises(ConfigError, match="loss.pose is 'log_cosh', but known losses are huber, mse"):
        RoboFlamingoPolicy.from_preset("roboflamingo-test", ["a"], changes=["loss.pose=log_cosh"])
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "mine.hdf5")
    library, head, loss = blocks()
    names = {}
    try:
        exec(head, names), exec(loss, names)
        settings = (
            'steps=3, batch_size=2, sequence_length=6, preset="roboflamingo-test", device="cpu", threads=1, '
            'override=("head.type=gru", "loss.pose=log_cosh")'
        )
        exec(library.replace("steps=1000", settings), names)
    finally:
        HEADS.pop("gru", None), POSE_LOSSES.pop("log_cosh", None)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:3]] == ["1", "2", "3"] and "runs/mine/policy" in printed[3]
    assert '"type": "gru"' in (tmp_path / "runs/mine/policy/config.json").read_text()
