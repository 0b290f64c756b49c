"""The single-task environment, on a simulator without physics."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest

from rf_envs.benchmark.chains import NEUTRAL_ROBOT_OBS
from rf_envs.benchmark.start_states import NoStartError, draw_start
from rf_envs.benchmark.tasks import TASKS
from rf_envs.language.instructions import EVALUATION, TRAINING
from rf_envs.scenes import SCENES
from rf_envs.spaces import check_scene_obs, decode_instruction
from rf_envs.table import TableEnv

STAY = np.zeros(7, dtype=np.float32)


def test_observations_and_info_follow_the_interface(env):
    observation, info = env.reset(seed=0, options={"task": "open_drawer"})
    assert env.observation_space.contains(observation)
    assert {key: value.dtype for key, value in observation.items()} == {
        "rgb_static": np.uint8,
        "rgb_gripper": np.uint8,
        "robot_obs": np.float32,
        "instruction": np.uint8,
    }
    assert observation["instruction"].shape == (256,)
    assert info == {
        "is_success": False,
        "task": "open_drawer",
        "instruction": EVALUATION["open_drawer"],
        "renderer": "fake",
    }
    assert decode_instruction(observation["instruction"]) == env.task_description == info["instruction"]
    assert env.scene_obs.shape == (24,) and env.robot_obs.shape == (15,)
    assert set(env.scene_info["movable_objects"]) == {"block_red", "block_blue", "block_pink"}
    assert env.robot_info["uid"] == 0 and env.renderer == "fake" and env.task == "open_drawer"


def test_success_pays_once_and_terminates(env, simulator):
    env.reset(seed=0, options={"task": "open_drawer"})
    assert env.step(STAY)[1:4] == (0.0, False, False)
    simulator.scene_obs[1] += 0.13
    _, reward, terminated, truncated, info = env.step(STAY)
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)
    _, reward, terminated, truncated, info = env.step(STAY)
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, True, False, True)
    assert env.reset()[1]["is_success"] is False


def test_another_task_than_the_one_asked_for_pays_nothing(env, simulator):
    env.reset(seed=0, options={"task": "turn_on_led"})
    simulator.scene_obs[1] += 0.13
    assert env.step(STAY)[1:4] == (0.0, False, False)


def test_a_drawn_task_that_the_robot_is_in_the_way_of_gives_place_to_another(make_env, monkeypatch):
    def only_the_drawer(task, *given):
        if task != "open_drawer":
            raise NoStartError(f"no start for {task}")
        return draw_start(task, *given)

    monkeypatch.setattr("rf_envs.table.draw_start", only_the_drawer)
    env = make_env()
    robot = {"robot_obs": NEUTRAL_ROBOT_OBS}
    assert {env.reset(seed=seed, options=robot)[1]["task"] for seed in range(4)} == {"open_drawer"}
    with pytest.raises(ValueError, match="no start for close_drawer"):
        env.reset(options={"task": "close_drawer", **robot})
    env = make_env(tasks=["close_drawer", "turn_on_led"])
    with pytest.raises(ValueError, match="no start for"):
        env.reset(options=robot)


def test_states_a_little_beyond_the_ends_are_taken():
    """CALVIN's own robot pushes its button 8 mm and its switch 6 mm past them."""
    beyond = {0: -0.006, 2: 0.033, 3: -0.006}
    assert np.array_equal(check_scene_obs(scene_obs(beyond), SCENES["D"]), scene_obs(beyond))
    for index, value in ((2, 0.05), (3, -0.02)):
        with pytest.raises(ValueError, match=f"at index {index}"):
            check_scene_obs(scene_obs({index: value}), SCENES["D"])


@pytest.mark.parametrize(("switch", "bulb"), [(0.0485, 0), (0.0441, 0), (0.040, 1)])
def test_the_bulb_is_as_the_switch_says_however_near_its_middle(switch, bulb):
    assert check_scene_obs(scene_obs({3: switch, 4: bulb}), SCENES["D"])[4] == 1 - bulb
    pytest.importorskip("pybullet", reason="the play table is simulated by PyBullet")
    env = gym.make("rf_envs:rf/PlayTableD-v0", image_size=(8, 8))
    task = "turn_off_lightbulb" if bulb else "turn_on_lightbulb"
    start = {"scene_obs": scene_obs({3: switch, 4: bulb})}
    with pytest.raises(ValueError, match=f"The task .{task}. cannot be fulfilled from the given scene_obs"):
        env.reset(seed=0, options={"task": task, **start})
    env.reset(seed=0, options=start)
    assert env.step(STAY)[1] == 0.0
    env.close()


def test_an_episode_is_truncated_when_its_time_is_up(make_env, simulator):
    env = make_env(max_steps=3)
    env.reset(seed=0, options={"task": "turn_on_led"})
    assert [env.step(STAY)[1:4] for _ in range(3)] == [
        (0.0, False, False),
        (0.0, False, False),
        (0.0, False, True),
    ]
    simulator.scene_obs[5] = 1
    assert env.step(STAY)[1:4] == (0.0, False, True)


def test_an_episode_lasts_360_steps(env):
    env.reset(seed=0, options={"task": "turn_on_led"})
    assert [env.step(STAY)[3] for _ in range(360)].index(True) == 359


def test_success_on_the_last_step_is_a_success(make_env, simulator):
    env = make_env(max_steps=1)
    env.reset(seed=0, options={"task": "turn_on_led"})
    simulator.scene_obs[5] = 1
    assert env.step(STAY)[1:4] == (1.0, True, False)


def test_actions_are_clipped_to_the_box(env, simulator):
    env.reset(seed=0, options={"task": "open_drawer"})
    before = env.robot_obs.copy()
    env.step(np.array([5, -np.inf, 0, 0, 0, 0, 3]))
    assert np.allclose(env.robot_obs[:3] - before[:3], [0.02, -0.02, 0])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(6), r"The action has shape \(6,\); expected \(7,\)"),
        (np.zeros((1, 7)), r"The action has shape \(1, 7\); expected \(7,\)"),
        ([0, 0, np.nan, 0, 0, 0, np.nan], r"The action has NaN at index \[2, 6\]"),
        ("up", "The action is not an array of numbers"),
        (None, "The action"),
        ([[0, 1], [2]], "The action is not an array of numbers"),
    ],
)
def test_a_bad_action_is_refused_and_changes_nothing(env, action, message):
    env.reset(seed=0, options={"task": "open_drawer"})
    before = env.robot_obs.copy()
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert np.array_equal(env.robot_obs, before)


@pytest.mark.parametrize("use", [lambda env: env.step(STAY), lambda env: env.scene_obs, lambda env: env.describe()])
def test_use_before_the_first_reset_is_refused(env, use):
    with pytest.raises(gym.error.ResetNeeded, match=r"call env\.reset\(\) first"):
        use(env)


def scene_obs(changes):
    """A state of scene D with all at rest, but for the changes: index to value."""
    state = np.array(SCENES["D"].neutral_scene_obs)
    for index, value in changes.items():
        state[index] = value
    return state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "open_drawr"}, "Unknown task 'open_drawr'; did you mean 'open_drawer'"),
        ({"task": 3}, "Unknown task 3"),
        ({"tsak": "open_drawer"}, "Unknown reset option 'tsak'; did you mean 'task'"),
        ({"chain": 3}, "Unknown reset option 'chain'"),
        ({"instruction": "ä" * 129}, "The instruction takes 258 bytes in UTF-8.* 256"),
        ({"instruction": "a\0b"}, "null character"),
        ({"instruction": ""}, "The instruction is blank: give words, or leave it out"),
        ({"instruction": "  "}, "The instruction is blank"),
        ({"instruction": 7}, "The instruction must be a str, got int"),
        ({"instruction": "\ud800"}, "not valid Unicode"),
        ({"scene_obs": np.zeros(23)}, r"scene_obs has shape \(23,\); expected \(24,\)"),
        ({"scene_obs": np.full(24, np.nan)}, "scene_obs has values that are not finite"),
        ({"scene_obs": np.full(24, 0.5)}, "index 4 and 5, the light bulb and the LED"),
        ({"scene_obs": scene_obs({0: 0.5})}, r"scene_obs has 0\.5 at index 0; expected -0\.01 to 0\.29"),
        ({"scene_obs": scene_obs({1: -0.1})}, r"scene_obs has -0\.1 at index 1; expected -0\.01 to 0\.23"),
        ({"scene_obs": scene_obs({3: 9.0})}, "scene_obs has 9 at index 3"),
        ({"scene_obs": scene_obs({14: -1.0})}, "scene_obs has -1 at index 14; expected -0.005 to 2"),
        ({"scene_obs": scene_obs({6: 1e9})}, r"scene_obs has 1e\+09 at index 6; expected -2 to 2"),
        (
            {"scene_obs": scene_obs({3: 0.088})},
            r"the switch at 0\.088 \(index 3\), which turns the light bulb on, but 0 at",
        ),
        ({"scene_obs": scene_obs({12: 0.05})}, "scene_obs has block_red and block_blue inside one another"),
        ({"robot_obs": [*NEUTRAL_ROBOT_OBS[:9], 100.0, *NEUTRAL_ROBOT_OBS[10:]]}, "robot_obs has 100 at index 9"),
        ({"robot_obs": [*NEUTRAL_ROBOT_OBS[:6], 0.16, *NEUTRAL_ROBOT_OBS[7:]]}, "robot_obs has 0.16 at index 6"),
        ({"robot_obs": [*NEUTRAL_ROBOT_OBS[:8], -2.2, *NEUTRAL_ROBOT_OBS[9:]]}, "robot_obs has -2.2 at index 8"),
        ({"robot_obs": [*NEUTRAL_ROBOT_OBS[:14], 0.3]}, "robot_obs has 0.3 at index 14, the gripper; expected 1"),
        ({"robot_obs": np.zeros(16)}, r"robot_obs has shape \(16,\); expected \(15,\)"),
        ({"robot_obs": "home"}, "robot_obs is not an array of numbers"),
    ],
)
def test_bad_options_are_refused_and_leave_the_episode_alone(env, options, message):
    env.reset(seed=0, options={"task": "open_drawer"})
    before = env.scene_obs.copy()
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    assert env.task == "open_drawer" and np.array_equal(env.scene_obs, before)
    assert env.step(STAY)[1] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scene": "E"}, "Unknown scene 'E'"),
        ({"render_mode": "ansi"}, "Unknown render mode 'ansi'"),
        ({"instructions": "train"}, "Unknown kind of instructions 'train'"),
        ({"tasks": ["open_drawers"]}, "Unknown task 'open_drawers'; did you mean 'open_drawer'"),
        ({"tasks": []}, "tasks is empty"),
        ({"render_every": 0}, "render_every is 0; expected a whole number of at least 1"),
        ({"image_size": 200}, "image_size is 200; expected two edges"),
        ({"image_size": (200, -1)}, "image_size is -1"),
        ({"render_size": 1.5}, "render_size is 1.5"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TableEnv(**arguments)


def test_a_free_instruction_is_passed_on_and_a_known_one_chooses_its_task(env):
    observation, info = env.reset(options={"task": "open_drawer", "instruction": "öffne die Schublade"})
    assert (info["task"], info["instruction"]) == ("open_drawer", "öffne die Schublade")
    assert decode_instruction(observation["instruction"]) == "öffne die Schublade"
    assert env.reset(options={"instruction": "Shut the drawer"})[1]["task"] == "close_drawer"
    assert env.reset(options={"instruction": "do a dance"})[1]["instruction"] == "do a dance"


def test_training_instructions_are_drawn_from_many(make_env):
    env = make_env(instructions="training")
    drawn = {env.reset(seed=seed, options={"task": "open_drawer"})[1]["instruction"] for seed in range(40)}
    assert len(drawn) > 5 and drawn <= set(TRAINING["open_drawer"])


def test_tasks_are_drawn_from_those_named(make_env):
    env = make_env(tasks=["open_drawer", "turn_on_led"])
    assert {env.reset(seed=seed)[1]["task"] for seed in range(20)} == {"open_drawer", "turn_on_led"}


def test_all_tasks_are_drawn_by_default(env):
    assert len({env.reset(seed=seed)[1]["task"] for seed in range(300)}) == len(TASKS)


def test_a_given_state_is_restored_and_its_task_is_one_it_allows(env):
    env.reset(seed=3, options={"task": "close_drawer"})
    robot_obs, scene_obs = env.robot_obs.copy(), env.scene_obs.copy()
    scene_obs[5] = 1
    drawn = set()
    for seed in range(60):
        _, info = env.reset(seed=seed, options={"robot_obs": robot_obs, "scene_obs": scene_obs})
        assert np.array_equal(env.scene_obs, scene_obs) and np.array_equal(env.robot_obs, robot_obs)
        drawn.add(info["task"])
    assert "turn_off_led" in drawn
    assert not drawn & {"turn_on_led", "place_in_slider", "place_in_drawer", "stack_block", "unstack_block"}


def test_the_seed_decides_everything(env):
    first = [env.reset(seed=5), *(env.reset() for _ in range(3))]
    second = [env.reset(seed=5), *(env.reset() for _ in range(3))]
    for (one, one_info), (other, other_info) in zip(first, second, strict=True):
        assert one_info == other_info
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert len({info["task"] for _, info in (env.reset(seed=seed) for seed in range(30))}) > 10


def test_every_step_returns_fresh_arrays(make_env):
    env = make_env(render_every=3)
    seen = [env.reset(seed=0)[0], *(env.step(STAY)[0] for _ in range(4))]
    for observation in seen:
        for array in observation.values():
            array[...] = 0
    assert env.step(STAY)[0]["rgb_static"].any()
    for key in seen[0]:
        assert not any(np.shares_memory(seen[i][key], seen[j][key]) for i in range(5) for j in range(i))


def test_cameras_are_drawn_at_the_reset_and_every_so_many_steps(make_env, simulator):
    env = make_env(render_every=3)
    move = np.array([1, 0.5, 0, 0, 0, 0, 1])
    frames = [env.reset(seed=0, options={"task": "open_drawer"})[0]["rgb_static"][0, 0, 0]]
    simulator.renders.clear()
    frames += [env.step(move)[0]["rgb_static"][0, 0, 0] for _ in range(7)]
    assert simulator.renders == ["static", "gripper"] * 2
    assert frames[0] == frames[1] == frames[2] != frames[3] == frames[4] == frames[5] != frames[6] == frames[7]
    simulator.renders.clear()
    env.reset()
    assert simulator.renders == ["static", "gripper"]


def test_image_and_render_size(simulator):
    env = TableEnv(simulator=lambda scene: simulator, image_size=(50, 40), render_size=70, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert observation["rgb_static"].shape == (50, 50, 3)
    assert observation["rgb_gripper"].shape == (40, 40, 3)
    assert env.render().shape == (70, 70, 3)


def test_close_releases_the_simulator_once_and_a_reset_reopens(env, simulator):
    env.close()
    env.reset(seed=0)
    env.close()
    env.close()
    assert simulator.closed
    with pytest.raises(gym.error.ResetNeeded):
        env.step(STAY)
    env.reset(seed=0)
    env.step(STAY)


def test_no_simulator_is_made_before_the_first_reset():
    made = []
    env = TableEnv(simulator=made.append)
    env.close()
    assert not made


def test_randomize_gives_a_image_and_the_seed_decides_it(env):
    one, two, other = (env.randomize(seed) for seed in (1, 1, 2))
    assert env.observation_space.contains(one)
    assert all(np.array_equal(one[key], two[key]) for key in one)
    assert not np.array_equal(one["robot_obs"], other["robot_obs"])


def test_after_a_failed_randomization_a_reset_is_needed(env, monkeypatch):
    def fail(*_):
        raise RuntimeError("the blocks never stood apart")

    env.reset(seed=0)
    monkeypatch.setattr("rf_envs.table.randomize", fail)
    with pytest.raises(RuntimeError, match="never stood apart"):
        env.randomize(1)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(STAY)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_has_a_simulation_of_its_own(copied):
    pytest.importorskip("pybullet", reason="the play table is simulated by PyBullet")
    env = gym.make("rf_envs:rf/PlayTableD-v0", image_size=(16, 16))
    first, _ = env.reset(seed=0, options={"task": "open_drawer"})
    before = env.unwrapped.robot_obs
    other = copied(env)
    with pytest.raises(gym.error.ResetNeeded):
        other.step(STAY)
    again, _ = other.reset(seed=0, options={"task": "open_drawer"})
    assert all(np.array_equal(first[key], again[key]) for key in first)
    for _ in range(5):
        other.step(np.ones(7, np.float32))
    assert np.array_equal(env.unwrapped.robot_obs, before) and not np.allclose(other.unwrapped.robot_obs, before)
    other.close()
    env.step(STAY)
    env.close()
