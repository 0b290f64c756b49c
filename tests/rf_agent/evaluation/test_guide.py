"""The code of docs/evaluation.md runs as it stands."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "docs" / "evaluation.md"


def test_an_agent_of_ones_own(capsys):
    pytest.importorskip("pybullet")
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out.startswith("{'1': {'rate': 0.0, ")
