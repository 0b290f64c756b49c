"""`rf/Calvin…` and `rf/CalvinChain…` keep the rules of all environments, on a clone that we made ourselves."""

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from make_calvin_clone import forget_calvin, make_clone

import rf_envs
from rf_envs.benchmark.chains import initial_state
from rf_envs.scenes import SCENES
from rf_envs.spaces import decode_instruction

IDS = ("rf/CalvinD-v0", "rf/CalvinChainD-v0")


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    yield make_clone(tmp_path_factory.mktemp("calvin") / "calvin_env")
    forget_calvin()


@pytest.fixture
def arguments(clone):
    return {"calvin_root": str(clone), "renderer": "tiny", "image_size": (40, 36)}


def test_every_scene_is_registered():
    for scene in SCENES:
        assert {f"rf/Calvin{scene}-v0", f"rf/CalvinChain{scene}-v0"} <= set(gym.registry)


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_has_no_complaint(env_id, arguments):
    env = gym.make(env_id, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_stable_baselines_checker_has_no_complaint(env_id, arguments):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = gym.make(env_id, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(env.unwrapped)
    env.close()


def test_the_same_spaces_as_on_the_embedded_table(clone):
    calvin, embedded = gym.make(IDS[0], calvin_root=clone), gym.make("rf/PlayTableD-v0")
    assert calvin.observation_space == embedded.observation_space
    assert calvin.action_space == embedded.action_space
    assert calvin.metadata == embedded.metadata


@pytest.mark.parametrize("env_id", IDS)
def test_the_renderer_is_in_info(env_id, arguments):
    env = gym.make(env_id, **arguments)
    _, info = env.reset(seed=0)
    assert info["renderer"] == env.unwrapped.renderer == "tiny"
    assert env.step(np.zeros(7, dtype=np.float32))[-1]["renderer"] == "tiny"
    env.close()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"renderer": "vulkan"}, ValueError, "Unknown renderer 'vulkan'"),
        ({"calvin_root": "nowhere"}, FileNotFoundError, "nowhere, named by calvin_root, is no folder"),
        ({"scene": "E"}, ValueError, "Unknown scene 'E'"),
        ({"image_size": 3}, ValueError, "image_size is 3"),
        ({"black_cameras": "rgb_static"}, ValueError, "black_cameras is 'rgb_static'; expected a list"),
        ({"black_cameras": ["front"]}, ValueError, "Unknown camera 'front'"),
    ],
)
def test_bad_arguments_are_refused_before_the_first_reset(arguments, wrong, error, message):
    with pytest.raises(error, match=message):
        gym.make(IDS[0], **{**arguments, **wrong})


def test_the_clone_may_be_named_by_the_environment(clone, monkeypatch):
    monkeypatch.setenv("CALVIN_ENV_ROOT", str(clone))
    env = gym.make("rf/CalvinA-v0", renderer="tiny", render_every=10**6, image_size=(8, 8))
    env.reset(seed=0, options={"task": "lift_pink_block_table"})
    assert env.unwrapped.scene_info["movable_objects"].keys() == set(SCENES["A"].block_names)
    env.close()


def test_a_chain_begins_in_calvins_state(arguments):
    env = gym.make(IDS[1], **arguments)
    for index in (0, 1, 2):
        env.reset(options={"chain": index})
        robot_obs, scene_obs = initial_state(rf_envs.chains()[index][0])
        # the blocks come to rest
        assert np.allclose(env.unwrapped.scene_obs, scene_obs, atol=3e-3)
        assert np.allclose(env.unwrapped.robot_obs, robot_obs, atol=2e-3)
    env.close()


@pytest.mark.parametrize("task", ["turn_on_led", "turn_off_led", "open_drawer"])
def test_the_expert_works_here_too(arguments, task):
    env = gym.make(IDS[0], **{**arguments, "render_every": 10**6})
    env.reset(seed=1, options={"task": task})
    expert = rf_envs.Expert(env)
    terminated = truncated = False
    while not (terminated or truncated):
        *_, terminated, truncated, info = env.step(expert.act())
    assert info["is_success"]
    env.close()


def test_environments_in_one_process_and_in_workers_see_the_same(arguments):
    sync, workers = (
        gym.make_vec(
            IDS[0],
            2,
            vectorization_mode=mode,
            vector_kwargs={"context": "spawn"} if mode == "async" else None,
            **arguments,
        )
        for mode in ("sync", "async")
    )
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2, 7)).astype(np.float32)
    one, other = (envs.reset(seed=3)[0] for envs in (sync, workers))
    for action in actions:
        for key in one:
            assert np.array_equal(one[key], other[key])
        (one, *_, info), (other, *_) = sync.step(action), workers.step(action)
    assert info["renderer"].tolist() == ["tiny", "tiny"]
    assert [decode_instruction(text) for text in one["instruction"]] == info["instruction"].tolist()
    assert not np.array_equal(one["robot_obs"][0], one["robot_obs"][1])
    sync.close()
    workers.close()


def test_leaving_an_environment_open_ends_silently(clone):
    code = (
        "import sys, gymnasium\n"
        "env = gymnasium.make('rf_envs:rf/CalvinD-v0', calvin_root=sys.argv[1], image_size=(8, 8), renderer='tiny')\n"
        "env.reset(seed=0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, clone], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
