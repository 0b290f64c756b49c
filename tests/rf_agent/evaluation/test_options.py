"""Arguments of an environment on the command line."""

import pytest

from rf_agent.errors import UserError
from rf_agent.evaluation.options import parse_options


def test_values_are_read_as_what_they_are():
    words = ["renderer=tiny", "max_steps=300", "caption=false", "image_size=[64, 32]", "annotations=a=b.yaml"]
    assert parse_options(words) == {
        "renderer": "tiny",
        "max_steps": 300,
        "caption": False,
        "image_size": [64, 32],
        "annotations": "a=b.yaml",
    }


@pytest.mark.parametrize("word", ["renderer", "=tiny", "render er=tiny", ""])
def test_a_word_that_is_no_argument_is_named(word):
    with pytest.raises(UserError, match=f"got '{word}': write NAME=VALUE"):
        parse_options([word])


def test_an_argument_given_twice_is_refused():
    with pytest.raises(UserError, match="renderer twice"):
        parse_options(["renderer=tiny", "renderer=egl"])


@pytest.mark.parametrize(("word", "remedy"), [("tasks=[]", "--tasks"), ("scene=A", "the environment's id names it")])
def test_what_a_command_sets_itself_is_refused(word, remedy):
    with pytest.raises(UserError, match=remedy):
        parse_options([word])
