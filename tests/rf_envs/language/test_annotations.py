"""CALVIN's own files of instructions: each format is read, and each way to be wrong is told apart."""

import builtins
import json
from pathlib import Path

import gymnasium as gym
import pytest
from fake_simulator import FakeSimulator

from rf_envs.benchmark.chains import chains
from rf_envs.benchmark.tasks import TASKS
from rf_envs.chain import ChainEnv
from rf_envs.language.annotations import read_annotations
from rf_envs.language.instructions import EVALUATION

SENTENCES = {task: [f"{task} in words", f"say {task}\n\nand never mind this line"] for task in TASKS}
CACHE = [[f"chain {chain}, part {part}" for part in range(5)] for chain in range(1000)]


@pytest.fixture
def write(tmp_path):
    """Writes a file and gives its path."""

    def write(content, name="annotations.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def test_a_task_is_asked_for_in_the_files_words(make_env, write):
    env = make_env(annotations=write(SENTENCES))
    seen = {env.reset(seed=seed, options={"task": "open_drawer"})[1]["instruction"] for seed in range(20)}
    # only the first line of an entry counts
    assert seen == {"open_drawer in words", "say open_drawer"}


def test_the_seed_chooses_among_several(make_env, write):
    env = make_env(annotations=write(SENTENCES))
    runs = [[env.reset(seed=seed)[1]["instruction"] for seed in range(10)] for _ in range(2)]
    assert runs[0] == runs[1]


def test_yaml_with_one_sentence_per_task(make_env, write):
    lines = [f'{task}: ["please “{task}”"]' for task in TASKS]
    env = make_env(annotations=write("# instructions\n" + "\n".join(lines), "validation.yaml"))
    observation, info = env.reset(seed=0, options={"task": "close_drawer"})
    assert info["instruction"] == "please “close_drawer”"
    assert bytes(observation["instruction"]).rstrip(b"\0").decode() == info["instruction"]


def test_a_sentence_of_the_file_chooses_its_task(make_env, write):
    env = make_env(annotations=write(SENTENCES | {"stack_block": ["open the drawer"]}))
    assert env.reset(options={"instruction": "Say  turn_on_LED."})[1]["task"] == "turn_on_led"
    # the file goes before our own instructions, which are known still
    assert env.reset(options={"instruction": "open the drawer"})[1]["task"] == "stack_block"
    assert env.reset(options={"instruction": EVALUATION["close_drawer"]})[1]["task"] == "close_drawer"


def test_a_sentence_of_several_tasks_is_listed_with_the_one_that_it_chooses(make_env, write):
    both = {"open_drawer": ["make it so", "open the drawer"], "stack_block": ["Make it so.", "open the drawer"]}
    env = make_env(annotations=write(SENTENCES | both))
    wordings = env.wordings()
    assert all(env.task_of(text) == task for task in TASKS for text in wordings[task])
    first = env.task_of("make it so")
    assert [task for task in TASKS if {"make it so", "Make it so."} & {*wordings[task]}] == [first]


def test_chains_take_the_sentence_of_chain_and_sub_task(make_env, write, simulator, monkeypatch):
    monkeypatch.setattr("rf_envs.chain.is_done", lambda task, start, now: True)
    env = make_env(ChainEnv, annotations=str(write(CACHE)))
    _, info = env.reset(seed=0, options={"chain": 17})
    said = [info["instruction"]]
    for _ in range(4):
        *_, info = env.step([0] * 7)
        said.append(info["instruction"])
    assert said == CACHE[17]


def test_chains_take_sentences_by_task_too(make_env, write):
    env = make_env(ChainEnv, annotations=write(SENTENCES))
    _, info = env.reset(seed=0, options={"chain": 3})
    assert info["instruction"] in (f"{info['task']} in words", f"say {info['task']}")


def test_randomizing_in_a_chain_environment_asks_for_what_it_drew(make_env, write):
    env = make_env(ChainEnv, annotations=write(CACHE))
    for seed in range(5):
        env.randomize(seed=seed)
        assert env.task_description == EVALUATION[env.task]


def test_they_are_read_when_the_environment_is_made_by_its_id(write):
    env = gym.make("rf_envs:rf/PlayTableD-v0", annotations=str(write(SENTENCES)), simulator=FakeSimulator)
    assert " in words" in env.reset(seed=3)[1]["instruction"] or "say " in env.unwrapped.task_description
    env.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({task: SENTENCES[task] for task in TASKS if task != "stack_block"}, "no sentence for stack_block; expected"),
        (SENTENCES | {"open_drawr": ["x"]}, "did you mean 'open_drawer'"),
        (SENTENCES | {"open_drawer": []}, r"open_drawer: expected a list of sentences, found '\[\]'"),
        (SENTENCES | {"open_drawer": "open it"}, "open_drawer: expected a list of sentences, found 'open it'"),
        (SENTENCES | {"open_drawer": [" "]}, "open_drawer: expected a sentence, found ' '"),
        (SENTENCES | {"open_drawer": [7]}, "open_drawer: expected a sentence, found 7"),
        (SENTENCES | {"open_drawer": ["very " * 60]}, "open_drawer: The instruction takes 299 bytes"),
        (CACHE[:-1], "a list of 999; expected"),
        ([*CACHE[:-1], CACHE[0][:4]], "Chain 999 in .* has 4 sentences"),
        ([*CACHE[:-1], "five words"], "chain 999: expected a list"),
        ("just words", "are a str; expected"),
        ("", "are a NoneType; expected"),
        ('{"open_drawer": [', "broken JSON"),
        ("open_drawer: [a, b", "neither JSON nor YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_at_once(make_env, write, content, message):
    with pytest.raises(ValueError, match=message):
        make_env(ChainEnv, annotations=write(content))


def test_sentences_for_chains_do_not_fit_a_single_task(make_env, write):
    with pytest.raises(ValueError, match="a list, as for chains of tasks.*or use a chain environment"):
        make_env(annotations=write(CACHE))


def test_no_such_file(make_env, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of annotations .*nowhere.json"):
        make_env(annotations=tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match="Cannot read the annotations"):
        make_env(annotations=tmp_path)


def test_a_file_that_is_no_text(make_env, tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\xff\xfe")
    with pytest.raises(ValueError, match="Cannot read the annotations in .*a.npy"):
        make_env(annotations=tmp_path / "a.npy")


def test_yaml_without_pyyaml(make_env, write, monkeypatch):
    real = builtins.__import__

    def without_yaml(name, *args, **kwargs):
        if name == "yaml":
            raise ImportError("No module named 'yaml'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(ImportError, match="needs PyYAML; pip install pyyaml"):
        make_env(annotations=write("open_drawer: [open it]", "a.yaml"))


def test_calvins_own_files(calvin_file):
    validation = read_annotations(calvin_file("new_playtable_validation.yaml"))
    assert {len(texts) for texts in validation.by_task.values()} == {1}
    assert validation.by_task["lift_red_block_drawer"] == ("Take the red block from the drawer",)
    enriched = read_annotations(calvin_file("enrich_lang_annotations.json"))
    assert min(map(len, enriched.by_task.values())) == 40 and max(map(len, enriched.by_task.values())) == 58
    cache = read_annotations(calvin_file("lang_annotation_cache.json"), chains=True)
    # the cache was drawn from the enriched sentences of our chains' tasks
    for (_, tasks), texts in zip(chains(), cache.by_chain, strict=True):
        assert all(text in enriched.by_task[task] for task, text in zip(tasks, texts, strict=True))
