"""`rf-agent collect-vl` and `rf-agent evaluate-vl` as a user meets them."""

import json

import pytest
from policy_cases import make_policy
from vl_files import write_vl_files

from rf_agent import cli
from rf_agent.baselines.representation import R3MPolicy
from rf_agent.presets import preset


@pytest.fixture
def files(tmp_path):
    return write_vl_files(tmp_path / "vl")


@pytest.fixture
def policy(tmp_path):
    return make_policy().save_pretrained(tmp_path / "policy")


def run(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def options(files, *names):
    return [word for name in names for word in (f"--{name}", files[name])]


def test_questions(capfd, tmp_path, files, policy):
    words = [*options(files, "images", "questions", "annotations"), "--policy", policy, "--device", "cpu"]
    more = ["--count", 5, "--shots", 2, "--max-new-tokens", 4, "--output", tmp_path / "out"]
    (files["images"] / "COCO_toy_000000000003.jpg").unlink()
    code, out, err = run(capfd, "evaluate-vl", *words, *more)
    assert code == 0 and not err and "accuracy, other" in out and "1 images or questions left out" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["kind"] == "questions" and results["shots"] == 2 and 0 <= results["scores"]["accuracy"] <= 1
    assert results["counts"] == {"evaluated": 5, "there": 7, "missing": 1, "cannot_be_decoded": 0}
    assert results["files"]["questions"] == files["questions"].name and "torch" in results["versions"]
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(predictions) == 5 and set(predictions[0]) == {"question_id", "answer"}


def test_a_file_for_an_output_is_refused_before_the_work(capfd, tmp_path, files, policy):
    (tmp_path / "out").touch()
    words = [*options(files, "images", "questions", "annotations"), "--policy", policy, "--device", "cpu"]
    code, out, err = run(capfd, "evaluate-vl", *words, "--output", tmp_path / "out")
    assert code == 1 and "out is a file: give a directory" in err and not out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--subset", "my_val"], "the subset is called 'my_val': give a name of letters and digits"),
        (["--images", "a.hdf5", "--count", "5000"], "--count has no effect where --images are given: leave it out"),
    ],
)
def test_what_cannot_be_written_is_refused_before_images_are_rendered(capfd, tmp_path, monkeypatch, words, said):
    monkeypatch.setattr("rf_agent.commands.collect_vl.collect_scene_images", lambda *_: pytest.fail("it renders"))
    code, _, err = run(capfd, "collect-vl", "--output", tmp_path / "vl", *words)
    assert code == 1 and said in err


def test_a_camera_that_the_environment_lacks_is_refused_before_images_are_rendered(capfd, tmp_path):
    words = ["--env", "fake_table:FakeTable-v0", "--count", 6, "--image-size", 32, "--camera", "rgb_wrist"]
    code, _, err = run(capfd, "collect-vl", "--output", tmp_path / "vl", *words)
    assert (
        code == 1 and "'fake_table:FakeTable-v0' has no camera 'rgb_wrist': give one of rgb_gripper, rgb_static" in err
    )
    assert not (tmp_path / "vl").exists()


def test_captions_of_rendered_scenes(capfd, tmp_path, policy):
    pytest.importorskip("pycocoevalcap")
    table = ["--env", "fake_table:FakeTable-v0", "--count", 6, "--image-size", 32, "--workers", 1]
    code, out, _ = run(capfd, "collect-vl", "--output", tmp_path / "vl", "--subset", "toy", *table)
    assert code == 0 and "captions_toy.json" in out
    where = ["--captions", tmp_path / "vl" / "captions_toy.json", "--images", tmp_path / "vl" / "toy"]
    words = ["--policy", policy, "--device", "cpu", "--prompts", "pretrain", "--output", tmp_path / "out"]
    code, out, _ = run(capfd, "evaluate-vl", *where, *words)
    assert code == 0 and "CIDEr" in out and "6 captions" in out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["scores"]) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
    # the images that were rendered are taken again
    again = ["--images", tmp_path / "vl" / "scene_images_toy.hdf5", "--output", tmp_path / "other"]
    assert run(capfd, "collect-vl", *again)[0] == 0 and (tmp_path / "other" / "captions_val.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give either --captions, or --questions and --annotations"),
        (["--captions", "a", "--questions", "b", "--annotations", "c"], "give either --captions"),
        (["--questions", "b"], "give both --questions and --annotations"),
        (["--captions", "a", "--count", "0"], "--count is 0"),
        (["--captions", "a", "--shots", "-1"], "--shots is -1"),
        (["--captions", "a", "--policy", "expert"], "has no language model"),
        (["--questions", "nothing.json", "--annotations", "c"], "nothing.json is no file"),
    ],
)
def test_mistakes_are_one_sentence(capfd, tmp_path, words, said):
    code, _, err = run(capfd, "evaluate-vl", "--images", tmp_path, *words)
    assert code == 1 and said in err and err.count("\n") == 1


def test_a_policy_that_writes_no_text(capfd, tmp_path):
    config = preset("r3m-tiny").beginning_from(preset("roboflamingo-test"))
    folder = R3MPolicy.from_config(config, ["open the drawer"], seed=0).save_pretrained(tmp_path / "r3m")
    for command, words in (
        ("evaluate-vl", ("--images", tmp_path, "--captions", "a", "--policy", folder)),
        ("pretrain", ("--init", folder, "--output", tmp_path / "vlm")),
        ("pretrain", ("--preset", "r3m-tiny", "--output", tmp_path / "vlm")),
    ):
        code, _, err = run(capfd, command, *words)
        assert code == 1 and "is of type 'r3m'" in err and err.count("\n") == 1
    assert not (tmp_path / "vlm").exists()  # nothing was rendered
