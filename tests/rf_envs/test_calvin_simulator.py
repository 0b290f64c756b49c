"""CALVIN's faults are mended: on a clone that we made ourselves, whose package has the same ones."""

import gc

import numpy as np
import pybullet
import pytest
from fake_simulator import FakeSimulator
from make_calvin_clone import forget_calvin, make_clone

from rf_envs.benchmark.chains import NEUTRAL_ROBOT_OBS
from rf_envs.scenes import SCENES
from rf_envs.simulators.calvin import CalvinTable, world
from rf_envs.simulators.playtable import PlayTable

# what goes wrong while an object is collected is otherwise only a warning
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
STAY = np.array([0.0] * 6 + [1.0])


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    yield make_clone(tmp_path_factory.mktemp("calvin") / "calvin_env")
    forget_calvin()


@pytest.fixture
def make(clone):
    made = []

    def make(scene="D"):
        made.append(CalvinTable(scene, clone, "tiny"))
        return made[-1]

    yield make
    for simulator in made:
        simulator.close()


@pytest.fixture
def simulator(make):
    return make()


def shape(info):
    """The keys of nested dictionaries."""
    return {key: shape(value) for key, value in info.items()} if isinstance(info, dict) else None


def roll(*simulators, steps=60):
    """What each simulator tells while all of them, in turn, sweep the gripper through the blocks."""
    seen = [[] for _ in simulators]
    poses = [(x, -0.1, 0.4599, 0, 0, np.pi / 2) for x in (0.05, 0.1, 0.15)]
    for simulator in simulators:
        simulator.reset(None, np.array([0.0] * 6 + [number for pose in poses for number in pose]))
    rng = np.random.default_rng(0)
    for number in range(steps):
        action = np.array([0.6, 0.2, -0.25, *rng.uniform(-0.3, 0.3, 3), rng.choice((-1.0, 1.0))])
        for simulator, record in zip(simulators, seen, strict=True):
            simulator.step(action)
            record += [simulator.robot_obs, simulator.scene_obs]
            if number % 20 == 0:
                record += [simulator.render("static", 40), simulator.render("gripper", 24)]
    return seen


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# What it tells


def test_the_neutral_state_is_calvins(simulator):
    assert np.allclose(simulator.robot_obs, NEUTRAL_ROBOT_OBS, atol=1e-3)
    assert not simulator.scene_obs[:6].any()
    simulator.step(STAY)
    blocks = simulator.info()["scene_info"]["movable_objects"].values()
    table = simulator.info()["scene_info"]["fixed_objects"]["table"]
    for block in blocks:
        assert {contact[2] for contact in block["contacts"]} == {table["uid"]}


def test_a_given_state_is_restored(simulator):
    robot_obs, scene_obs = simulator.robot_obs, simulator.scene_obs
    robot_obs[7:14] += 0.1
    robot_obs[6], robot_obs[14] = 0.03, -1
    scene_obs[:6] = 0.2, 0.1, 0.0, 0.088, 1, 1
    scene_obs[12:14] = 0.2, -0.05
    simulator.reset(robot_obs, scene_obs)
    assert np.allclose(simulator.robot_obs[6:], robot_obs[6:], atol=1e-3)
    assert np.allclose(simulator.scene_obs, scene_obs, atol=3e-3)


def test_info_has_the_structure_that_tasks_and_expert_read(simulator):
    info = simulator.info()
    expected = shape(FakeSimulator().info())
    links = shape(info)["scene_info"]["fixed_objects"]["table"].pop("links")
    expected_links = expected["scene_info"]["fixed_objects"]["table"].pop("links")
    assert set(expected_links) <= set(links)
    actual = shape(info)
    actual["scene_info"]["fixed_objects"]["table"].pop("links")
    assert actual == expected


@pytest.mark.parametrize("scene", ["A", "D"])
def test_blocks_come_in_the_order_of_the_scene(make, scene):
    simulator = make(scene)
    blocks = simulator.info()["scene_info"]["movable_objects"]
    assert tuple(blocks) == SCENES[scene].block_names
    for block, pose in zip(blocks.values(), simulator.scene_obs[6:].reshape(3, 6), strict=True):
        assert np.array_equal(block["current_pos"], pose[:3])


def test_images_are_drawn_when_asked_for_and_at_any_size(simulator, monkeypatch):
    drawn = []
    draw = pybullet.getCameraImage
    monkeypatch.setattr(pybullet, "getCameraImage", lambda *a, **k: drawn.append(a) or draw(*a, **k))
    simulator.reset()
    simulator.step(STAY)
    assert not drawn and simulator.renderer == "tiny"
    for camera, size in (("static", 200), ("gripper", 84), ("gripper", 50), ("static", 31), ("static", 200)):
        image = simulator.render(camera, size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8 and image.std() > 5
    again = simulator.render("static", 200)
    assert np.array_equal(image, again) and not np.shares_memory(image, again)


def test_egl_draws_a_second_world_that_follows(clone, monkeypatch):
    """Loading with EGL leaks; here TinyRenderer stands for it, so that the images can be compared."""
    monkeypatch.setattr(world, "choose_renderer", lambda asked: asked)
    loaded = []
    monkeypatch.setattr(world, "load_egl", loaded.append)
    one, other = CalvinTable("D", clone, "tiny"), CalvinTable("D", clone, "egl")
    scene_obs = one.scene_obs
    scene_obs[:6] = 0.15, 0.2, 0.0, 0.088, 1, 1
    images = []
    for state in (None, scene_obs):
        for simulator in (one, other):
            simulator.reset(None, state)
            for _ in range(12):
                simulator.step(np.array([0.5, 0.5, -1.0, 0.0, 0.0, 0.3, -1.0]))
        assert np.array_equal(one.scene_obs, other.scene_obs)
        for camera in ("static", "gripper"):
            image, followed = one.render(camera, 100), other.render(camera, 100)
            assert np.array_equal(image, followed)
            images.append(image)
    assert not np.array_equal(images[0], images[2]) and not np.array_equal(images[1], images[3])
    assert len(loaded) == 1 and other.renderer == "egl"
    for simulator in (one, other):
        simulator.close()
    with pytest.raises(pybullet.error):
        loaded[0].getNumBodies()


def test_inverse_kinematics_reaches_the_pose_and_leaves_the_simulation_alone(make):
    simulator, other = make(), make()
    roll(simulator, steps=25)
    roll(other, steps=25)
    target, euler = np.array([0.1, -0.1, 0.5]), np.array([np.pi, 0.0, np.pi / 2])
    joints = simulator.inverse_kinematics(target, euler)
    for each in (simulator, other):
        each.step(STAY)
    assert np.array_equal(simulator.robot_obs, other.robot_obs)
    robot_obs = simulator.robot_obs
    robot_obs[7:14] = joints
    simulator.reset(robot_obs)
    assert np.allclose(simulator.robot_obs[:3], target, atol=0.005)


# Repeatable


def test_the_same_actions_give_the_same_bits_after_every_reset(make):
    simulator = make()
    first, second = roll(simulator)[0], roll(simulator)[0]
    simulator.inverse_kinematics((0.1, -0.1, 0.5), (np.pi, 0, 0))
    assert same(first, second) and same(first, roll(simulator)[0]) and same(first, roll(make())[0])
    assert not np.array_equal(first[0], first[-2])


# State left over by a reset


def test_the_gripper_opens_above_zero_and_closes_otherwise(simulator):
    for command, expected in ((0.3, 1), (0.0, -1), (1.0, 1), (-0.01, -1)):
        simulator.step(np.array([0.0] * 6 + [command]))
        assert simulator.robot_obs[14] == expected


def test_a_reset_sets_the_last_gripper_action(simulator):
    simulator.step(-STAY)
    assert simulator.robot_obs[14] == -1
    simulator.reset()
    assert simulator.robot_obs[14] == 1 and simulator.info()["robot_info"]["gripper_action"] == 1
    simulator.reset(np.array([*NEUTRAL_ROBOT_OBS[:14], -1.0]))
    assert simulator.robot_obs[14] == -1


@pytest.mark.parametrize("led", [0, 1])
def test_a_button_that_is_down_at_the_reset_has_been_pressed_already(simulator, led):
    scene_obs = simulator.scene_obs
    scene_obs[2], scene_obs[5] = 0.02, led
    simulator.reset(None, scene_obs)
    for _ in range(5):
        assert simulator.scene_obs[5] == led
        simulator.step(STAY)
    assert simulator.scene_obs[2] < 0.01


def test_the_bulb_follows_the_switch_from_the_reset_on(simulator):
    scene_obs = simulator.scene_obs
    for joint, bulb in ((0.088, 1), (0.0, 0), (0.088, 0), (0.0, 1)):
        scene_obs[3], scene_obs[4] = joint, bulb
        simulator.reset(None, scene_obs)
        info = simulator.info()["scene_info"]
        assert simulator.scene_obs[4] == bulb == info["lights"]["lightbulb"]["logical_state"]
        assert info["switches"]["base__switch"]["logical_state"] == bulb
        simulator.step(STAY)
        info = simulator.info()["scene_info"]
        assert simulator.scene_obs[4] == (joint > 0) == info["switches"]["base__switch"]["logical_state"]


# Neighbours in one process


def test_simulators_in_one_process_do_not_touch_one_another(make):
    alone = [roll(make(scene))[0] for scene in "DA"]
    embedded = PlayTable("D")
    together = [embedded, make("D"), make("A")]
    bodies = embedded._physics.getNumBodies()
    seen = roll(*together)
    assert same(seen[1], alone[0]) and same(seen[2], alone[1])
    assert embedded._physics.getNumBodies() == bodies
    embedded.close()


def test_a_closed_simulator_ends_nobody_elses(make):
    first = make()
    first.close()
    second = make()  # has the first one's client number now
    first.close()
    del first
    gc.collect()
    second.step(STAY)
    assert np.allclose(second.robot_obs, NEUTRAL_ROBOT_OBS, atol=1e-3)


def test_a_dropped_simulator_gives_its_client_back(clone):
    clients = set()
    for _ in range(3):
        clients.add(CalvinTable("D", clone, "tiny")._env.cid)
        gc.collect()
    assert len(clients) == 1


def test_use_after_closing_is_an_error_and_moves_nobody(make):
    first = make()
    first.close()
    second = make()  # has the first one's client number now
    before = second._env.robot.get_observation()[0]
    for use in (lambda: first.step(-STAY), first.reset, lambda: first.render("static", 8)):
        with pytest.raises(AttributeError):
            use()
    assert np.array_equal(second._env.robot.get_observation()[0], before)


def test_nothing_is_printed(clone, capfd):
    simulator = CalvinTable("D", clone, "tiny")
    simulator.reset()
    simulator.inverse_kinematics((0.1, -0.1, 0.5), (np.pi, 0, 0))
    simulator.close()
    del simulator
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_an_unknown_scene_is_refused(clone):
    with pytest.raises(ValueError, match="Unknown scene 'E'"):
        CalvinTable("E", clone)
