"""Random starts and random scenes, on the embedded play table."""

import gymnasium as gym
import numpy as np
import pytest

import rf_envs
from rf_envs.benchmark.preconditions import possible
from rf_envs.benchmark.tasks import blocks, held_block, is_done
from rf_envs.scenes import SCENES

STAY = {True: np.array([0, 0, 0, 0, 0, 0, -1.0]), False: np.array([0, 0, 0, 0, 0, 0, 1.0])}


@pytest.fixture(scope="module")
def env():
    env = gym.make("rf/PlayTableD-v0", image_size=(16, 16), render_every=1000).unwrapped
    yield env
    env.close()


def state(env):
    return {"robot_info": env.robot_info, "scene_info": env.scene_info}


@pytest.mark.parametrize("task", rf_envs.TASKS)
def test_starts_allow_their_task_and_do_not_fulfil_it(env, task):
    seen = set()
    for seed in range(3):
        env.reset(seed=seed, options={"task": task})
        start = state(env)
        assert possible(task, start, SCENES["D"]) and not is_done(task, start, start)
        seen.add(env.scene_obs[6:].tobytes())
        holds = held_block(start) is not None
        for _ in range(15):
            _, reward, *_ = env.step(STAY[holds])
            assert reward == 0.0
        assert (held_block(state(env)) is not None) == holds
        speeds = [np.abs(block["current_lin_vel"]).max() for block in blocks(state(env)).values()]
        assert max(speeds) < 0.1
    assert len(seen) == 3


def test_blocks_start_apart_and_within_calvins_range(env):
    for seed in range(20):
        env.reset(seed=seed, options={"task": "lift_red_block_table"})
        poses = env.scene_obs[6:].reshape(3, 6)
        for index, one in enumerate(poses):
            assert abs(one[5] - np.pi / 2) < np.pi / 8 + 0.05
            for other in poses[:index]:
                if abs(one[2] - other[2]) < 0.01:
                    assert np.linalg.norm(one[:2] - other[:2]) > 0.085
        (x0, y0, _), (x1, y1, _) = SCENES["D"].surfaces["table"]
        assert x0 - 0.01 < poses[0, 0] < x1 + 0.01 and y0 - 0.01 < poses[0, 1] < y1 + 0.01


def test_impossible_tasks_are_recognised(env):
    env.reset(seed=0, options={"task": "open_drawer"})
    robot_obs, scene_obs = env.robot_obs.copy(), env.scene_obs.copy()
    scene_obs[:6] = 0.28, 0.22, 0, 0, 0, 1
    env.reset(options={"robot_obs": robot_obs, "scene_obs": scene_obs})
    wrong = {
        "move_slider_left",
        "open_drawer",
        "turn_off_lightbulb",
        "turn_on_led",
        "place_in_slider",
        "place_in_drawer",
        "stack_block",
        "unstack_block",
    }
    right = {"move_slider_right", "close_drawer", "turn_on_lightbulb", "turn_off_led"}
    allowed = {task for task in rf_envs.TASKS if possible(task, state(env), SCENES["D"])}
    assert right <= allowed and not wrong & allowed


def test_the_pose_follows_from_the_joints_that_were_given(env):
    """A block that is held begins in the hand, whatever pose was written before the joints."""
    env.reset(seed=0)
    robot_obs = env.robot_obs.copy()
    robot_obs[:6] = 0.0
    for task in ("place_in_drawer", "stack_block"):
        env.reset(seed=0, options={"task": task, "robot_obs": robot_obs})
        assert held_block(state(env)) is not None and env.robot_obs[2] > 0.4


@pytest.mark.parametrize("scene", "ABC")
def test_other_scenes_have_starts_for_every_task(scene):
    from rf_envs.table import TableEnv

    env = TableEnv(scene=scene, image_size=(16, 16))
    for task in rf_envs.TASKS:
        env.reset(seed=1, options={"task": task})
    env.close()


def test_randomized_scenes_are_varied_and_sound(env):
    held = stacked = stored = 0
    tcp = []
    for seed in range(60):
        observation = env.randomize(seed)
        assert env.observation_space.contains(observation)
        tcp.append(env.robot_obs[:3].copy())
        where = [block["current_pos"] for block in blocks(state(env)).values()]
        assert all(0.3 < z < 0.75 and abs(x) < 0.45 for x, _, z in where)
        held += held_block(state(env)) is not None
        stacked += any(0.49 < z < 0.51 for _, _, z in where)
        stored += any(z < 0.4 for _, _, z in where)
    assert held > 2 and stacked > 1 and stored > 1
    assert np.ptp(tcp, axis=0).min() > 0.2
