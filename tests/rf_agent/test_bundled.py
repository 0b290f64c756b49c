"""The bundled policies act as their cards say."""

import pytest

from rf_agent import RoboFlamingoPolicy
from rf_agent.evaluation import evaluate_agent

# of those that `roboflamingo-tiny-17` was never shown
TASKS = ("rotate_red_block_left", "place_in_drawer", "lift_pink_block_slider")


@pytest.mark.slow
def test_all_tasks_are_known_and_some_of_the_newer_ones_succeed():
    first, second = map(RoboFlamingoPolicy.from_pretrained, ("roboflamingo-tiny-17", "roboflamingo-tiny"))
    assert (len(first.config.tasks), len(second.config.tasks)) == (17, 34)
    assert not set(TASKS) & set(first.config.tasks)
    tasks = evaluate_agent("roboflamingo-tiny", "rf/PlayTableD-v0", tasks=TASKS, episodes_per_task=2)["tasks"]
    assert {task: score["success"] for task, score in tasks.items()} == dict.fromkeys(TASKS, 2)
