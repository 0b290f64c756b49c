"""Paired tests against numbers worked out by hand, and what a comparison says."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from fake_runs import chains, random_chains, write_run

from rf_agent.reporting.compare import compare, differing_conditions, holm, mcnemar_p, sign_flip_p
from rf_agent.reporting.runs import read_runs


def runs_of(tmp_path, *episodes):
    return read_runs([write_run(tmp_path / f"r{i}", e, policy=f"p{i}") for i, e in enumerate(episodes)])


def test_mcnemar_is_the_binomial_test_of_the_changed_episodes():
    assert mcnemar_p(0, 0) == mcnemar_p(3, 3) == 1.0
    assert mcnemar_p(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar_p(8, 2) == mcnemar_p(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar_p(1000, 0) > 0.0


@pytest.mark.parametrize("values", [[1, 1, -2, 3, 0], [4, 4, 5], [0, 0], [-1, 2, -3, 1, 1, 5]])
def test_sign_flips_are_counted_exactly(values):
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in choices(len(values))]
    expected = sum(one >= abs(sum(values)) for one in sums) / len(sums)
    assert sign_flip_p(np.array(values, float)) == pytest.approx(expected)


def test_sign_flips_of_other_numbers_are_drawn():
    values = np.array([0.1, 0.25, 0.3, -0.05, 0.2, 0.4])
    exact = np.mean([abs(np.dot(signs, values)) >= values.sum() - 1e-9 for signs in choices(6)])
    assert sign_flip_p(values) == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(values) == sign_flip_p(values)


def choices(count):
    return list(itertools.product((-1, 1), repeat=count))


def test_holm_of_a_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_clear_difference_is_significant_and_a_small_one_is_not(tmp_path):
    runs = runs_of(tmp_path, chains([0] * 30), chains([4] * 30), chains([4] * 29 + [5]))
    found = {(one.first, one.second, one.measure): one for one in compare(runs)}
    assert len(found) == 3 * 6
    clear = found["p0", "p1", "average length"]
    assert clear.significant and clear.mean == 4 and clear.interval == (4, 4) and clear.pairs == 30
    small = found["p1", "p2", "average length"]
    assert not small.significant and small.mean == pytest.approx(1 / 30)
    assert found["p0", "p1", "5 in a row"].p == 1.0
    assert all(one.p <= one.corrected for one in found.values())


def test_episodes_of_other_seeds_are_others_but_chains_have_their_own_starts(tmp_path):
    one, other = chains([0] * 9), [replace(episode, seed=episode.seed + 100) for episode in chains([4] * 9)]
    assert compare(runs_of(tmp_path / "chains", one, other))[0].pairs == 9
    alone = [[replace(episode, chain=None, key=f"go/{episode.chain}") for episode in run] for run in (one, other)]
    assert compare(runs_of(tmp_path / "tasks", *alone)) == []
    assert compare(runs_of(tmp_path / "same", alone[0], alone[0]))[0].pairs == 9


def test_only_episodes_that_both_have_played_count(tmp_path):
    runs = runs_of(tmp_path, chains([0, 0, 0, 5, 5]), chains([1, 1, 1]))
    test = compare(runs)[0]
    assert (test.pairs, test.means) == (3, (0.0, 1.0))


def test_equal_policies_seldom_differ(tmp_path):
    """Of twenty comparisons of runs with the same chance, about one has a p below 0.05."""
    runs = runs_of(tmp_path, *(random_chains(60, seed) for seed in range(21)))
    found = [one for one in compare(runs) if one.measure == "average length"]
    assert len(found) == 20 and {one.first for one in found} == {"p0"}  # of many runs, each against the first
    assert sum(one.p < 0.05 for one in found) <= 5
    assert not any(one.significant for one in found)


def test_other_conditions_are_named(tmp_path):
    folders = [
        write_run(tmp_path / "a", chains([1])),
        write_run(tmp_path / "b", chains([1]), renderer="egl", seed=7, policy="b"),
        write_run(tmp_path / "c", chains([1]), env_options={"instructions": "enriched"}, policy="c"),
    ]
    said = " ".join(differing_conditions(read_runs(folders)))
    assert "renderer (tiny, egl)" in said and "seed of the scenes (0, 7)" in said and "enriched" in said
    assert not said.startswith("environment (")
    assert differing_conditions(read_runs([folders[0], write_run(tmp_path / "d", chains([1]), policy="d")])) == []


def test_runs_without_a_common_episode_are_not_tested(tmp_path):
    runs = runs_of(tmp_path, chains([1, 2])[:1], chains([1, 2])[1:])
    assert compare(runs) == []


def test_large_whole_numbers_are_not_counted_one_by_one():
    rng = np.random.default_rng(0)
    clear, none = rng.integers(1_000_000, 2_000_000, 30), rng.integers(-1_000_000, 1_000_000, 30)
    begun = time.monotonic()
    assert sign_flip_p(clear.astype(float)) < 0.001 < 0.05 < sign_flip_p((none - none.mean()).round())
    assert time.monotonic() - begun < 30  # 7 s and 1 GB for one of them, if counted
