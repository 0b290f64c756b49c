"""For all tests: one thread, no network, caches that vanish; a small policy and a small data set."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-")
os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # worker processes import the environments by name

from demo_files import make_store  # noqa: E402

from lerobot_policy_roboflamingo.convert import to_lerobot  # noqa: E402
from rf_agent.demos.writers.lerobot import write_lerobot  # noqa: E402
from rf_agent.policy import RoboFlamingoPolicy as Agent  # noqa: E402

INSTRUCTIONS = ["go to the left", "go to the right", "open drawer 0", "close drawer 1"]


@pytest.fixture(scope="session")
def agent_folder(tmp_path_factory) -> Path:
    """A checkpoint of rf-agent with random weights, which passes for a trained one."""
    agent = Agent.from_preset("roboflamingo-test", INSTRUCTIONS, seed=1)
    agent.config.trained = True
    return agent.save_pretrained(tmp_path_factory.mktemp("agent") / "policy")


@pytest.fixture(scope="session")
def lerobot_folder(agent_folder, tmp_path_factory) -> Path:
    """The same as a checkpoint of LeRobot."""
    return to_lerobot(agent_folder, tmp_path_factory.mktemp("converted") / "policy")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """A LeRobot data set that `rf-agent convert to-lerobot` wrote: six episodes of 7 to 17 steps."""
    folder = tmp_path_factory.mktemp("data")
    return write_lerobot(make_store(folder / "demos.hdf5", demos=6, size=48), folder / "lerobot")


@pytest.fixture
def command(monkeypatch):
    """Runs one of LeRobot's commands in this process, with its arguments."""

    def run(main, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["lerobot", *arguments])
        main()

    return run
