"""What demonstrations of our own environments are of: never what a policy is measured on."""

import numpy as np
import pytest

from rf_agent.demos.collect import CollectConfig, collect
from rf_agent.demos.store import iterate_demos
from rf_envs.benchmark.chain_generator import training_chain
from rf_envs.language.instructions import TRAINING


def collected(path, **settings):
    report = collect(CollectConfig(output=path, workers=1, image_size=16, **settings))
    return [demo for _, demo in iterate_demos(report.output)]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The demonstrations of one chain."""
    return collected(tmp_path_factory.mktemp("chain") / "d.hdf5", env=("rf/PlayTableChainD-v0",), chains=1)


def test_single_tasks_are_asked_for_in_training_instructions(tmp_path):
    demos = collected(tmp_path / "d.hdf5", tasks=("turn_on_led",), episodes_per_task=2)
    assert len(demos) == 2
    assert all(demo.instruction in TRAINING["turn_on_led"] for demo in demos)


def test_chains_are_training_chains_in_training_instructions(chain):
    (_, tasks), _ = training_chain(chain[0].attributes["chain"])
    assert len(chain) > 1 and [demo.task for demo in chain] == tasks[: len(chain)]
    assert all(demo.instruction in TRAINING[demo.task] for demo in chain)


def test_sub_tasks_of_a_chain_begin_again_from_their_state(chain):
    for demo in chain:
        assert {name: numbers.shape for name, numbers in demo.start.items()} == {"robot_obs": (15,), "scene_obs": (24,)}
        np.testing.assert_allclose(demo.start["robot_obs"], demo.state[0], atol=1e-6)
