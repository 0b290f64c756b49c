"""What is recorded at the play table happens again when it is carried out again."""

import pytest
from fake_sessions import do, play

from rf_agent.demos.readers import open_demos
from rf_agent.diagnosis.run import diagnose
from rf_agent.environments import Environments, with_scene
from rf_agent.evaluation.agents import NEVER
from rf_agent.play.recorder import Recorder
from rf_agent.play.session import Session

pytestmark = pytest.mark.slow
SIZES = {"image_size": (32, 32)}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Tasks one after the other at one table of scene A, none of them after a reset of its own."""
    folder, environments = tmp_path_factory.mktemp("recordings"), Environments()

    def make_env(scene):
        env_id = "rf/PlayTableD-v0" if scene is None else with_scene("rf/PlayTableD-v0", scene)
        return environments.get(env_id, render_every=NEVER, max_steps=NEVER, **SIZES)

    session = Session(make_env, "expert", Recorder(folder, "play-1"))
    do(session, do="scene", name="A")
    do(session, do="reset", seed=1)
    do(session, do="record", on=True)
    table = session.env.unwrapped
    for task in ("turn_on_led", "turn_off_led", "open_drawer", "close_drawer", "move_slider_left"):
        if task in table.possible_tasks():
            do(session, do="ask", instruction=table.wordings()[task][0])
            play(session, 400)
    assert session.state()["kept"] >= 3
    session.close()
    return folder / "play-1.hdf5"


def test_recorded_actions_do_the_same_from_the_recorded_start(recording):
    found = diagnose("expert", recording, "rf/PlayTableA-v0", episodes=5, env_options=SIZES)
    replays = found.facts.replay.replays
    assert len(replays) >= 3 and all(replay.success for replay in replays)
    assert all(replay.deviation.max() < 1e-4 for replay in replays)
    assert not found.causes and not found.left_out["replay"]


def test_they_name_the_environment_that_they_were_recorded_in(recording):
    for record in open_demos(recording).records:
        assert (record.attributes["env_id"], record.attributes["scene"]) == ("rf/PlayTableA-v0", "A")


@pytest.mark.parametrize("env_id", ["rf/PlayTableD-v0", "rf/PlayTableD", "rf_envs:rf/PlayTableD"])
def test_another_scene_has_another_id(env_id):
    assert with_scene(env_id, "A") == "rf/PlayTableA-v0"
    assert with_scene("rf/PlayTableRandom-v0", "A") == "rf/PlayTableRandom-v0"  # there is none of one scene
