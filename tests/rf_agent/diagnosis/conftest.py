"""Demonstrations of the expert that the tests of this folder share."""

from pathlib import Path

import pytest

TASKS = ("lift_red_block_table", "push_pink_block_right", "turn_on_led")


@pytest.fixture(scope="session")
def demos(tmp_path_factory) -> Path:
    """One demonstration of each task, with disturbances, as small as the bundled policy sees."""
    pytest.importorskip("pybullet", reason="demonstrations come from the play table")
    from rf_agent.demos.collect import CollectConfig, collect

    path = tmp_path_factory.mktemp("diagnosis") / "demos.hdf5"
    collect(CollectConfig(output=path, tasks=TASKS, episodes_per_task=1, workers=1, image_size=112, frame_stride=3))
    return path
