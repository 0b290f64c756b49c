"""A table without web and process: commands in, messages and views out."""

import json
from pathlib import Path

import fake_env
import gymnasium as gym
import numpy as np
import pytest

from rf_agent.errors import UserError
from rf_agent.play.keeping import Keeping
from rf_agent.play.messages import parse
from rf_agent.play.session import HAND, Session


class AskedEnv(fake_env.FakeEnv):
    """Takes another instruction without a reset, as the play table does, and has scenes and chains."""

    scenes = ("A", "B")

    def __init__(self, scene="A", **arguments):
        super().__init__(max_steps=100, **arguments)
        self.scene = scene

    def wordings(self):
        return {task: (task.replace("_", " "),) for task in self.tasks}

    def possible_tasks(self):
        return ("go_left",)

    def chain_start(self, index, scene):
        return {}, [("go_left", "go left"), ("go_right", "go right")]

    def ask(self, instruction, task=None):
        task = task or self.task_of(instruction)
        self.queue, self.completed, self.steps = [task or "go_far"], 0, 0
        info = self._info(False) | {"instruction": instruction}
        return self._observe(), info if task else info | {"task": "", "not_scored": "nobody knows that"}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    made = []

    def make(policy="expert", kind=AskedEnv):
        def make_env(scene):
            return kind() if scene is None else kind(scene)

        made.append(Session(make_env, policy, Keeping(tmp_path, "play-1"), now=clock))
        return made[-1]

    yield make
    for session in made:
        session.close()


def do(session, **command):
    session.handle(parse(json.dumps(command)))


def play(session, steps=200):
    """Step while time goes on."""
    for count in range(steps):
        if not session.wants_step():
            return count
        session.step()
    return steps


def said(session, kind):
    return [message for message in session.outbox if message["type"] == kind]


def test_an_instruction_is_carried_out_and_judged(make):
    session = make()
    assert not session.wants_step()
    do(session, do="ask", instruction="  go   left ")
    assert session.state()["asked"]["instruction"] == "go left"
    assert 0 < play(session) < 20
    asked = said(session, "asked")[-1]
    assert (asked["outcome"], asked["task"], asked["not_scored"]) == ("done", "go_left", "")
    assert not session.wants_step()


def test_views_are_those_of_the_present_state(make):
    session = make()
    before = session.views()
    assert [view.shape for view in before] == [(20, 20, 3), (8, 8, 3)]
    do(session, do="ask", instruction="go right")
    play(session)
    assert not np.array_equal(before[0], session.views()[0])


def test_free_text_is_tried_but_never_ticked(make):
    session = make("random")
    do(session, do="ask", instruction="<script>alert(1)</script>")
    assert play(session, 150) > 50
    asked = said(session, "asked")[-1]
    assert asked["instruction"] == "<script>alert(1)</script>"
    assert (asked["outcome"], asked["not_scored"]) == ("ended", "nobody knows that")


def test_the_expert_says_what_it_cannot_do(make):
    session = make()
    with pytest.raises(UserError, match="The expert cannot do that: nobody knows that"):
        do(session, do="ask", instruction="sing")
    assert not session.wants_step()


def test_another_instruction_takes_over_without_a_reset(make):
    session = make()
    do(session, do="ask", instruction="go right")
    session.step()
    position = session.env.position
    do(session, do="ask", instruction="go left")
    assert session.env.position == position
    assert [asked["outcome"] for asked in said(session, "asked")] == ["running", "stopped", "running"]


def test_pause_step_and_speed(make):
    session = make()
    do(session, do="ask", instruction="go left")
    do(session, do="pause", on=True)
    assert not session.wants_step()
    do(session, do="step")
    assert play(session) == 1
    do(session, do="pause", on=False)
    assert session.wants_step()
    do(session, do="speed", factor=2)
    assert session.state()["speed"] == 2


def test_reset_and_scene_begin_anew(make):
    session = make()
    do(session, do="ask", instruction="go left")
    play(session)
    do(session, do="reset", seed=5)
    assert session.state()["seed"] == 5 and session.state()["asked"] is None and session.sight.unseen
    do(session, do="scene", name="B")
    assert session.state()["scene"] == "B"
    with pytest.raises(UserError, match="There is no scene 'Z'"):
        do(session, do="scene", name="Z")


def test_a_chain_asks_for_the_next_task_after_success(make):
    session = make()
    do(session, do="chain", index=3)
    play(session)
    chain = session.state()["chain"]
    assert (chain["index"], chain["completed"], chain["outcome"]) == (3, 2, "done")
    assert [asked["instruction"] for asked in said(session, "asked") if asked["outcome"] == "done"] == [
        "go left",
        "go right",
    ]


def test_the_hand_drives_and_time_waits_for_it(make, clock):
    session = make()
    do(session, do="actor", name=HAND)
    do(session, do="ask", instruction="go right")
    assert not session.wants_step()
    do(session, do="drive", axes={"x": 1.0}, gripper="close", frame="table")
    assert session.wants_step()
    session.step()
    assert session.state()["gripper"] == "closed"
    while session.state()["asked"]["outcome"] == "running":
        assert session.wants_step()
        session.step()
    assert said(session, "asked")[-1]["outcome"] == "done"
    do(session, do="reset", seed=0)
    do(session, do="drive", axes={"x": 0.1}, gripper="keep", frame="table")
    clock.now = 5.0  # the tab has gone silent: the hand rests
    assert play(session, 100) < 20


def test_what_succeeds_is_kept_as_demonstration(make, tmp_path):
    from rf_agent.demos import read_demonstrations
    from rf_agent.demos.checks import inspect

    session = make()
    do(session, do="record", on=True)
    for words in ("go left", "go right"):
        do(session, do="ask", instruction=words)
        play(session)
    do(session, do="ask", instruction="go far")
    play(session, 5)
    do(session, do="stop")
    assert session.state()["kept"] == 2
    demos = read_demonstrations(tmp_path / "play-1.hdf5")
    assert [demo.task for demo in demos] == ["go_left", "go_right"]
    for demo in demos:
        assert demo.success and demo.attributes["seed"] == 0 and demo.attributes["scene"] == "A"
        assert demo.attributes["judge"] == "environment"
        assert len(demo.images["rgb_static"]) == -(-len(demo.actions) // 3)
    summary = inspect(tmp_path / "play-1.hdf5")
    assert not summary.problems and not summary.skipped
    assert said(session, "file")[-1] | {"steps": 0} == {
        "type": "file",
        "kind": "demonstrations",
        "name": "play-1.hdf5",
        "kept": 2,
        "steps": 0,
    }


def test_a_person_judges_free_text(make, tmp_path):
    from rf_agent.demos import read_demonstrations

    session = make("random")
    with pytest.raises(UserError, match="Nothing was asked"):
        do(session, do="keep")
    do(session, do="ask", instruction="wave")
    with pytest.raises(UserError, match="turn recording on"):
        do(session, do="keep")
    do(session, do="record", on=True)
    play(session, 7)
    do(session, do="keep")
    (demo,) = read_demonstrations(tmp_path / "play-1.hdf5")
    assert (demo.instruction, demo.task, demo.attributes["judge"]) == ("wave", "wave", "person")


def test_a_video_holds_what_was_seen(make, tmp_path):
    pytest.importorskip("imageio")
    session = make()
    do(session, do="video", on=True)
    do(session, do="ask", instruction="go left")
    while session.wants_step():
        if session.step():
            session.shown()
    do(session, do="video", on=False)
    assert said(session, "file") == [{"type": "file", "kind": "video", "name": "play-1-1.mp4"}]
    assert (tmp_path / "play-1-1.mp4").stat().st_size > 1000


def test_a_policy_that_cannot_be_loaded_is_a_sentence(make):
    session = make("no_such_module:factory")
    do(session, do="ask", instruction="go left")
    session._cast._loader.shutdown(wait=True)
    assert not session.wants_step()
    assert "no_such_module" in said(session, "problem")[0]["text"]
    assert session.state()["asked"]["outcome"] == "stopped"


def test_a_plain_environment_begins_an_episode_for_each_instruction(make):
    session = make(kind=fake_env.FakeEnv)
    hello = session.hello()
    assert (hello["wordings"], hello["scenes"], hello["chains"]) == ({}, [], False)
    do(session, do="ask", instruction="go right")
    play(session)
    assert said(session, "asked")[-1]["outcome"] == "done"
    with pytest.raises(UserError, match="has no chains"):
        do(session, do="chain", index=0)


def test_an_environment_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no camera images"):
        Session(lambda scene: gym.make("fake/Unnamed-v3"), "random", Keeping(Path(tmp_path), "play-1"))
