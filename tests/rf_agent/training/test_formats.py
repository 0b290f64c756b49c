"""Every format of demonstrations trains, and a machine without a simulator trains, too."""

import subprocess
import sys

import pytest
from calvin_files import make_calvin
from demo_files import make_store
from fake_reporter import Heard
from lerobot_files import make_episodes, write_v3, write_v21

from rf_agent import cli
from rf_agent.demos.windows import DemoSet
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.training.robot import open_all
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


@pytest.mark.parametrize("converted", [False, True])
def test_windows_of_calvin_that_overlap_are_held_out_together(tmp_path, converted):
    """Also where each was stored with frames of its own."""
    windows = tuple(
        (start + shift, start + shift + 6, "open_drawer", "open it")
        for start in (100, 116, 123, 130)
        for shift in (0, 3)
    )
    path = make_calvin(tmp_path / "task_D_D", windows=windows)
    if converted:
        with pytest.raises(SystemExit, match="0"):
            cli.main(["convert", "calvin", str(path), "--output", str(tmp_path / "d.hdf5")])
        path = tmp_path / "d.hdf5"
    data = DemoSet(open_all([path]), preset("roboflamingo-test"))
    training, held_out = data.split(0.3)
    names = [{data.episodes[index].source.rpartition(": ")[2] for index in some} for some in (training, held_out)]
    assert len(training) + len(held_out) == len(windows) and held_out
    actions = [{row.tobytes() for i in some for row in data.episodes[i].actions} for some in (training, held_out)]
    assert not actions[0] & actions[1], names


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
