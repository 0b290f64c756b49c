import numpy as np
import pytest
from make_case import make_case
from policy_cases import make_observation

from rf_agent import cli
from rf_agent.policy import RoboFlamingoPolicy


@pytest.fixture
def words(tmp_path):
    make_case(tmp_path / "case", "mosaic")
    case = tmp_path / "case"
    return ["--language-model", case / "lm", "--vision", case / "vision.pt", "--vision-head-width", 8]


def run(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def test_roboflamingo(capfd, tmp_path, words):
    case, output = tmp_path / "case", tmp_path / "policy"
    given = ["--checkpoint", case / "roboflamingo.pt", "--openflamingo", case / "openflamingo.pt", "--window", 4]
    code, out, err = run(capfd, "convert", "roboflamingo", *given, *words, "--output", output)
    assert code == 0 and not err
    assert "tensors used" in out and "ignored: duplicates" in out and str(output) in out
    policy = RoboFlamingoPolicy.from_pretrained(output, device="cpu")
    assert policy.config.language.lm_feature == "last_block_input" and policy.config.head.window == 4
    assert policy.act(make_observation(0)).shape == (7,)
    assert "roboflamingo.pt" in (output / "README.md").read_text()


def test_openflamingo_with_a_head_of_choice_in_half_precision(capfd, tmp_path, words):
    head = ["--head.type", "fc", "--head.hidden", 8, "--head.mlp", 8, "--dtype", "bfloat16"]
    given = ["--checkpoint", tmp_path / "case" / "openflamingo.pt", *head, "--output", tmp_path / "policy"]
    code, out, _ = run(capfd, "convert", "openflamingo", *given, *words)
    assert code == 0 and "random and to be trained: head." in out
    policy = RoboFlamingoPolicy.from_pretrained(tmp_path / "policy", device="cpu")
    assert policy.config.head.type == "fc" and np.isfinite(policy.act(make_observation(0))).all()


def test_mistakes_are_one_sentence_and_leave_nothing(capfd, tmp_path, words):
    case, output = tmp_path / "case", tmp_path / "policy"
    wrong = ["--checkpoint", case / "openflamingo.pt", *words, "--output", output]
    code, _, err = run(capfd, "convert", "roboflamingo", *wrong)
    assert code == 1 and err.count("\n") == 1 and "a RoboFlamingo checkpoint is expected" in err
    assert not output.exists()
    output.mkdir()
    (output / "thesis.txt").write_text("years of work")
    code, _, err = run(capfd, "convert", "openflamingo", *wrong)
    assert code == 1 and "exists and is no checkpoint" in err
