"""Captions, answers and places say what is the case."""

import json

import gymnasium as gym
import numpy as np
import pytest
from fake_simulator import FakeSimulator, quaternion

from rf_envs.language.describe import block_yaw, describe
from rf_envs.language.instructions import TRAINING
from rf_envs.scenes import SCENES

D = SCENES["D"]
NAMES = {
    "red block",
    "blue block",
    "pink block",
    "drawer handle",
    "sliding door handle",
    "switch",
    "button",
    "lightbulb",
    "led",
}


def everything(simulator: FakeSimulator) -> tuple[set[str], dict[str, set[str]]]:
    """All captions and all answers by question that many draws give."""
    captions: set[str] = set()
    answers: dict[str, set[str]] = {}
    for seed in range(80):
        description = describe(simulator.info(), D, np.random.default_rng(seed))
        captions.update(description["captions"])
        for question, answer in description["questions"]:
            answers.setdefault(question, set()).add(answer)
    return captions, answers


def test_answers_are_unambiguous_and_right():
    simulator = FakeSimulator()
    simulator.scene_obs[:6] = 0.28, 0.22, 0, 0, 0, 1
    simulator.scene_obs[12:15] = 0.05, 0.09, 0.46  # blue: on the right of the shelf
    simulator.scene_obs[18:21] = 0.18, -0.3, 0.36  # pink: in the drawer
    captions, answers = everything(simulator)
    assert all(len(found) == 1 for found in answers.values())
    expected = {
        "where is the red block?": "on the table",
        "where is the blue block?": "on the right of the shelf",
        "which block is in the drawer?": "pink",
        "is the drawer open?": "open",
        "where is the sliding door?": "on the left",
        "is the led on?": "yes",
        "is the yellow light on?": "no",
        "what is in the gripper?": "nothing",
        "how many blocks are on the table?": "one",
    }
    assert {question: answers[question] for question in expected} == {q: {a} for q, a in expected.items()}
    assert "the red block is on the table" in captions and "the drawer is open" in captions
    assert len(captions) > 40


def test_relations_between_blocks():
    simulator = FakeSimulator()
    _, answers = everything(simulator)
    assert answers["is the red block left or right of the blue block?"] == {"left"}
    assert answers["what is the rightmost block on the table?"] == {"pink"}
    simulator.scene_obs[6:9] = simulator.scene_obs[12:15] + [0, 0, 0.04]
    _, answers = everything(simulator)
    assert answers["what is on top of the blue block?"] == {"the red block"}
    assert answers["where is the red block?"] == {"on the blue block"}


def test_a_held_block():
    simulator = FakeSimulator()
    simulator.scene_obs[8] = 0.6
    simulator.robot_obs[:3], simulator.robot_obs[14] = simulator.scene_obs[6:9], -1
    _, answers = everything(simulator)
    assert answers["what does the robot hold?"] == {"the red block"}


def test_what_cannot_be_seen_is_not_spoken_of():
    simulator = FakeSimulator()
    simulator.scene_obs[12:15] = 0.02, 0.09, 0.46  # behind the door at its right end
    simulator.scene_obs[18:21] = 0.18, -0.1, 0.36  # in the closed drawer
    captions, answers = everything(simulator)
    assert not [text for text in (*captions, *answers) if "blue" in text or "pink" in text]
    names = {place["name"] for place in describe(simulator.info(), D)["objects"]}
    assert names == NAMES - {"blue block", "pink block"}


def test_places_have_names_and_instructions():
    simulator = FakeSimulator()
    simulator.scene_obs[0], simulator.scene_obs[1] = 0.1, 0.2
    description = describe(simulator.info(), D)
    by_name: dict[str, list] = {}
    for place in description["objects"]:
        by_name.setdefault(place["name"], []).append(place)
    assert set(by_name) == NAMES
    assert by_name["red block"][0]["text"] == "the red block"
    assert by_name["red block"][0]["position"] == pytest.approx(simulator.scene_obs[6:9], abs=1e-5)
    assert by_name["drawer handle"][0]["position"] == pytest.approx([0.18, -0.449, 0.36])
    assert by_name["sliding door handle"][0]["position"][0] == pytest.approx(-0.06)
    for name in ("red block", "drawer handle", "sliding door handle", "switch", "button"):
        instructions = [p["text"] for p in by_name[name] if any(p["text"] in t for t in TRAINING.values())]
        assert len(instructions) == 3
    # of the lifts, only those from where the block is
    texts = {
        place["text"]
        for seed in range(50)
        for place in describe(simulator.info(), D, np.random.default_rng(seed))["objects"]
    }
    assert "lift the red block from the table" in texts
    assert not texts & set(TRAINING["lift_red_block_drawer"])


def test_a_description_depends_on_the_state_alone_and_json_holds_it():
    simulator = FakeSimulator()
    description = describe(simulator.info(), D)
    assert description == describe(simulator.info(), D)
    assert json.loads(json.dumps(description))["gripper"]["width"] == pytest.approx(0.08, abs=1e-5)
    simulator.scene_obs[6] += 0.01
    assert describe(simulator.info(), D)["captions"] != description["captions"]


@pytest.mark.parametrize(
    ("color", "euler", "expected"),
    [
        ("red", (0, 0, 0.3), 0.3),
        ("red", (0, 0, 0.3 - np.pi), 0.3),
        ("blue", (0, 0, 0.1), np.pi / 2 + 0.1),
        ("blue", (0, 0, np.pi / 2 - 0.2), np.pi / 2 - 0.2),
        ("red", (np.pi / 2, 0, 0.3), None),
        ("red", (0, 1.2, 0.3), None),
    ],
)
def test_yaw_is_what_can_be_seen_of_it(color, euler, expected):
    yaw = block_yaw(D, color, quaternion(np.array(euler)))
    assert yaw == (None if expected is None else pytest.approx(expected))


def test_places_are_where_the_simulator_has_its_links():
    """The geometry of captions is that of the furniture."""
    env = gym.make("rf/PlayTableD-v0", image_size=(16, 16)).unwrapped
    env.reset(seed=0, options={"task": "close_drawer"})
    bodies, client = env._simulator._bodies, env._simulator._physics
    places = {place["name"]: place["position"] for place in env.describe()["objects"]}
    for name, link in (
        ("drawer handle", "drawer_link"),
        ("sliding door handle", "slide_link"),
        ("switch", "switch_link"),
        ("button", "button_link"),
    ):
        low, high = client.getAABB(bodies.table, bodies.links[link])
        assert np.all(np.array(low) - 0.01 <= places[name]) and np.all(places[name] <= np.array(high) + 0.01)
    env.close()
