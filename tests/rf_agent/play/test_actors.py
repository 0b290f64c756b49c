"""Who acts at a table: policies with a network, whose chunks are carried out in parts."""

import numpy as np
import pytest
from fake_sessions import ArmEnv, do, load, play, said
from policy_cases import make_observation, make_policy

from rf_agent.errors import UserError
from rf_agent.play.actor_loader import ActorLoader
from rf_agent.play.actors import AgentActor, PolicyActor, available_actors, load_actor
from rf_agent.play.path import predicted_path, project


def actor_of(n_action_steps=3, repeat=1):
    """An actor with a random policy that predicts three actions."""
    policy = make_policy()
    policy.set_execution(n_action_steps, repeat)
    return PolicyActor(policy)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("policies") / "micro"
    policy = make_policy()
    policy.set_execution(3, 2)
    policy.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("policy", "label"),
    [
        ("runs/mine/policy/", "mine/policy"),
        ("/data/runs/mine/policy", "mine/policy"),
        ("runs/checkpoint.step00020000/", "checkpoint.step00020000"),
        ("./policy", "policy"),
        ("roboflamingo-tiny", "roboflamingo-tiny"),
        ("my_agents:make", "my_agents:make"),
        ("random", "random"),
    ],
)
def test_the_page_calls_policies_by_short_names(policy, label):
    assert available_actors(ArmEnv(), policy) == [
        {"name": policy, "kind": "policy", "label": label},
        {"name": "expert", "kind": "expert", "label": "Expert"},
        {"name": "hand", "kind": "hand", "label": "My hand"},
    ]


def test_the_expert_is_called_so_as_policy_too():
    assert [actor["label"] for actor in available_actors(ArmEnv(), "expert")] == ["Expert", "My hand"]


def test_a_policy_observes_again_once_its_action_steps_are_carried_out():
    actor = actor_of()
    assert actor.action_steps == (3, 3)
    actor.set_action_steps(2)
    assert actor.action_steps == (2, 3)
    looked = []
    for seed in range(6):
        looked.append(actor.needs_images())
        actor.act(make_observation(seed))
    assert looked == [True, False] * 3
    with pytest.raises(UserError, match="4 action steps were asked for, but the policy predicts 3"):
        actor.set_action_steps(4)


def test_other_action_steps_leave_the_repeats_as_they_are():
    actor = actor_of(3, repeat=2)
    actor.set_action_steps(2)
    head = actor.policy.config.head
    assert (head.n_action_steps, head.repeat) == (2, 2)


def test_a_plan_holds_the_action_of_every_step():
    actor = actor_of(2, repeat=2)
    actions = [actor.act(make_observation(0)) for _ in range(4)]
    assert not actor._queue and actor.plan.shape == (6, 7)
    assert np.array_equal(actor.plan[:4], actions)
    assert np.array_equal(actor.plan[::2], actor.plan[1::2])


def test_a_policy_is_loaded_in_the_background_and_once(checkpoint):
    loader, observation = ActorLoader("cpu"), make_observation(0)
    loader.prepare(str(checkpoint), observation)
    assert loader.loading(str(checkpoint)) or loader.get(str(checkpoint))
    loader._executor.submit(int).result()
    actor = loader.get(str(checkpoint))
    assert isinstance(actor, PolicyActor) and actor.needs_images()
    loader.prepare(str(checkpoint), observation)
    assert loader.get(str(checkpoint)) is actor
    loader.close()


def test_what_cannot_be_loaded_may_be_prepared_again(tmp_path):
    loader = ActorLoader("cpu")
    for _ in range(2):
        loader.prepare(str(tmp_path), make_observation(0))
        loader._executor.submit(int).result()
        with pytest.raises(UserError, match=str(tmp_path)):
            loader.get(str(tmp_path))
    loader.close()


def test_a_mean_of_chunks_is_no_plan(tmp_path):
    policy = make_policy()
    policy.set_execution(1, 1, 0.01)
    policy.save_pretrained(tmp_path / "averaging")
    assert isinstance(load_actor(str(tmp_path / "averaging")), AgentActor)


def test_a_session_shows_where_its_policy_goes_and_takes_other_action_steps(make, checkpoint):
    session = make(checkpoint, ArmEnv)
    do(session, do="ask", instruction="go right")
    assert not session.wants_step() and session.state()["loading"]
    load(session)
    assert session.state()["action_steps"] == [3, 3]
    robot = session.cache.observation["robot_obs"]
    assert session.wants_step()
    session.step()
    plan = session._actor().plan
    expected = project(predicted_path(robot[:3], plan, ArmEnv.position_step), ArmEnv.static_camera)
    assert np.allclose(session.state()["path"], expected, atol=1e-3) and len(expected) == 7
    do(session, do="action_steps", count=1)
    assert session.state()["action_steps"] == [1, 3]
    with pytest.raises(UserError, match="predicts 3"):
        do(session, do="action_steps", count=9)
    play(session, 20)
    do(session, do="stop")
    assert session.state()["path"] is None
    assert not said(session, "problem")


def test_a_plan_that_leaves_the_numbers_is_not_drawn(make):
    session = make(kind=ArmEnv)
    session._path.show(np.full((2, 7), np.nan), session.cache.observation, session.env)
    assert session._path.points is None
