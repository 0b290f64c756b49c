"""Instructions: enough of them, unmistakable, and no evaluation instruction seen in training."""

import json
import re

import pytest

from rf_envs.benchmark.tasks import COLORS, TASKS
from rf_envs.language.instructions import ENRICHED, EVALUATION, KINDS, TRAINING, task_of
from rf_envs.language.instructions.words import CLOCK, SHADE, plain
from rf_envs.spaces import encode_instruction

WORDS = {word for task in TASKS for text in TRAINING[task] for word in text.split()}
THINGS = {
    "_slider": {"slider", "door", "door's", "panel", "cabinet", "cabinet's", "cupboard", "shelf"},
    "_drawer": {"drawer", "drawer's", "compartment"},
    "_lightbulb": {"bulb", "lightbulb", "yellow", "lamp", "switch"},
    "_led": {"led", "green", "button"},
    "_table": {"table", "tabletop", "surface"},
}
"""The end of a task's name to the words of which its enriched instructions have one."""


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_many_training_instructions_and_a_fresh_evaluation_instruction(task):
    assert len(set(TRAINING[task])) == len(TRAINING[task]) >= 12
    assert EVALUATION[task] not in TRAINING[task]
    # a policy that learned from the training instructions can know every word of it
    assert set(EVALUATION[task].split()) <= WORDS
    for text in (*TRAINING[task], EVALUATION[task]):
        assert len(text.split()) <= 12
        assert text == text.lower().strip()
        assert encode_instruction(text).any()


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_fifty_enriched_sentences(task):
    assert len(ENRICHED[task]) >= 50
    for text in ENRICHED[task]:
        assert re.fullmatch(r"[A-Z][A-Za-z ,:;'-]+[.?!]", text)
        assert len(text) <= 120 and "  " not in text
    new_words = set().union(*map(words, ENRICHED[task])) - WORDS
    assert len(new_words) >= 50


def test_every_instruction_asks_for_one_task():
    everything = [text for kind in KINDS.values() for task in TASKS for text in kind[task]]
    assert len({plain(text) for text in everything}) == len(everything) >= 34 * (12 + 1 + 50)
    assert all(task_of(text) == task for kind in KINDS.values() for task in TASKS for text in kind[task])


@pytest.mark.parametrize("task", [task for task in TASKS if any(color in task for color in COLORS)])
def test_instructions_of_block_tasks_name_the_color(task):
    color = next(color for color in COLORS if color in task)
    others = {name for other in COLORS if other != color for name in (other, SHADE[other])}
    assert all(color in text.split() for text in (*TRAINING[task], EVALUATION[task]))
    for text in ENRICHED[task]:
        assert {color, SHADE[color]} & words(text) and not others & words(text)


@pytest.mark.parametrize("task", [task for task in TASKS if task.endswith(("left", "right"))])
def test_instructions_of_directed_tasks_name_the_side(task):
    assert all({"left", "right"} & set(text.split()) for text in (*TRAINING[task], EVALUATION[task]))
    side = task.split("_")[-1]
    ways = {side, f"{side}ward", f"{side}wards", f"{side}-hand", CLOCK[side]}
    assert [text for text in ENRICHED[task] if not ways & set(re.findall(r"[a-z-]+", text.lower()))] == []


@pytest.mark.parametrize("task", [task for task in TASKS if task.endswith(tuple(THINGS))])
def test_enriched_instructions_name_their_thing(task):
    things = next(things for end, things in THINGS.items() if task.endswith(end))
    assert [text for text in ENRICHED[task] if not things & words(text)] == []


@pytest.mark.parametrize("kind", ["training", "enriched"])
def test_instructions_are_varied(kind):
    for task in TASKS:
        first_words = {text.split()[0].lower() for text in KINDS[kind][task]}
        assert len(first_words) >= (25 if kind == "enriched" else 6)


def test_the_environment_draws_enriched_instructions_by_its_seed(make_env):
    env = make_env(instructions="enriched")
    runs = [
        [env.reset(seed=seed, options={"task": "open_drawer"})[1]["instruction"] for seed in range(30)]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert set(runs[0]) <= set(ENRICHED["open_drawer"]) and len(set(runs[0])) > 15
    with pytest.raises(ValueError, match="Unknown kind of instructions 'enrich'; did you mean 'enriched'"):
        make_env(instructions="enrich")


def test_an_enriched_instruction_chooses_its_task(make_env):
    _, info = make_env().reset(seed=0, options={"instruction": "Take down the little tower."})
    assert info["task"] == "unstack_block"


def test_evaluation_instructions_are_not_calvins(calvin_file):
    text = calvin_file("new_playtable_validation.yaml").read_text().lower()
    assert not [instruction for instruction in EVALUATION.values() if f'"{instruction}"' in text]


def test_enriched_instructions_are_not_those_of_others(calvin_file):
    enriched = json.loads(calvin_file("enrich_lang_annotations.json").read_text()).values()
    cached = json.loads(calvin_file("lang_annotation_cache.json").read_text())
    theirs = {plain(line) for texts in (*enriched, *cached) for text in texts for line in text.splitlines()}
    theirs |= {plain(text) for text in re.findall(r'"(.*)"', calvin_file("new_playtable_validation.yaml").read_text())}
    assert len(theirs) > 1700
    assert not [text for task in TASKS for text in ENRICHED[task] if plain(text) in theirs]


def test_task_of_ignores_case_spaces_and_closing_marks_and_knows_no_free_text():
    assert task_of("  Open the  DRAWER. ") == "open_drawer"
    assert task_of("would you switch on the green led for me") == "turn_on_led"
    assert task_of("do a dance") is None


def test_the_environment_says_which_task_a_text_asks_for(make_env):
    env = make_env()
    assert env.task_of("Take down the little tower.") == "unstack_block"
    assert env.task_of("wave at me") is None
