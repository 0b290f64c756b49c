"""Our checks give the verdicts of CALVIN's own oracle on pairs of states that it has judged (see `record_oracle`)."""

import pytest
from oracle_pairs import Pair, read_pairs

from rf_envs.benchmark.tasks import TASKS, achieved

ENOUGH = 15


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return read_pairs()


@pytest.fixture(scope="module")
def ours(pairs: list[Pair]) -> list[set[str]]:
    """What our checks say about each pair."""
    return [achieved(pair.start, pair.now) for pair in pairs]


def test_the_pairs_are_many_and_come_from_all_scenes_and_kinds_of_play(pairs):
    assert len({(id(pair.start), id(pair.now)) for pair in pairs}) >= 2000
    plays = [pair.play for pair in pairs]
    for scene in "ABCD":
        for kind in ("expert", "clumsy", "random", "chain"):
            assert plays.count(f"{scene} {kind}") >= 20, (scene, kind)


@pytest.mark.parametrize("task", TASKS)
def test_a_check_agrees_with_calvins_oracle(pairs, ours, task):
    disagree = [
        f"pair {number} ({pair.play}): CALVIN says {task in pair.done}"
        for number, (pair, done) in enumerate(zip(pairs, ours, strict=True))
        if (task in done) != (task in pair.done)
    ]
    assert disagree == []


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_done_in_some_pairs_and_missed_by_little_in_others(pairs, task):
    done = [pair for pair in pairs if task in pair.done]
    starts, ends = {id(pair.start) for pair in done}, {id(pair.now) for pair in done}
    near_misses = [
        pair for pair in pairs if task not in pair.done and (id(pair.start) in starts or id(pair.now) in ends)
    ]
    assert len(done) >= ENOUGH
    assert len(near_misses) >= ENOUGH
