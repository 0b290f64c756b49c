"""The examples run, in small."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_custom_env_from_demonstrations_to_a_score(tmp_path):
    small = ["--demos", "12", "--steps", "3", "--episodes", "2", "--output", str(tmp_path)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "custom_env.py"), *small],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "the policy:" in done.stdout and (tmp_path / "run" / "policy" / "model.safetensors").exists()
