"""What a page may say, and what is refused."""

import json

import pytest

from rf_agent.play.messages import BadMessage, parse


@pytest.mark.parametrize(
    "message",
    [
        {"do": "ask", "instruction": "open the drawer"},
        {"do": "pause", "on": True},
        {"do": "speed", "factor": 0.5},
        {"do": "reset", "seed": 7},
        {"do": "drive", "axes": {"x": 0.5, "yaw": -1}, "gripper": "keep", "frame": "view"},
        {"do": "stop"},
    ],
)
def test_commands_are_taken(message):
    assert parse(json.dumps(message)) == message


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"\x00\x01", "binary"),
        ("x" * 5000, "5000 characters"),
        ("not json", "not JSON"),
        ("[" * 2000, "not JSON"),
        ('{"do": "speed", "factor": NaN}', "not JSON"),
        ('{"do": "speed", "factor": 1e999}', "another 'factor'"),
        ("[1]", "not a JSON object"),
        ("{}", "asks to do 'None'"),
        ('{"do": "__init__"}', "asks to do '__init__'"),
        ('{"do": ["ask"]}', "asks to do"),
        ('{"do": "ask"}', "another 'instruction'"),
        ('{"do": "ask", "instruction": 3}', "another 'instruction'"),
        ('{"do": "ask", "instruction": "a", "path": "../x"}', "has an entry 'path'"),
        ('{"do": "reset", "seed": -1}', "another 'seed'"),
        ('{"do": "reset", "seed": true}', "another 'seed'"),
        ('{"do": "speed", "factor": 1000}', "another 'factor'"),
        ('{"do": "drive", "axes": {"x": 7}, "gripper": "keep", "frame": "view"}', "another 'axes'"),
        ('{"do": "drive", "axes": {"evil": 1}, "gripper": "keep", "frame": "view"}', "another 'axes'"),
        ('{"do": "drive", "axes": {}, "gripper": ["open"], "frame": "view"}', "another 'gripper'"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(text, match):
    with pytest.raises(BadMessage, match=match) as caught:
        parse(text)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
