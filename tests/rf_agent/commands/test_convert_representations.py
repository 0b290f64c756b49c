"""`rf-agent convert r3m` and `convert voltron`: what they write, and files that bring something else."""

import pytest
import torch
from representation_files import Runs, save_distilbert, save_r3m, save_tokenizer, save_voltron

import rf_agent
from rf_agent import cli

SMALL = ["--head.hidden", 8, "--head.layers", 1, "--head.mlp", 8]


def run(capfd, *words):
    capfd.readouterr()  # what making the files said
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def command(kind, checkpoint, folder):
    if kind == "r3m":
        return ["convert", "r3m", "--checkpoint", checkpoint, "--language-model", save_distilbert(folder / "lm")]
    words = ["convert", "voltron", "--checkpoint", checkpoint, "--tokenizer", save_tokenizer(folder / "lm")]
    return [*words, "--head-width", 16, "--language-head-width", 8]


@pytest.mark.parametrize(("kind", "save"), [("r3m", save_r3m), ("voltron", save_voltron)])
def test_a_policy_is_written(capfd, tmp_path, kind, save):
    words = command(kind, save(tmp_path / "weights.pt"), tmp_path)
    code, out, err = run(capfd, *words, *SMALL, "--output", tmp_path / "policy")
    assert code == 0 and not err
    assert "tensors used" in out and "tensors ignored" in out and "to be trained: " in out
    assert rf_agent.load_policy(tmp_path / "policy", "cpu").config.type == kind
    assert "weights.pt" in (tmp_path / "policy" / "README.md").read_text()


@pytest.mark.parametrize(("kind", "save"), [("r3m", save_r3m), ("voltron", save_voltron)])
@pytest.mark.parametrize("harm", ["runs code", "cut short", "empty", "other"])
def test_bad_files_are_one_sentence_and_run_nothing(capfd, tmp_path, kind, save, harm):
    path, marker = tmp_path / "weights.pt", tmp_path / "it-ran"
    save(path)
    if harm == "runs code":
        save(path, surprise=Runs(marker))
    elif harm == "cut short":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"model": {"somewhere.else": torch.ones(2)}}, path)
    code, _, err = run(capfd, *command(kind, path, tmp_path), *SMALL, "--output", tmp_path / "policy")
    assert code == 1 and err.count("\n") == 1 and str(path) in err
    assert not marker.exists() and not (tmp_path / "policy").exists()
