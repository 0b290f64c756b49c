"""Tables whose layout is drawn, on the embedded simulator."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

import rf_envs
from rf_envs.benchmark import grounding
from rf_envs.benchmark.preconditions import push_range
from rf_envs.random_scenes import layout_number, random_scene, scene_named
from rf_envs.scenes import BLOCK_LENGTHS, SCENES

ID = "rf/PlayTableRandom-v0"
PINNED = (-0.2901, 0.3167, 0.0642, 0.0643)
"""R7: where its button, switch, drawer and door stand."""


@pytest.fixture
def env():
    env = gym.make(ID, image_size=(32, 32))
    yield env
    env.close()


def test_a_layout_has_room_for_everything_and_is_none_of_calvins():
    for number in range(20_000):
        scene = random_scene(number)
        (left, *_), (right, *_) = scene.surfaces["table"]
        assert right - left > 0.2 and max(abs(left), abs(right)) <= 0.35
        assert scene.button_x < left - 0.07 or scene.button_x > right + 0.12
        assert min(right, scene.drawer_x + 0.12) - max(left, scene.drawer_x - 0.12) > 0.08
        assert abs(scene.button_x - scene.switch_x) > 0.15
        # the door and the switch beside it stay clear of each other
        closed, open_ = scene.slide_x + 0.14, scene.slide_x - scene.slide_max - 0.14
        assert scene.switch_x - 0.06 > closed if scene.switch_x > 0 else scene.switch_x + 0.06 < open_
        assert sorted(scene.block_sizes.values()) == sorted(BLOCK_LENGTHS)
        assert sorted(scene.block_order) == ["blue", "pink", "red"]
        for direction in (-1, 1):
            low, high = push_range(scene, direction)
            assert min(right, high) - max(left, low) > 0.03
        for known in SCENES.values():
            near = abs(scene.button_x - known.button_x) < 0.05 and abs(scene.drawer_x - known.drawer_x) < 0.03
            assert not near or (scene.switch_x > 0) != (known.switch_x > 0)


def test_a_number_is_one_layout():
    assert scene_named("R7") == random_scene(7) != dataclasses.replace(random_scene(8), name="R7")
    scene = random_scene(7)  # files of images and demonstrations name it: it must never become another one
    assert (scene.button_x, scene.switch_x, scene.drawer_x, scene.slide_x) == PINNED
    assert scene_named("D") is SCENES["D"] and layout_number("R120") == 120
    for name in ("E", "R", "R-1", "R1.5", "r1", ""):
        with pytest.raises(ValueError, match=f"Unknown scene '{name}'; give A, B, C or D, or R and a number"):
            scene_named(name)


def test_each_reset_draws_a_layout(env):
    names, images = [], []
    for seed in (3, 4, 3):
        observation, _ = env.reset(seed=seed, options={"task": "open_drawer"})
        names.append(env.unwrapped.scene)
        images.append(observation["rgb_static"])
    assert names[0] == names[2] != names[1]
    assert (images[0] == images[2]).all() and (images[0] != images[1]).any()
    _, _ = env.reset()
    assert env.unwrapped.scene != names[2]


def test_the_layout_is_chosen_or_stays_with_a_state(env):
    env.reset(seed=0, options={"scene": "R7"})
    assert env.unwrapped.scene == "R7" and env.unwrapped.scene_options == {"scene": "R7"}
    state = env.unwrapped.scene_obs
    env.reset(seed=1, options={"scene_obs": state})
    assert env.unwrapped.scene == "R7"
    assert np.allclose(env.unwrapped.scene_obs, state, atol=5e-3)
    env.reset(seed=2)
    assert env.unwrapped.scene != "R7"
    env.reset(seed=1, options={"scene_obs": state, "scene": "R7"})
    assert env.unwrapped.scene == "R7"
    assert np.allclose(env.unwrapped.scene_obs, state, atol=5e-3)


@pytest.mark.parametrize("scene", ["R-1", "R1.5", "R007", "R٣", "7", 7, True, "E"])
def test_a_scene_that_is_not_there_is_refused_and_nothing_changes(env, scene):
    env.reset(seed=0, options={"scene": "R7"})
    with pytest.raises(ValueError, match="Unknown scene .*; give A, B, C or D, or R and a number"):
        env.reset(options={"scene": scene})
    assert env.unwrapped.scene == "R7" and env.unwrapped.scene_obs.shape == (24,)


def test_calvins_scenes_may_be_chosen_too(env):
    env.reset(seed=0, options={"scene": "D", "task": "open_drawer"})
    assert env.unwrapped.scene == "D"
    same = gym.make("rf/PlayTableD-v0", image_size=(32, 32))
    expected, _ = same.reset(seed=0, options={"task": "open_drawer"})
    found, _ = env.reset(seed=0, options={"scene": "D", "task": "open_drawer"})
    same.close()
    assert (found["rgb_static"] == expected["rgb_static"]).all()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="layouts is 0; expected a whole number"):
        gym.make(ID, layouts=0)
    with pytest.raises(ValueError, match="The scene is drawn; leave it out"):
        gym.make(ID, scene="D")


def test_few_layouts(env):
    few = gym.make(ID, image_size=(32, 32), layouts=2)
    names = set()
    for seed in range(8):
        few.reset(seed=seed)
        names.add(few.unwrapped.scene)
    few.close()
    assert names == {"R0", "R1"}


def test_randomizing_stays_with_a_layout(env):
    table = env.unwrapped
    table.draw_layout(5)
    scene = table.scene
    first = table.randomize(0)["rgb_static"]
    second = table.randomize(1)["rgb_static"]
    assert table.scene == scene and (first != second).any()
    table.draw_layout(6)
    assert table.scene != scene
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.describe()
    names = {entry["name"] for entry in table.describe()["objects"]} if table.randomize(0) else set()
    assert {"button", "switch", "drawer handle", "sliding door handle", "lightbulb", "led"} <= names


def test_descriptions_say_where_things_are_on_this_layout(env):
    for number in (1, 2):
        env.reset(seed=0, options={"scene": f"R{number}", "task": "open_drawer"})
        entries = env.unwrapped.describe()["objects"]
        button = next(entry for entry in entries if entry["name"] == "button")
        assert button["position"][0] == pytest.approx(random_scene(number).button_x, abs=1e-4)


@pytest.mark.parametrize("task", ["turn_on_led", "turn_off_lightbulb", "close_drawer", "move_slider_right"])
def test_the_expert_works_on_any_table(env, task):
    done = 0
    for number in (0, 1, 2):
        env.reset(seed=number, options={"scene": f"R{number}", "task": task})
        expert, over = env.unwrapped.expert(), False
        while not over:
            *_, terminated, truncated, info = env.step(expert.act())
            over = terminated or truncated
        done += info["is_success"]
    assert done == 3


def test_trials_of_colour_words_keep_their_layout(env):
    options = grounding.draw_scene(env.unwrapped, 4)
    scene = options["scene"]
    env.reset(seed=0)
    _, trial = env.unwrapped.color_trial(0, 4)
    assert {given["scene"] for given in trial.values()} == {scene}
    env.reset(seed=9, options=trial["red"])
    assert env.unwrapped.scene == scene


def test_chains_are_of_calvins_scenes(env):
    with pytest.raises(ValueError, match="Unknown scene of chains 'R11'; .*choose one of 'A', 'B'"):
        env.unwrapped.chain_start(0, "R11")


def test_it_is_a_sound_environment():
    from gymnasium.utils.env_checker import check_env

    check_env(gym.make(ID, image_size=(32, 32)).unwrapped, skip_render_check=True)
    assert rf_envs.RandomTableEnv.reset_options == ("task", "instruction", "robot_obs", "scene_obs", "scene")
