"""For all tests: one thread each, because pytest-xdist fills the cores; and which of them need PyBullet."""

import importlib.util
import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

SIMULATED = (
    "rf_agent/evaluation/test_speed.py",
    "rf_agent/commands/test_doctor.py",
    "rf_agent/demos/test_collect_playtable.py",
    "rf_agent/play/test_browser.py",
    "rf_agent/play/test_replay.py",
    "rf_agent/test_bundled.py",
    "rf_agent/test_sb3.py",
    "rf_envs/benchmark/test_preconditions.py",
    "rf_envs/benchmark/test_start_states.py",
    "rf_envs/language/test_describe.py",
    "rf_envs/test_calvin_clone.py",
    "rf_envs/test_calvin_env.py",
    "rf_envs/test_calvin_real.py",
    "rf_envs/test_calvin_simulator.py",
    "rf_envs/test_conformance_",
    "rf_envs/test_diagnosis.py",
    "rf_envs/test_expert",
    "rf_envs/test_playtable.py",
    "rf_envs/test_random_table.py",
    "rf_envs/test_registered_environments.py",
    "rf_envs/test_wrappers_absolute_actions.py",
)
"""Test files that run a simulator, so that they need PyBullet."""

WITHOUT = importlib.util.find_spec("pybullet") is None
if WITHOUT and sys.version_info < (3, 12):
    pytest.exit("PyBullet is not installed, and this Python has a wheel of it: pip install -e '.[dev]'", returncode=1)


def pytest_ignore_collect(collection_path, config):
    """Where there is no PyBullet (Python 3.12 and newer), the tests of all the rest run."""
    here = collection_path.as_posix().rpartition("/tests/")[2]
    return True if WITHOUT and here.startswith(SIMULATED) else None


def pytest_report_header(config):
    return "PyBullet is not installed: tests that simulate are left out" if WITHOUT else None
