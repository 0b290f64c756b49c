"""`AbsoluteActions`: the end effector goes where it is told, by the shortest way, and stays there."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from fake_simulator import FakeSimulator
from gymnasium.utils.env_checker import check_env

from rf_envs import AbsoluteActions, LeRobotObservation
from rf_envs.chain import ChainEnv
from rf_envs.simulators.playtable import PlayTable
from rf_envs.table import TableEnv

GOAL = np.array([0.1, -0.15, 0.6, np.pi, 0.0, np.pi / 2, 1.0])


def wrap(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def errors(observation, goal):
    """Largest error of the position (m) and of the angles (rad)."""
    pose = observation["robot_obs"][:6].astype(float)
    return np.abs(pose[:3] - goal[:3]).max(), np.abs(wrap(pose[3:] - goal[3:6])).max()


@pytest.fixture
def env(simulator):
    """On the fake simulator, whose gripper is where its target is."""
    return AbsoluteActions(TableEnv(simulator=lambda scene: simulator, image_size=(8, 8)))


@pytest.fixture(params=[TableEnv, ChainEnv])
def real(request):
    """On the play table."""
    env = AbsoluteActions(request.param(simulator=PlayTable, image_size=(8, 8), render_every=1000))
    yield env
    env.close()


def test_the_place_is_reached_and_kept(env):
    env.reset(seed=0)
    for _ in range(40):
        observation, *_ = env.step(GOAL)
    for _ in range(2):
        assert max(errors(observation, GOAL)) < 1e-6
        observation, *_ = env.step(GOAL)


def test_a_near_place_is_reached_in_one_step(env):
    observation, _ = env.reset(seed=0)
    goal = np.append(observation["robot_obs"][:6] + 0.015, 1.0)
    observation, *_ = env.step(goal)
    assert max(errors(observation, goal)) < 1e-6


def test_the_way_is_straight(env, simulator):
    observation, _ = env.reset(seed=0)
    far = GOAL.copy()
    far[:3] = observation["robot_obs"][:3] + (0.2, 0.1, -0.06)
    track = [observation["robot_obs"][:3]]
    for _ in range(10):
        observation, *_ = env.step(far)
        track.append(observation["robot_obs"][:3])
    # the longest side at full speed, the others in proportion
    assert np.allclose(np.diff(track, axis=0), (0.02, 0.01, -0.006), atol=1e-5)


def test_angles_go_the_short_way_round(env):
    env.reset(seed=0)
    goal = GOAL.copy()
    for _ in range(60):
        env.step(goal)
    goal[3] = -np.pi + 0.1
    observation, *_ = env.step(goal)
    observation, *_ = env.step(goal)
    assert errors(observation, goal)[1] < 1e-6
    # the same angle written differently is no way to go
    goal[3] += 2 * np.pi
    before = observation["robot_obs"]
    observation, *_ = env.step(goal)
    assert np.allclose(before, observation["robot_obs"], atol=1e-6)


def test_the_gripper_follows_the_sign(env):
    env.reset(seed=0)
    for value, sign in ((0.3, 1), (-0.2, -1), (0.0, -1), (5.0, 1)):
        observation, *_ = env.step([*GOAL[:6], value])
        assert observation["robot_obs"][14] == sign


def test_places_outside_the_space_are_clipped_to_it(env):
    env.reset(seed=0)
    for _ in range(60):
        observation, *_ = env.step([50.0, *GOAL[1:]])
    assert observation["robot_obs"][0] == pytest.approx(env.action_space.high[0], abs=1e-5)


def test_a_reset_starts_anew_from_where_the_robot_is(env, simulator):
    env.reset(seed=0)
    for _ in range(5):
        env.step(GOAL)
    robot_obs = simulator.robot_obs.copy()
    robot_obs[:3] = GOAL[:3]
    env.reset(options={"robot_obs": robot_obs, "task": "open_drawer"})
    observation, *_ = env.step(GOAL)
    assert errors(observation, GOAL)[0] < 1e-6


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(6), r"shape \(6,\); expected .*: \(7,\)"),
        ([0, 0, 0, np.nan, 0, 0, 1], r"not finite at index \[3\]"),
        ([np.inf, 0, 0, 0, 0, 0, 1], r"not finite at index \[0\]"),
    ],
)
def test_bad_actions(env, action, message):
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_it_needs_a_reset_first(env):
    with pytest.raises(gym.error.ResetNeeded):
        env.step(GOAL)


def test_what_cannot_be_wrapped(env):
    with pytest.raises(ValueError, match="needs observations with 'robot_obs', got Box"):
        AbsoluteActions(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="before wrappers that rename"):
        AbsoluteActions(LeRobotObservation(TableEnv(simulator=FakeSimulator)))
    # the other way round they fit
    assert "pixels" in LeRobotObservation(env).reset(seed=0)[0]


@pytest.mark.parametrize("env_id", ["rf/PlayTableD-v0", "rf/PlayTableChainD-v0"])
def test_gymnasiums_checker_has_no_complaint(env_id):
    env = AbsoluteActions(gym.make(f"rf_envs:{env_id}", simulator=FakeSimulator, image_size=(64, 48)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # that it is wrapped is the point
        warnings.filterwarnings("ignore", message=".*The environment .* is different from the unwrapped version.*")
        # metres and radians are no [-1, 1]; RescaleAction makes them so for learners that want it
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(env)


def test_it_rescales_for_learners(env):
    env = gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
    env.reset(seed=0)
    for _ in range(60):
        observation, *_ = env.step(np.array([0, 0, 0, 0, 0, 0.5, 1], dtype=np.float32))
    assert errors(observation, np.array([0, -0.2, 0.6, 0, 0, np.pi / 2]))[0] < 1e-5


def test_it_is_made_again_from_its_spec():
    env = AbsoluteActions(gym.make("rf_envs:rf/PlayTableD-v0", image_size=(64, 48)))
    again = gym.make(env.spec)
    assert again.action_space == env.action_space


def test_the_arm_arrives(real):
    rng = np.random.default_rng(0)
    real.reset(seed=0)
    for _ in range(6):
        low, high = (-0.3, -0.25, 0.55, np.pi - 0.2, -0.1, 1.0, 1), (0.2, -0.05, 0.65, np.pi + 0.2, 0.1, 2.1, 1)
        goal = rng.uniform(low, high)
        for _ in range(45):
            observation, *_ = real.step(goal)
        position, angle = errors(observation, goal)
        assert position < 0.005 and angle < 0.02


def test_nothing_winds_up_while_the_arm_is_held_back(real):
    # a place in the table top, which the arm can only press towards
    real.reset(seed=0)
    blocked = np.array([-0.25, -0.1, 0.25, np.pi, 0, np.pi / 2, -1.0])
    for _ in range(60):
        observation, *_ = real.step(blocked)
    assert observation["robot_obs"][2] > 0.4
    free = [*blocked[:2], 0.6, *blocked[3:]]
    for _ in range(30):
        observation, *_ = real.step(free)
    assert errors(observation, free)[0] < 0.005


def test_recorded_poses_of_an_episode_solve_its_task():
    options = {"task": "open_drawer"}
    base = TableEnv(simulator=PlayTable, image_size=(8, 8), render_every=1000)
    base.reset(seed=0, options=options)
    expert, recorded, solved = base.expert(), [], False
    while not solved:
        observation, _, solved, truncated, _ = base.step(expert.act())
        assert not truncated
        # CALVIN's absolute `actions`: the pose of the next frame and the gripper
        recorded.append([*observation["robot_obs"][:6], observation["robot_obs"][14]])
    env = AbsoluteActions(base)
    env.reset(seed=0, options=options)
    # the arm follows with a lag: a moment at the last pose
    outcomes = [env.step(action)[2] for action in recorded + 10 * recorded[-1:]]
    assert any(outcomes)
    env.close()
