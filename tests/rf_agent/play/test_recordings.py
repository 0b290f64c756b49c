"""What is recorded at a table."""

import errno

import fake_env
import numpy as np
import pytest
from fake_sessions import ArmEnv, do, play, said

from rf_agent.demos import read_demonstrations
from rf_agent.demos.checks import inspect
from rf_agent.demos.readers import open_demos
from rf_agent.environments import Environments, with_scene
from rf_agent.errors import UserError
from rf_agent.evaluation.video import Video
from rf_agent.play.actors import HAND
from rf_agent.play.recorder import Recorder
from rf_agent.play.session import Session


def test_what_succeeds_is_kept_as_demonstration(make, tmp_path):
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
        assert demo.success and demo.attributes["scene"] == "A" and demo.attributes["judge"] == "environment"
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


def test_a_demonstration_says_the_state_that_it_began_in(make, tmp_path):
    session = make(kind=ArmEnv)
    do(session, do="record", on=True)
    do(session, do="ask", instruction="go left")
    play(session)
    position = session.env.position
    assert session.env.speed
    do(session, do="ask", instruction="go right")
    assert not session.env.speed and session.env.position == position
    play(session)
    reader = open_demos(tmp_path / "play-1.hdf5")
    start = reader.start(reader.records[1])
    assert start["robot_obs"][0] == position and np.array_equal(start["scene_obs"], np.full(24, 2 * position))
    for demo in read_demonstrations(tmp_path / "play-1.hdf5"):
        assert "seed" not in demo.attributes  # it would bring back another table
        assert np.isclose(demo.start["robot_obs"][0], demo.state[0, 0])


def test_a_state_that_no_reset_brings_back_is_not_claimed_as_a_start(make, tmp_path, monkeypatch):
    session = make(kind=ArmEnv)
    do(session, do="record", on=True)
    monkeypatch.setattr(ArmEnv, "scene_obs", np.full(24, 99.0))
    do(session, do="ask", instruction="go right")
    play(session)
    (demo,) = read_demonstrations(tmp_path / "play-1.hdf5")
    assert not demo.start and "seed" not in demo.attributes


def test_where_each_instruction_begins_an_episode_its_seed_says_how(make, tmp_path):
    session = make(kind=fake_env.FakeEnv)
    do(session, do="reset", seed=7)
    do(session, do="record", on=True)
    do(session, do="ask", instruction="go right")
    play(session)
    (demo,) = read_demonstrations(tmp_path / "play-1.hdf5")
    assert demo.attributes["seed"] == 7 and not demo.start


def test_a_demonstration_names_the_environment_of_its_scene(tmp_path):
    environments = Environments()

    def make_env(scene):
        return environments.get(with_scene("fake_sessions:fake/Asked-v0", scene or "A"))

    session = Session(make_env, "expert", Recorder(tmp_path, "play-1"))
    do(session, do="record", on=True)
    do(session, do="scene", name="B")
    do(session, do="ask", instruction="go left")
    play(session)
    assert session.state()["env"] == "fake/AskedB-v0"
    (demo,) = read_demonstrations(tmp_path / "play-1.hdf5")
    assert (demo.attributes["env_id"], demo.attributes["scene"]) == ("fake/AskedB-v0", "B")
    assert inspect(tmp_path / "play-1.hdf5").env_args["env_name"] == "fake/AskedB-v0"
    session.close()


def test_recording_begins_with_the_next_instruction(make, tmp_path):
    session = make()
    do(session, do="ask", instruction="go left")
    session.step()
    do(session, do="record", on=True)
    play(session)
    assert said(session, "asked")[-1]["outcome"] == "done" and session.state()["kept"] == 0


def test_demonstrations_by_hand_hold_no_pauses(make, tmp_path, clock):
    session = make()
    do(session, do="actor", name=HAND)
    do(session, do="record", on=True)
    do(session, do="ask", instruction="go right")
    while session.state()["asked"]["outcome"] == "running":
        do(session, do="drive", axes={"x": 1.0}, gripper="keep", frame="table")
        session.step()
        do(session, do="drive", axes={}, gripper="keep", frame="table")
        play(session)
        clock.now += 3
    (demo,) = read_demonstrations(tmp_path / "play-1.hdf5")
    assert (demo.actions[:, 0] == 1).all()


def test_a_person_judges_free_text(make, tmp_path):
    session = make("random")
    with pytest.raises(UserError, match="ask for something first"):
        do(session, do="keep")
    do(session, do="ask", instruction="wave")
    with pytest.raises(UserError, match="turn recording on"):
        do(session, do="keep")
    assert not session.state()["keep"]
    do(session, do="record", on=True)
    do(session, do="ask", instruction="wave")
    play(session, 7)
    assert session.state()["keep"]
    do(session, do="keep")
    (demo,) = read_demonstrations(tmp_path / "play-1.hdf5")
    assert (demo.instruction, demo.task, demo.attributes["judge"]) == ("wave", "wave", "person")
    assert len(demo.actions) == 7
    assert said(session, "asked")[-1]["outcome"] == "kept"


def test_nobody_overrules_the_environment(make):
    session = make("random")
    do(session, do="record", on=True)
    do(session, do="ask", instruction="go far")
    play(session, 7)
    assert not session.state()["keep"]
    with pytest.raises(UserError, match="judges this task itself"):
        do(session, do="keep")
    play(session)  # until its time is up
    with pytest.raises(UserError, match="ask for something first"):
        do(session, do="keep")
    assert session.state()["kept"] == 0


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


@pytest.mark.parametrize("method", ["add", "close"])
def test_a_video_that_cannot_be_written_is_dropped(make, tmp_path, monkeypatch, method):
    pytest.importorskip("imageio")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    session = make()
    do(session, do="video", on=True)
    monkeypatch.setattr(Video, method, full)
    session.shown()
    do(session, do="video", on=False)
    assert said(session, "problem")[0]["text"].startswith("The video cannot be written and was dropped: [Errno 28]")
    assert not session.state()["video"] and not list(tmp_path.iterdir())
    session.shown()
    assert len(said(session, "problem")) == 1
