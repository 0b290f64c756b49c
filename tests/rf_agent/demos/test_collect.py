"""Collection of demonstrations and images: reproducible, resumable, in parallel."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from fake_table import TASKS
from policy_cases import make_policy

from rf_agent.demos.checks import inspect
from rf_agent.demos.collect import CollectConfig, collect
from rf_agent.demos.files import DemoError
from rf_agent.demos.noise import ActionNoise
from rf_agent.demos.readers import open_demos
from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images, read_scene_images
from rf_agent.demos.store import iterate_demos
from rf_agent.errors import UserError
from rf_agent.workers import run_jobs

ENV = "fake_table:FakeTable-v0"
CAMERAS = ("rgb_static", "rgb_gripper")
WEIGHTS = (1, 1, 1, 0.5, 0.5, 0.5, 0)


def config(path, **changes):
    return CollectConfig(**{"output": path, "env": (ENV,), "episodes_per_task": 4, "workers": 1} | changes)


def test_an_expert_that_names_no_tasks_is_asked_for_those_of_the_command(tmp_path):
    with pytest.raises(ValueError, match="the expert of Silent-v0 has no `tasks`.*: name them with --tasks"):
        collect(config(tmp_path / "demos.hdf5", env=("fake_table:Silent-v0",)))
    collect(config(tmp_path / "demos.hdf5", env=("fake_table:Silent-v0",), tasks=TASKS[:1], episodes_per_task=2))
    assert [demo.task for _, demo in iterate_demos(tmp_path / "demos.hdf5")] == [TASKS[0]] * 2


def content(path):
    return [
        (
            demo.task,
            demo.attributes["seed"],
            demo.actions_executed.tobytes(),
            demo.images["rgb_static"],
        )
        for _, demo in iterate_demos(path)
    ]


def same(first, second):
    return len(first) == len(second) and all(
        a[:3] == b[:3] and np.array_equal(a[3], b[3]) for a, b in zip(first, second, strict=True)
    )


def test_only_successes_are_kept_and_failures_are_counted(tmp_path):
    report = collect(config(tmp_path / "d.hdf5", episodes_per_task=8))
    assert report.demos == dict.fromkeys(TASKS, 8) and not report.missing
    assert sum(report.failures.values()) > 0
    summary = inspect(report.output)
    assert not summary.problems and summary.demos == 16
    for _, demo in iterate_demos(report.output):
        assert set(np.unique(demo.actions[:, 0])) <= {-0.5, 0.5}  # labels are undisturbed
        assert len(demo.images["rgb_static"]) == -(-len(demo.actions) // 3)
    executed = np.concatenate([demo.actions_executed for _, demo in iterate_demos(report.output)])
    assert executed[:, :6].std() > 0.05 and set(executed[:, 6]) == {-1.0}


def test_goals_keep_their_instructions_and_frames_are_copies(tmp_path):
    collect(config(tmp_path / "d.hdf5", env=("fake_table:TwoGoals-v0",)))
    demos = [demo for _, demo in iterate_demos(tmp_path / "d.hdf5")]
    assert {demo.instruction for demo in demos} == {"go to the red one", "go to the blue one"}
    for demo in demos:  # each step has its own
        assert demo.state[:, 0].tolist() == list(range(len(demo.actions)))
        assert demo.images["rgb_static"][:, 0, 0, 0].tolist() == list(range(0, len(demo.actions), 3))
    assert not open_demos(tmp_path / "d.hdf5").layout.paraphrased
    collect(config(tmp_path / "ours.hdf5", env=("fake_table:Paraphrased-v0",), episodes_per_task=1))
    assert open_demos(tmp_path / "ours.hdf5").layout.paraphrased


def test_the_same_collection_twice_at_a_time_stops_one(tmp_path, monkeypatch):
    def with_another(*arguments):
        monkeypatch.undo()
        for pair in run_jobs(*arguments):
            yield pair
            collect(config(tmp_path / "d.hdf5"))  # the other one goes on with what is missing, and ends

    monkeypatch.setattr("rf_agent.demos.collect.run_jobs", with_another)
    with pytest.raises(DemoError, match="was written by another process since this one began"):
        collect(config(tmp_path / "d.hdf5"))
    demos = [demo for _, demo in iterate_demos(tmp_path / "d.hdf5")]
    keys = [(demo.task, demo.attributes["episode"]) for demo in demos]
    assert len(keys) == len(set(keys)) == 4 * len(TASKS)


def test_extending_gives_the_same_demonstrations(tmp_path):
    collect(config(tmp_path / "whole.hdf5", image_size=16))
    for episodes, tasks in ((1, TASKS[1:]), (2, TASKS), (4, TASKS)):
        collect(config(tmp_path / "parts.hdf5", image_size=16, episodes_per_task=episodes, tasks=tasks))
    assert same(content(tmp_path / "whole.hdf5"), content(tmp_path / "parts.hdf5"))
    assert content(tmp_path / "whole.hdf5")[0][3].shape[1:] == (16, 16, 3)


def test_interrupted_collection_resumes_with_workers(tmp_path):
    path = tmp_path / "d.hdf5"
    code = (
        # a parent in the background, such as nohup, leaves Ctrl-C ignored
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from rf_agent.demos.collect import CollectConfig, collect\n"
        "from pathlib import Path\n"
        f"collect(CollectConfig(output=Path({str(path)!r}), env=({ENV!r},), episodes_per_task=999, workers=1))\n"
    )
    paths = [str(Path(__file__).parents[2] / "fakes"), str(Path(__file__).parents[3])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    for _ in range(600):
        time.sleep(0.1)
        if path.exists() and path.stat().st_size > 60_000:
            break
    process.send_signal(signal.SIGINT)  # what Ctrl-C sends, at any moment, a write included
    process.wait()
    before = inspect(path).demos
    assert before > 2
    report = collect(config(path, episodes_per_task=before // 2 + 3, workers=2))
    assert not report.missing and not inspect(path).problems
    fresh = collect(config(tmp_path / "fresh.hdf5", episodes_per_task=3))
    held = {item[:3] for item in content(path)}
    assert {item[:3] for item in content(fresh.output)} <= held


def test_a_file_goes_on_with_the_same_actor_alone(tmp_path):
    collect(config(tmp_path / "policy.hdf5", policy="random", patience=4, episodes_per_task=1))
    collect(config(tmp_path / "expert.hdf5", episodes_per_task=1))
    with pytest.raises(ValueError, match="policy.hdf5 was begun with policy 'random', not None: give the same"):
        collect(config(tmp_path / "policy.hdf5"))
    with pytest.raises(ValueError, match="expert.hdf5 was begun with policy None, not 'random': give the same"):
        collect(config(tmp_path / "expert.hdf5", policy="random", patience=4))
    for name in ("policy", "expert"):
        assert len(content(tmp_path / f"{name}.hdf5")) == len(TASKS)


def test_a_task_that_is_named_twice_is_demonstrated_once(tmp_path):
    report = collect(config(tmp_path / "d.hdf5", tasks=(TASKS[0], TASKS[0]), episodes_per_task=2))
    assert report.demos == {TASKS[0]: 2} and len(content(report.output)) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chains": 5}, "--chains has no effect where no environment plays chains"),
        ({"patience": 9}, "--patience has no effect where no --policy acts"),
        ({"env": ("fake_table:FakeChain-v0",)}, "--episodes-per-task has no effect where all environments play chains"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        collect(config(tmp_path / "d.hdf5", **changes))
    assert not (tmp_path / "d.hdf5").exists()


def test_chains_and_single_tasks_go_into_one_file(tmp_path):
    both = (ENV, "fake_table:FakeChain-v0")
    report = collect(config(tmp_path / "both.hdf5", env=both, episodes_per_task=1, chains=4))
    assert sum(report.demos.values()) > len(TASKS)


def test_unknown_task_and_bad_environment(tmp_path):
    with pytest.raises(ValueError, match="cannot demonstrate 'fly': choose among go_left"):
        collect(config(tmp_path / "d.hdf5", tasks=("fly",)))
    with pytest.raises(ValueError, match="cannot make the environment 'Nowhere-v0'"):
        collect(config(tmp_path / "d.hdf5", env=("Nowhere-v0",)))
    assert not (tmp_path / "d.hdf5").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_environments_take_options_and_the_file_says_which(tmp_path, workers):
    given = config(tmp_path / "d.hdf5", env_options=("longest=12",), workers=workers)
    collect(given)
    assert all(len(demo.actions) < 12 for _, demo in iterate_demos(given.output))
    assert not all(len(demo.actions) < 12 for _, demo in iterate_demos(collect(config(tmp_path / "e.hdf5")).output))
    with h5py.File(given.output) as file:
        assert json.loads(file["data"].attrs["env_args"])["env_kwargs"] == {"longest": 12}
    with pytest.raises(ValueError, match="env_kwargs"):
        collect(config(given.output))
    for word, said in (("chains=evaluation", "training chains, never"), ("render_every=2", "--frame-stride says it")):
        with pytest.raises(UserError, match=said):
            collect(config(tmp_path / "f.hdf5", env_options=(word,)))
    with pytest.raises(ValueError, match="cannot be made with wings"):
        collect(config(tmp_path / "f.hdf5", env_options=("wings=2",)))


def test_images_resume_and_do_not_depend_on_workers(tmp_path):
    def settings(name, **changes):
        base = {"output": tmp_path / name, "env": ENV, "count": 70, "image_size": 16, "workers": 1}
        return SceneImageConfig(**base | changes)

    collect_scene_images(settings("one.hdf5"))
    collect_scene_images(settings("two.hdf5", workers=2))
    first, second = (list(read_scene_images(tmp_path / name, CAMERAS)) for name in ("one.hdf5", "two.hdf5"))
    assert len(first) == 70
    for a, b in zip(first, second, strict=True):
        assert a.description == b.description and np.array_equal(a.views[0], b.views[0])
    import h5py

    with h5py.File(tmp_path / "two.hdf5", "r+") as file:  # as if stopped before the second block
        file["done"][1] = False
        file["rgb_static"][32:64] = 0
    assert len(list(read_scene_images(tmp_path / "two.hdf5", CAMERAS))) == 38
    collect_scene_images(settings("two.hdf5"))
    assert np.array_equal(list(read_scene_images(tmp_path / "two.hdf5", CAMERAS))[40].views[0], first[40].views[0])
    for changes, said in (({"count": 80}, "count"), ({"env_options": ("longest=12",)}, "env_options")):
        with pytest.raises(ValueError, match=f"begun with another {said}:"):
            collect_scene_images(settings("two.hdf5", **changes))


def test_images_of_drawn_tables_have_a_layout_for_each_block(tmp_path):
    pytest.importorskip("pybullet", reason="tables are drawn on the play table")

    def settings(name, workers):
        fields = {"env": "rf_envs:rf/PlayTableRandom-v0", "count": 40, "image_size": 16, "workers": workers}
        return SceneImageConfig(output=tmp_path / name, **fields)

    collect_scene_images(settings("one.hdf5", 1))
    collect_scene_images(settings("two.hdf5", 2))
    first, second = (list(read_scene_images(tmp_path / name, CAMERAS)) for name in ("one.hdf5", "two.hdf5"))
    for a, b in zip(first, second, strict=True):
        assert a.description == b.description and np.array_equal(a.views[0], b.views[0])

    def button(image):
        return next(entry["position"] for entry in image.description["objects"] if entry["name"] == "button")

    places = [button(image)[0] for image in first]
    assert len(set(places[:32])) == 1 and len(set(places[32:])) == 1 and places[0] != places[32]


def test_images_of_an_environment_with_options(tmp_path):
    def settings(*words):
        return SceneImageConfig(
            output=tmp_path / "d.hdf5", env=ENV, count=3, image_size=16, workers=1, env_options=words
        )

    with pytest.raises(ValueError, match="cannot be made with wings"):
        collect_scene_images(settings("wings=2"))
    for _ in range(2):  # the second one finds all of them done
        collect_scene_images(settings("longest=12"))
    assert len(list(read_scene_images(tmp_path / "d.hdf5", CAMERAS))) == 3
    with pytest.raises(ValueError, match="begun with another env_options:"):
        collect_scene_images(settings())


def test_noise_leaves_the_gripper_and_some_episodes_alone():
    levels = [ActionNoise(1.0, np.random.default_rng(seed), WEIGHTS).level for seed in range(200)]
    assert 10 < sum(level == 0 for level in levels) < 80
    noise = ActionNoise(1.0, np.random.default_rng(next(i for i, level in enumerate(levels) if level > 0.6)), WEIGHTS)
    actions = np.stack([noise(np.array([0, 0, 0, 0, 0, 0, 1.0])) for _ in range(500)])
    assert (actions[:, 6] == 1).all() and np.abs(actions).max() <= 1
    assert actions[:, :3].std() > 1.5 * actions[:, 3:6].std()


def chain_config(path, **changes):
    return CollectConfig(**{"output": path, "env": ("fake_table:FakeChain-v0",), "chains": 6, "workers": 1} | changes)


def test_every_sub_task_of_a_chain_is_a_demonstration_until_one_fails(tmp_path):
    report = collect(chain_config(tmp_path / "d.hdf5", chains=12))
    demos = [demo for _, demo in iterate_demos(report.output)]
    assert sum(report.demos.values()) == len(demos) and 0 < sum(report.failures.values()) < 12
    chains = {}
    for demo in demos:
        chains.setdefault(demo.attributes["episode"], []).append(demo)
        assert demo.attributes["actor"] == "expert" and demo.attributes["env_id"] == "fake_table:FakeChain-v0"
    assert max(len(parts) for parts in chains.values()) == 3 and min(len(parts) for parts in chains.values()) < 3
    for parts in chains.values():
        parts.sort(key=lambda demo: demo.attributes["subtask"])
        assert [demo.attributes["subtask"] for demo in parts] == list(range(len(parts)))
        for before, after in zip(parts, parts[1:], strict=False):
            assert after.attributes["previous_task"] == before.task
            assert after.attributes["chain"] == parts[0].attributes["chain"]
            assert after.state[0, 0] != 0.0  # it begins where the other ended
            assert len(after.images["rgb_static"]) == -(-len(after.actions) // 3)
    collect(chain_config(tmp_path / "parts.hdf5", chains=5))
    collect(chain_config(tmp_path / "parts.hdf5", chains=12, workers=2))
    assert same(content(tmp_path / "d.hdf5"), content(tmp_path / "parts.hdf5"))
    with pytest.raises(ValueError, match="plays chains: give --chains instead of --tasks"):
        collect(chain_config(tmp_path / "e.hdf5", tasks=TASKS))


def test_several_environments_in_one_file(tmp_path):
    report = collect(config(tmp_path / "d.hdf5", env=(ENV, "fake_table:OtherTable-v0"), episodes_per_task=2))
    assert report.demos == dict.fromkeys(TASKS, 4)
    scenes = sorted(demo.attributes["scene"] for _, demo in iterate_demos(report.output))
    assert scenes == ["D"] * 4 + ["E"] * 4
    with pytest.raises(ValueError, match="collect robots that differ in files of their own"):
        collect(config(tmp_path / "e.hdf5", env=(ENV, "fake_table:Narrow-v0")))


def test_with_a_policy_the_expert_labels_and_takes_over(tmp_path):
    policy = str(make_policy(0, "head.n_action_steps=3").save_pretrained(tmp_path / "policy"))
    settings = {"policy": policy, "patience": 4, "episodes_per_task": 6}
    report = collect(config(tmp_path / "d.hdf5", **settings))
    for _, demo in iterate_demos(report.output):
        assert set(np.unique(demo.actions[:, 0])) <= {-0.5, 0.5}  # the labels are the expert's
        assert not np.allclose(demo.actions_executed[:4], demo.actions[:4], atol=0.05)
        assert demo.attributes["actor"] == "policy" and demo.attributes["takeover"] == 4
    mixed = collect(config(tmp_path / "mixed.hdf5", **settings, beta=0.5))
    actors = [demo.attributes["actor"] for _, demo in iterate_demos(mixed.output)]
    assert 0 < actors.count("expert") < len(actors)
    with pytest.raises(ValueError, match="beta is 0.5, but no policy acts"):
        collect(config(tmp_path / "e.hdf5", beta=0.5))
    with pytest.raises(UserError, match="observes every 3 steps, but frames are drawn every 2"):
        collect(config(tmp_path / "e.hdf5", policy=policy, frame_stride=2))
    other = str(make_policy(0, 'views=["front"]', "head.n_action_steps=3").save_pretrained(tmp_path / "other"))
    with pytest.raises(UserError, match="sees the camera 'front', which .* does not have"):
        collect(config(tmp_path / "e.hdf5", policy=other))
    assert not (tmp_path / "e.hdf5").exists()


def test_chance_acts_and_the_expert_by_name_is_the_expert(tmp_path):
    report = collect(config(tmp_path / "d.hdf5", policy="random", patience=4, episodes_per_task=2))
    for _, demo in iterate_demos(report.output):
        assert set(np.unique(demo.actions[:, 0])) <= {-0.5, 0.5} and demo.attributes["takeover"] == 4
        assert not np.allclose(demo.actions_executed[:4], demo.actions[:4], atol=0.05)
    collect(config(tmp_path / "expert.hdf5", policy="expert", beta=1.0))
    collect(config(tmp_path / "plain.hdf5"))
    assert same(content(tmp_path / "expert.hdf5"), content(tmp_path / "plain.hdf5"))
    with pytest.raises(ValueError, match="seed is -1"):
        collect(config(tmp_path / "e.hdf5", seed=-1))
