"""Which block the robot touches."""

import pytest
from fake_simulator import FakeSimulator

from rf_envs.benchmark.grounding import touched_color
from rf_envs.scenes import SCENES


def touched(simulator):
    state = simulator.info()
    return touched_color(state["robot_info"], state["scene_info"])


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_the_touched_block_is_named_by_its_colour(scene):
    simulator = FakeSimulator(scene)
    assert touched(simulator) is None
    for index, color in enumerate(SCENES[scene].block_order):
        simulator.robot_obs[:3] = simulator.scene_obs[6 + 6 * index : 9 + 6 * index]
        simulator.robot_obs[14] = -1  # the hand closes on the block
        assert touched(simulator) == color
    simulator.robot_obs[14] = 1
    assert touched(simulator) is None


def test_of_two_blocks_the_one_that_is_pressed_more_counts():
    state = FakeSimulator("D").info()
    blocks = state["scene_info"]["movable_objects"]

    def contact(color, force):
        return (0, -1, blocks[f"block_{color}"]["uid"], -1, -1, (), (), (), -0.0001, force)

    def color(*contacts):
        return touched_color({"contacts": contacts}, state["scene_info"])

    assert color(contact("red", 1.0), contact("blue", 3.0)) == "blue"
    assert color(contact("red", 2.0), contact("blue", 3.0), contact("red", 2.0)) == "red"


def test_nothing_is_touched_right_after_the_reset_of_a_trial():
    pytest.importorskip("pybullet", reason="trials are scenes of the play table")
    import gymnasium as gym

    env = gym.make("rf_envs:rf/PlayTableD-v0", image_size=(8, 8), render_every=1000)
    _, options = env.unwrapped.color_trial(0, seed=1)
    for chosen in options.values():
        env.reset(seed=1, options=chosen)
        assert env.unwrapped.touched_color is None
    env.close()
