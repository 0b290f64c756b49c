"""The server that an evaluation starts for its workers: both sides wait as long as a step may take, and no longer."""

import gc
import time
import weakref

import pytest
from fake_policy import FakePolicy, observe

from rf_agent.errors import UserError
from rf_agent.evaluation import agents, runner, worker
from rf_agent.evaluation.agents import AS_TRAINED
from rf_agent.evaluation.episode import task_items
from rf_agent.evaluation.runner import evaluate
from rf_agent.evaluation.worker import Who, Worker
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.serving import RemoteError, RemotePolicy
from rf_agent.serving.server import PolicyServer
from rf_agent.workers import run_jobs

TASK = "fake_env:fake/Task-v0"


def served(seconds=0.0):
    return PolicyServer(FakePolicy(seconds), port=0, api_key="key", limits=worker.OWN_CLIENTS)


def who(server, timeout=None):
    return Who("unused", server=(server.url, "key"), timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_the_timeout_of_an_evaluation_reaches_its_workers(tmp_path, monkeypatch, timeout):
    seen = []

    def spy(work, jobs, *args, **options):
        jobs = list(jobs)
        seen.extend(jobs)
        return run_jobs(work, jobs, *args, **options)

    monkeypatch.setattr(runner, "run_jobs", spy)
    evaluate(TASK, "random", task_items(["go_left"], 2, seed=0), tmp_path, timeout=timeout)
    assert [job.who.timeout for job in seen] == [timeout] * 2


def test_an_answer_may_take_as_long_as_a_step():
    with served(seconds=0.6) as server:
        with Worker() as one, pytest.raises(RemoteError, match="did not answer within 0.2 s"):
            one.agent(who(server, timeout=0.2)).act(observe(3))
        with Worker() as one:
            assert one.agent(who(server, timeout=None)).act(observe(3)).tolist() == [1, 3]


def test_neither_side_pings_the_other(monkeypatch):
    """A worker that is stopped for a minute, as on a busy machine, has not gone."""
    asked = []

    def spy(*args, **options):
        asked.append(options)
        return RemotePolicy(*args, **options)

    monkeypatch.setattr(worker, "RemotePolicy", spy)
    with served() as server, Worker() as one:
        one.agent(who(server))
    assert asked == [{"timeout": None, "ping_seconds": None}] and worker.OWN_CLIENTS.ping_seconds is None


def test_a_worker_has_one_connection_and_closes_it_at_its_end():
    with served() as server:
        with Worker() as one:
            agent = one.agent(who(server))
            agent.act(observe(3))
            assert one.agent(who(server)) is agent
            assert server.metrics.opened == server.metrics.connections == 1
        end = time.monotonic() + 10
        while server.metrics.connections:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_the_policy_that_was_served_does_not_stay_in_memory(tmp_path, monkeypatch):
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["go"], seed=0).save_pretrained(tmp_path / "policy")
    seen = []

    def spy(*args, **options):
        loaded = agents.load_policy(*args, **options)
        seen.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(worker, "load_policy", spy)
    kept = agents.load_policy(str(policy))
    with worker._served(str(policy), "cpu", AS_TRAINED) as (url, key), RemotePolicy(url, api_key=key):
        assert seen[0]() is not None and seen[0]() is not kept
    gc.collect()
    assert seen[0]() is None and agents.load_policy(str(policy)) is kept


def test_a_cluster_of_cpus_is_asked_for_no_gpu(tmp_path):
    with pytest.raises(UserError, match="CPUs of a cluster: give --device cpu in place of cuda"):
        evaluate(TASK, "random", task_items(["go_left"], 1, seed=0), tmp_path / "run", engine="ray", device="cuda")
    assert not (tmp_path / "run").exists()
