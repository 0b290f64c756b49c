"""Which messages are observations, and what is said of those that are not."""

import numpy as np
import pytest
from fake_policy import observe

from rf_agent.serving.observations import ObservationReader

READER = ObservationReader(("front", "wrist"), "state", 2)


def test_openpis_keys_name_the_cameras_in_their_order():
    own = observe(3)
    message = {
        "observation/image": own["front"],
        "observation/wrist_image": own["wrist"],
        "observation/state": own["state"],
        "prompt": "go",
        "observation/extra": 1,
    }
    found, restart = READER.read(message)
    assert found.keys() == own.keys() and not restart
    for key in own:
        np.testing.assert_array_equal(found[key], own[key])


def test_a_message_may_reset():
    assert READER.read({"reset": True}) == (None, True)
    found, restart = READER.read(observe(reset=True))
    assert restart and "reset" not in found


@pytest.mark.parametrize(
    "value",
    [
        "öffne",
        "öffne".encode(),
        ["öffne"],
        np.array("öffne"),
        np.array(["öffne"]),
        np.frombuffer("öffne".encode().ljust(256, b"\0"), np.uint8),
        np.frombuffer("öffne".encode(), np.uint8)[None],
    ],
)
def test_instructions_are_read_as_text_and_as_bytes(value):
    assert READER.read(observe(instruction=value))[0]["instruction"] == "öffne"


def test_states_are_read_in_any_number_format():
    for value in ([1, 2], [1.0, np.float32(2)], np.array([1, 2]), np.array([1, 2], ">f8")):
        state = READER.read(observe(state=value))[0]["state"]
        assert state.dtype == np.float32 and state.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ([1], "type list was sent; send a map"),
        ({}, "no 'front' or 'observation/image' .it has nothing"),
        (observe(front=None), "no 'front' or 'observation/image' .it has 'instruction', 'state', 'wrist'"),
        (observe(instruction=None), "no 'instruction' or 'prompt'"),
        (observe(prompt="go"), "both 'instruction' and 'prompt'"),
        (observe(front=np.zeros((6, 5, 3))), "front has dtype float64 and shape .6, 5, 3.; send uint8"),
        (observe(front=np.zeros((3, 6, 5), np.uint8)), "shape .3, 6, 5."),
        (observe(front=np.zeros((1, 6, 5, 3), np.uint8)), "shape .1, 6, 5, 3."),
        (observe(front=np.zeros((0, 5, 3), np.uint8)), "shape .0, 5, 3."),
        (observe(front=np.zeros((1, 5000, 3), np.uint8)), "at most 4096"),
        (observe(front=[[1]]), "front is of type list"),
        (observe(state=np.array([1, np.nan])), "state has values that are not finite"),
        (observe(state=np.array([1, 1e300])), "not finite"),
        (observe(state=np.zeros(3)), r"state has dtype float64 and shape \(3,\); send 2 numbers"),
        (observe(state=np.array(["a", "b"])), "state has dtype <U1"),
        (observe(state=[1, [2]]), "send 2 numbers"),
        (observe(state=1.0), "state is of type float"),
        (observe(instruction=""), "instruction is empty"),
        (observe(instruction="x" * 300), "300 bytes"),
        (observe(instruction=7), "type int"),
        (observe(instruction={"a": 1}), "type dict"),
        (observe(instruction=np.zeros((1 << 20, 1), np.uint8)), "instruction has 1048576 entries, but 256 is the most"),
        (observe(instruction=np.zeros(257, np.float32)), "instruction has 257 entries, but 256 is the most"),
        (observe(instruction=None, prompt=["go"] * 257), "prompt has 257 entries"),
        (observe(instruction=np.zeros(2, np.float32)), "2 instructions"),
        (observe(instruction=np.zeros((200, 1), np.uint8)), "200 instructions"),
        (observe(instruction=[np.zeros(1 << 20, np.uint8)]), "list of other things than text"),
        (observe(state=[b"x" * 1000, b""]), "state is a list of 2 entries; send 2 numbers"),
        (observe(state=[1, 2, 3]), "state is a list of 3 entries; send 2 numbers"),
        (observe(instruction=["a", "b"]), "2 instructions"),
        (observe(reset=1), "reset is of type int"),
    ],
)
def test_what_is_no_observation_is_refused_in_a_sentence(message, error):
    with pytest.raises(ValueError, match=error) as raised:
        READER.read(message)
    assert "\n" not in str(raised.value)
