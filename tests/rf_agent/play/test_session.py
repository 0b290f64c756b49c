"""A table without web and process: commands in, messages and views out."""

import fake_env
import gymnasium as gym
import numpy as np
import pytest
from fake_sessions import AskedEnv, BlindEnv, do, load, play, said

from rf_agent.errors import UserError
from rf_agent.play.actors import HAND
from rf_agent.play.recorder import Recorder
from rf_agent.play.session import Session


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


def test_an_instruction_that_is_refused_ends_nothing(make, tmp_path):
    session = make()
    do(session, do="record", on=True)
    do(session, do="ask", instruction="go right")
    session.step()
    with pytest.raises(ValueError, match="too long"):
        do(session, do="ask", instruction="ä" * 150)
    assert session.state()["asked"]["outcome"] == "running"
    play(session)
    assert said(session, "asked")[-1]["outcome"] == "done" and session.state()["kept"] == 1


def test_steps_are_counted_only_where_something_moves(make):
    session = make()
    for _ in range(4):
        do(session, do="step")
    do(session, do="ask", instruction="go left")
    assert play(session) == 0 and session.paused
    do(session, do="step")
    do(session, do="step")
    session.step()
    do(session, do="stop")  # with a step to come
    assert play(session) == 0
    do(session, do="ask", instruction="go left")
    assert play(session) == 0


def test_the_expert_does_not_take_over_what_it_cannot_do(make):
    session = make("random")
    do(session, do="ask", instruction="sing")
    with pytest.raises(UserError, match="The expert cannot do that: nobody knows that"):
        do(session, do="actor", name="expert")
    assert session.state()["actor"] == "random" and session.wants_step()


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
    assert session.state()["seed"] == 5 and session.state()["asked"] is None and session.cache.unseen
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


class DrawnEnv(AskedEnv):
    """Its table is none of the scenes of the benchmark, as that of rf/PlayTableRandom-v0."""

    scenes = ()


def test_a_table_that_is_drawn_has_no_chains(make):
    session = make(kind=DrawnEnv)
    assert session.hello()["chains"] is False and make().hello()["chains"] is True
    do(session, do="ask", instruction="go left")
    with pytest.raises(UserError, match="has no chains: give an environment such as rf/PlayTableD-v0"):
        do(session, do="chain", index=0)
    assert session.wants_step()


class ShortChainEnv(AskedEnv):
    """Its second task is refused."""

    def ask(self, instruction, task=None):
        if task == "go_right":
            raise ValueError("Not today.")
        return super().ask(instruction, task)


def test_a_chain_ends_with_a_task_that_is_refused(make):
    session = make(kind=ShortChainEnv)
    do(session, do="chain", index=0)
    with pytest.raises(ValueError, match="Not today"):
        play(session)
    chain = session.state()["chain"]
    assert (chain["completed"], chain["outcome"]) == (1, "stopped")
    assert said(session, "asked")[-1]["outcome"] == "done" and not session.wants_step()


def test_a_chain_ends_where_its_demonstration_cannot_be_written(make, monkeypatch):
    session = make()
    do(session, do="record", on=True)
    do(session, do="chain", index=0)

    def full(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(session.recorder, "keep", full)
    with pytest.raises(UserError, match="disk is full"):
        play(session)
    assert session.state()["chain"]["outcome"] == "stopped" and not session.recorder.records_attempt


def test_a_chain_that_the_expert_cannot_begin_has_ended(make, monkeypatch):
    session = make()
    monkeypatch.setattr(AskedEnv, "chain_start", lambda self, index, scene: ({}, [(None, "sing")]))
    with pytest.raises(UserError, match="The expert cannot do that"):
        do(session, do="chain", index=0)
    assert session.state()["chain"]["outcome"] == "stopped"


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
    assert play(session, 100) == 0


def test_a_policy_that_cannot_be_loaded_is_a_sentence(make):
    session = make("no_such_module:factory")
    do(session, do="ask", instruction="go left")
    load(session)
    assert not session.wants_step()
    assert "no_such_module" in said(session, "problem")[0]["text"]
    assert session.state()["asked"]["outcome"] == "stopped"


def test_an_agent_that_cannot_begin_is_a_sentence_said_once(make):
    session = make("fake_agents:Unwilling")
    do(session, do="ask", instruction="go left")
    load(session)
    assert not session.wants_step()
    assert session.state()["asked"]["outcome"] == "stopped"
    assert [problem["text"] for problem in said(session, "problem")] == ["I would rather not"]
    do(session, do="actor", name="expert")
    do(session, do="ask", instruction="go left")
    play(session)
    assert said(session, "asked")[-1]["outcome"] == "done"


def test_views_that_cannot_be_drawn_are_not_tried_again_and_again(make, monkeypatch):
    session = make()
    monkeypatch.setattr(session, "views", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        session.shown()
    assert not session.cache.unseen


def test_a_plain_environment_begins_an_episode_for_each_instruction(make):
    session = make(kind=fake_env.FakeEnv)
    hello = session.hello()
    assert (hello["wordings"], hello["scenes"], hello["chains"]) == ({}, [], False)
    do(session, do="ask", instruction="go right")
    play(session)
    assert said(session, "asked")[-1]["outcome"] == "done"
    with pytest.raises(UserError, match="has no chains"):
        do(session, do="chain", index=0)


@pytest.mark.parametrize("make_env", [lambda scene: gym.make("fake/Unnamed-v3"), lambda scene: BlindEnv()])
def test_an_environment_without_images_is_refused(tmp_path, make_env):
    with pytest.raises(UserError, match="no camera images"):
        Session(make_env, "random", Recorder(tmp_path, "play-1"))


def test_what_the_expert_refuses_ends_nothing(make, tmp_path):
    session = make()
    do(session, do="record", on=True)
    do(session, do="ask", instruction="go right")
    session.step()
    with pytest.raises(UserError, match="cannot do that: nobody knows that. It goes on with what it does"):
        do(session, do="ask", instruction="sing")
    assert session.state()["asked"]["instruction"] == "go right"
    play(session)
    assert said(session, "asked")[-1]["outcome"] == "done" and session.state()["kept"] == 1


def test_who_takes_over_from_a_hand_has_all_steps_of_a_task(make):
    session = make(HAND)
    do(session, do="ask", instruction="go right")
    session.attempt.steps = 1000  # by hand, which has no limit
    do(session, do="actor", name="expert")
    play(session)
    assert said(session, "asked")[-1]["outcome"] == "done"
