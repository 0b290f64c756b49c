"""Ray plays what local workers play; who dies is replaced."""

from types import SimpleNamespace

import pytest

from rf_agent.errors import UserError
from rf_agent.evaluation.episode import chain_items, task_items
from rf_agent.evaluation.runner import evaluate
from rf_agent.ray_jobs import run_jobs_on_ray

ray = pytest.importorskip("ray")
TASK, CHAIN, TROUBLED = "fake_env:fake/Task-v0", "fake_env:fake/Chain-v0", "fake_env:fake/Troubled-v0"


def outcomes(episodes):
    return [(e.key, e.attempts, e.steps, e.seed, e.chain, e.reward) for e in episodes]


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_results_are_those_of_local_workers(tmp_path, cluster):
    items = chain_items(12, seed=0)
    local, _ = evaluate(CHAIN, "random", items, tmp_path / "local")
    evaluate(CHAIN, "random", items[:5], tmp_path / "ray", engine="ray")
    seen = []
    remote, _ = evaluate(
        CHAIN, "random", items, tmp_path / "ray", engine="ray", on_episode=lambda e: seen.append(e.key)
    )
    assert outcomes(remote) == outcomes(local)
    assert sorted(seen) == sorted(item.key for item in items[5:])  # the journal is the same: it goes on


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["die", "hang"])
def test_an_episode_whose_worker_died_or_hung_is_played_again(tmp_path, cluster, kind):
    items = task_items(["go_left", "go_right"], 2, seed=0)
    whole, _ = evaluate(TASK, "random", items, tmp_path / "whole")
    (tmp_path / "marks").mkdir()
    options = {"marks": str(tmp_path / "marks"), "kind": kind}
    episodes, _ = evaluate(TROUBLED, "random", items, tmp_path / "run", engine="ray", env_options=options, timeout=2.0)
    assert outcomes(episodes) == outcomes(whole)
    assert len(list((tmp_path / "marks").iterdir())) == 1


@pytest.mark.slow
def test_errors_are_those_of_the_work_and_what_finished_is_kept(tmp_path, cluster):
    with pytest.raises(UserError, match="go_right/0, step 2: the policy gave an action that is not finite"):
        evaluate(TASK, "fake_agents:Broken", task_items(["go_right"], 1, seed=0), tmp_path / "a", engine="ray")
    (tmp_path / "marks").mkdir()
    items = task_items(["go_left"], 2, seed=0) + task_items(["go_right"], 1, seed=0)
    options = {"marks": str(tmp_path / "marks"), "times": 99}
    with pytest.raises(RuntimeError, match="Ray could not finish .*start the same command again to go on"):
        evaluate(TROUBLED, "random", items, tmp_path / "b", engine="ray", env_options=options)
    assert len((tmp_path / "b" / "episodes.jsonl").read_text().splitlines()) == 1 + 2


def test_a_cluster_that_shrinks_goes_on(monkeypatch):
    """A node that goes away takes more CPUs with it than jobs have ended."""
    cpus = iter([4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": next(cpus)})
    monkeypatch.setattr(ray, "remote", lambda **given: lambda work: SimpleNamespace(remote=lambda *job: job[-1]))
    monkeypatch.setattr(ray, "wait", lambda pending, num_returns: (pending[:1], pending[1:]))
    monkeypatch.setattr(ray, "get", lambda job: -job)
    done = run_jobs_on_ray(lambda worker, job: job, range(10), dict, 0)
    assert list(done) == [(job, -job) for job in range(10)]
