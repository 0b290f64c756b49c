"""Every format of demonstrations trains, and a machine without a simulator trains, too."""

import subprocess
import sys

import pytest
from calvin_files import make_calvin
from demo_files import make_store
from fake_reporter import Heard
from lerobot_files import make_episodes, write_v3, write_v21

from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.trainer import TrainConfig, train

SETTINGS = {"preset": "roboflamingo-test", "steps": 2, "batch_size": 2, "sequence_length": 6, "threads": 1}
SETTINGS |= {"device": "cpu", "evaluations": 1, "validation_fraction": 0.3}


def test_a_calvin_folder_trains_as_it_is(tmp_path):
    folder = make_calvin(tmp_path / "task_D_D")
    reporter = Heard()
    report = train(TrainConfig(demos=(folder,), output=tmp_path / "run", **SETTINGS), reporter)
    config = RoboFlamingoPolicy.from_pretrained(report.output, "cpu").config
    assert config.views == ("rgb_static", "rgb_gripper") and config.action.normalization == "none"
    assert config.fps == 30 and config.tasks == ("close_drawer", "open_drawer", "turn_on_led")


@pytest.mark.parametrize("write", [write_v3, write_v21])
def test_a_lerobot_folder_trains_as_it_is(tmp_path, write):
    folder = tmp_path / "set"
    write(folder, make_episodes())
    report = train(TrainConfig(demos=(folder,), output=tmp_path / "run", **SETTINGS))
    config = RoboFlamingoPolicy.from_pretrained(report.output, "cpu").config
    assert config.action.dim == 4 and config.action.normalization == "min_max" and config.action.gripper is None


def test_it_trains_without_simulator_and_gymnasium(tmp_path):
    demos = make_store(tmp_path / "demos.hdf5")
    script = (
        "import sys\n"
        "for name in ('gymnasium', 'pybullet', 'tyro', 'rf_envs'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from rf_agent.training.trainer import TrainConfig, train\n"
        f"train(TrainConfig(demos=(Path({str(demos)!r}),), output=Path({str(tmp_path / 'run')!r}), **{SETTINGS!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "policy" / "config.json").exists()
