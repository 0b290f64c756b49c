"""Sessions that the tests of this folder share."""

import pytest
from fake_sessions import AskedEnv, Clock

from rf_agent.play.recorder import Recorder
from rf_agent.play.session import Session


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    """Makes a session that records to `tmp_path / "play-1..."`."""
    made = []

    def make(policy="expert", kind=AskedEnv):
        def make_env(scene):
            return kind() if scene is None else kind(scene)

        made.append(Session(make_env, str(policy), Recorder(tmp_path, "play-1"), now=clock))
        return made[-1]

    yield make
    for session in made:
        session.close()
