"""Wordings: enough of them, unmistakable, and no evaluation wording seen in training."""

import pytest

from rf_envs.instructions import EVALUATION, TRAINING, task_of
from rf_envs.spaces import encode_instruction
from rf_envs.tasks import COLORS, TASKS

WORDS = {word for task in TASKS for text in TRAINING[task] for word in text.split()}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_many_training_wordings_and_a_fresh_evaluation_wording(task):
    assert len(set(TRAINING[task])) == len(TRAINING[task]) >= 12
    assert EVALUATION[task] not in TRAINING[task]
    # a policy that learned from the training wordings can know every word of it
    assert set(EVALUATION[task].split()) <= WORDS
    for text in (*TRAINING[task], EVALUATION[task]):
        assert len(text.split()) <= 12
        assert text == text.lower().strip()
        assert encode_instruction(text).any()


def test_every_wording_asks_for_one_task():
    everything = [text for task in TASKS for text in {*TRAINING[task], EVALUATION[task]}]
    assert len(set(everything)) == len(everything)
    assert all(task_of(text) == task for task in TASKS for text in (*TRAINING[task], EVALUATION[task]))


@pytest.mark.parametrize("task", [task for task in TASKS if any(color in task for color in COLORS)])
def test_wordings_of_block_tasks_name_the_color(task):
    color = next(color for color in COLORS if color in task)
    assert all(color in text.split() for text in (*TRAINING[task], EVALUATION[task]))


@pytest.mark.parametrize("task", [task for task in TASKS if task.endswith(("left", "right"))])
def test_wordings_of_directed_tasks_name_the_side(task):
    assert all({"left", "right"} & set(text.split()) for text in (*TRAINING[task], EVALUATION[task]))


def test_wordings_are_varied():
    for task in TASKS:
        assert len({text.split()[0] for text in TRAINING[task]}) >= 6


def test_evaluation_wordings_are_not_calvins(calvin_file):
    text = calvin_file("new_playtable_validation.yaml").read_text().lower()
    assert not [wording for wording in EVALUATION.values() if f'"{wording}"' in text]


def test_task_of_ignores_case_and_spaces_and_knows_no_free_text():
    assert task_of("  Open the  DRAWER ") == "open_drawer"
    assert task_of("do a dance") is None
