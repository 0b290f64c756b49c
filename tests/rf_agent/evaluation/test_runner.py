"""The work queue: what comes out depends on the items alone, and survives interruptions."""

import json
import shutil
from dataclasses import replace

import pytest
from policy_cases import make_policy

from rf_agent.environments import Environments
from rf_agent.errors import UserError
from rf_agent.evaluation import worker
from rf_agent.evaluation.agents import fingerprint
from rf_agent.evaluation.episode import chain_items, item_seed, task_items
from rf_agent.evaluation.journal import Journal
from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.evaluation.run_folder import read_folder
from rf_agent.evaluation.runner import choose_items, env_facts, evaluate, make_env, with_renderer
from rf_agent.evaluation.worker import Who, Worker
from rf_agent.serving.server import PolicyServer

TASK, CHAIN = "fake_env:fake/Task-v0", "fake_env:fake/Chain-v0"


def outcomes(episodes):
    return [(e.key, e.attempts, e.steps, e.seed, e.chain) for e in episodes]


def test_an_expert_need_not_name_its_tasks():
    assert env_facts("fake_table:Silent-v0").tasks == ("go_left",)  # that of the reset
    assert env_facts("fake_table:FakeTable-v0").tasks == ("go_left", "go_right")


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    items = task_items(["go_left", "go_right"], 5, seed=1)
    runs = [evaluate(TASK, "expert", items, tmp_path / str(w), workers=w)[0] for w in (1, 2, 5)]
    assert outcomes(runs[0]) == outcomes(runs[1]) == outcomes(runs[2])
    assert len({e.seed for e in runs[0]}) == len(items)


def test_results_do_not_depend_on_the_other_items(tmp_path):
    few = evaluate(TASK, "random", task_items(["go_right"], 2, seed=0), tmp_path / "few")[0]
    many = evaluate(TASK, "random", task_items(["go_left", "go_right"], 4, seed=0), tmp_path / "many")[0]
    assert outcomes(few) == [o for o in outcomes(many) if o[0] in ("go_right/0", "go_right/1")]


def test_seeds_differ_between_items_and_evaluations():
    seeds = {item_seed(seed, f"{task}/{index}") for seed in (0, 1) for task in ("a", "b") for index in range(50)}
    assert len(seeds) == 200


def test_task_episodes_end_in_success_or_failure(tmp_path):
    episodes, _ = evaluate(TASK, "expert", task_items(["go_left", "go_far"], 2, seed=0), tmp_path)
    assert [(e.attempts[0].task, e.completed) for e in episodes] == [("go_left", 1), ("go_far", 0)] * 2
    assert [e.steps for e in episodes if not e.completed] == [20, 20]


def test_chains_count_every_sub_task(tmp_path):
    episodes, _ = evaluate(CHAIN, "expert", chain_items(3, seed=0), tmp_path)
    assert [e.chain for e in episodes] == [0, 1, 2]
    assert all(e.completed == 5 and len(e.attempts) == 5 for e in episodes)
    assert [attempt.task for attempt in episodes[1].attempts] == ["go_right", "go_left"] * 2 + ["go_right"]


def test_a_failed_sub_task_is_the_last_attempt(tmp_path):
    episodes, _ = evaluate(CHAIN, "random", chain_items(3, seed=0), tmp_path)
    for episode in episodes:
        assert [attempt.success for attempt in episode.attempts] == [True] * episode.completed + [False]


def test_an_evaluation_goes_on_where_it_stopped(tmp_path):
    items = task_items(["go_left", "go_right"], 3, seed=0)
    whole = evaluate(TASK, "random", items, tmp_path / "whole")[0]
    played = []

    def stop_after_four(episode):
        played.append(episode.key)
        if len(played) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(TASK, "random", items, tmp_path / "cut", on_episode=stop_after_four)
    journal = tmp_path / "cut" / "episodes.jsonl"
    journal.write_text(journal.read_text() + '{"key": "go_le')  # killed while it wrote the next line
    kept, seconds = [], []
    episodes, total = evaluate(
        TASK, "random", items, tmp_path / "cut", on_kept=kept.extend, on_episode=lambda e: seconds.append(e.key)
    )
    assert sorted(episode.key for episode in kept) == sorted(played)
    assert sorted(played + seconds) == sorted(item.key for item in items)
    assert outcomes(episodes) == outcomes(whole)
    assert total > 0
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(lines) == 1 + len(items)


@pytest.mark.parametrize(("policy", "seed", "named"), [("expert", 0, "policy"), ("random", 7, "seed")])
def test_other_settings_are_refused(tmp_path, policy, seed, named):
    items = task_items(["go_left"], 1, seed=0)
    evaluate(TASK, "random", items, tmp_path, seed=0)
    with pytest.raises(UserError, match=f"results for {named} .* another --output"):
        evaluate(TASK, policy, items, tmp_path, seed=seed)


def test_the_same_weights_under_another_name_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(make_policy().save_pretrained(tmp_path / "policy").parent)
    for count, name in ((1, "policy"), (2, "./policy/")):
        episodes, _ = evaluate(TASK, name, task_items(["go_left"], count, seed=0), tmp_path / "run")
        assert len(episodes) == count


def test_a_list_that_was_only_begun_is_begun_again(tmp_path):
    (tmp_path / "episodes.jsonl").touch()
    assert len(evaluate(TASK, "random", task_items(["go_left"], 1, seed=0), tmp_path)[0]) == 1


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "episodes.jsonl").write_text("hello\n")
    with pytest.raises(UserError, match="not a readable list of episodes"):
        evaluate(TASK, "random", task_items(["go_left"], 1, seed=0), tmp_path)


def test_results_without_their_episodes_are_refused(tmp_path):
    """A report would show them as those of the new episodes."""
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match="holds results.json without the episodes that it is of: give another"):
        evaluate(TASK, "random", task_items(["go_left"], 1, seed=0), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_keeps_what_was_finished(tmp_path, workers):
    items = task_items(["go_left"], 3, seed=0) + task_items(["go_right"], 1, seed=0)
    with pytest.raises(RuntimeError, match="exploded"):
        evaluate("fake_env:fake/Crash-v0", "expert", items, tmp_path, workers=workers)
    kept = [json.loads(line)["key"] for line in (tmp_path / "episodes.jsonl").read_text().splitlines()[1:]]
    assert "go_left/0" in kept and "go_right/0" not in kept


def test_videos_of_the_first_episodes(tmp_path):
    evaluate(TASK, "expert", task_items(["go_left"], 3, seed=0), tmp_path, video_episodes=1)
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["go_left-0.mp4"]


def test_the_image_in_a_video_leaves_the_words_to_the_panel_beside_it():
    pytest.importorskip("pybullet")
    frames = []
    with Environments() as environments:
        env = make_env(environments, "rf/PlayTableD-v0", render=True)
        for words in ("open the drawer", "pull out the drawer, would you?"):
            env.reset(seed=0, options={"task": "open_drawer", "instruction": words})
            frames.append(env.render())
    assert (frames[0] == frames[1]).all()


def test_facts_of_an_environment():
    facts = env_facts(TASK)
    assert (facts.tasks, facts.chained, facts.renderer) == (("go_left", "go_right", "go_far"), False, "none")
    assert env_facts(CHAIN).chained
    with pytest.raises(ValueError, match="unknown task 'fly'"):
        env_facts(TASK, ["fly"])


def test_environment_options_reach_every_worker_and_belong_to_the_results(tmp_path):
    items = task_items(["go_far"], 2, seed=0)
    with_time, _ = evaluate(TASK, "expert", items, tmp_path, workers=2, env_options={"max_steps": 150})
    assert [e.completed for e in with_time] == [1, 1]  # within the usual 20 steps it cannot be done
    with pytest.raises(UserError, match="env_options"):
        evaluate(TASK, "expert", items, tmp_path)


def test_results_of_another_renderer_are_refused(tmp_path):
    items = task_items(["go_left"], 1, seed=0)
    evaluate(TASK, "expert", items, tmp_path, renderer="tiny")
    with pytest.raises(UserError, match="results for renderer 'tiny', but now renderer is 'egl'"):
        evaluate(TASK, "expert", items, tmp_path, renderer="egl")


def test_an_unknown_argument_of_an_environment_is_named():
    with pytest.raises(ValueError, match="cannot be made with wings: .*unexpected keyword argument 'wings'"):
        env_facts(TASK, env_options={"wings": 2})
    with pytest.raises(ValueError, match="cannot be made with wings: .*; it takes annotations, .*chains, .*tasks$"):
        env_facts("rf/PlayTableChainD-v0", env_options={"tasks": ["open_drawer"], "wings": 2})


def test_workers_share_the_renderer_that_was_found():
    assert with_renderer("rf/CalvinD-v0", {"renderer": "auto"}, "tiny") == {"renderer": "tiny"}
    assert with_renderer("rf/PlayTableD-v0", {}, "tiny") == {}


def test_a_large_policy_on_a_cpu_is_held_once_and_answers_in_batches(tmp_path, monkeypatch):
    make_policy(seed=0).save_pretrained(tmp_path / "policy")
    items = chain_items(4, seed=0)
    alone, _ = evaluate(CHAIN, str(tmp_path / "policy"), items, tmp_path / "alone", workers=2)
    served = []
    monkeypatch.setattr(worker, "LARGE", 1)

    def serve(policy, **options):
        served.append(policy)
        return PolicyServer(policy, **options)

    monkeypatch.setattr(worker, "PolicyServer", serve)
    together, _ = evaluate(CHAIN, str(tmp_path / "policy"), items, tmp_path / "together", workers=2)
    assert len(served) == 1
    assert outcomes(together) == outcomes(alone)


def test_two_evaluations_that_begin_in_one_directory_do_not_mix(tmp_path):
    first, second = (Journal(tmp_path, {"policy": name, "image_size": (8, 4)}) for name in "ab")
    episode = Episode("go_left/0", (Attempt("go_left", True, 3, "go left"),), 3, 0.1, 0, None)
    first.add(episode, 1.0)
    with pytest.raises(UserError, match="another evaluation has begun in .*: give another --output"):
        second.add(episode, 1.0)
    again = Journal(tmp_path, {"policy": "a", "image_size": (8, 4)})  # tuples are the lists that they are read back as
    again.add(replace(episode, key="go_left/1"), 2.0)
    first.add(replace(episode, key="go_left/2"), 2.0)
    kept = Journal(tmp_path, {"policy": "a", "image_size": (8, 4)}).episodes
    assert sorted(kept) == ["go_left/0", "go_left/1", "go_left/2"]


def test_what_is_asked_for_can_grow(tmp_path):
    evaluate(CHAIN, "random", chain_items(2, seed=0), tmp_path, requested={"chains": 2})
    evaluate(CHAIN, "random", chain_items(5, seed=0), tmp_path, requested={"chains": 5})
    folder = read_folder(tmp_path)
    assert folder.requested == {"chains": 5}
    assert sorted(folder.episodes) == [f"chain/{index}" for index in range(5)]
    evaluate(CHAIN, "random", chain_items(5, seed=0), tmp_path)  # says nothing of it, so nothing changes
    assert read_folder(tmp_path).requested == {"chains": 5}


def test_only_those_of_a_policys_tasks_are_played_that_the_environment_has():
    facts = env_facts(TASK)
    items = choose_items(TASK, facts, None, 1, (), 0, usual_tasks=("reach", "go_left"))
    assert [item.key for item in items] == ["go_left/0"]
    with pytest.raises(UserError, match=r"none of the tasks that the policy was trained on \(reach\): name others"):
        choose_items(TASK, facts, None, 1, (), 0, usual_tasks=("reach",))
    unknown = replace(facts, listed=False)  # an environment that does not say which tasks there are
    assert [item.key for item in choose_items(TASK, unknown, None, 1, (), 0, ("reach",))] == ["reach/0"]


def test_a_worker_that_outlives_an_evaluation_reads_new_weights(tmp_path):
    """Ray's do, within one session."""
    folders = [make_policy(seed).save_pretrained(tmp_path / str(seed)) for seed in (0, 1)]
    folder = tmp_path / "policy"
    with Worker() as one:
        read = []
        for source in folders:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(source, folder)
            who = Who(str(folder), weights=fingerprint(str(folder)))
            read += [one.agent(who), one.agent(who)]
    assert read[0] is read[1] and read[2] is read[3] and read[0] is not read[2]
