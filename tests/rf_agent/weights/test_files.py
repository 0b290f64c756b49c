import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rf_agent.weights.files import ConversionError, expect_family, read_tensors

TENSORS = {"perceiver.latents": torch.ones(2, 3), "lang_encoder.wte.weight": torch.arange(4.0)}


class Surprise:
    """What a file must not bring."""


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"epoch": 3, "model_state_dict": TENSORS, "optimizer_state_dict": {"state": {0: torch.ones(1)}}},
        {"model_state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}},
        {"state_dict": TENSORS},
        {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in TENSORS.items()}},
        {"state_dict": {f"_orig_mod.module.module.{name}": tensor for name, tensor in TENSORS.items()}},
        {"r3m": {f"module.{name}": tensor for name, tensor in TENSORS.items()}, "global_step": 3},
        (TENSORS, {"state": {0: torch.ones(1)}}),
    ],
)
def test_tensors_are_found_in_training_checkpoints(content, tmp_path):
    torch.save(content, tmp_path / "checkpoint.pt")
    found = read_tensors(tmp_path / "checkpoint.pt")
    assert set(found) == set(TENSORS) and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


class Harm:
    """Pickles to a program."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return eval, (f"open({str(self.target)!r}, 'w').close()",)


@pytest.mark.parametrize("new", [True, False])
def test_a_program_in_a_checkpoint_is_not_run(tmp_path, new):
    target = tmp_path / "ran"
    content = {**TENSORS, "epoch": Harm(target)}
    torch.save(content, tmp_path / "checkpoint.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(ConversionError, match="checkpoint.pt cannot be read as tensors"):
        read_tensors(tmp_path / "checkpoint.pt")
    assert not target.exists()
    torch.load(tmp_path / "checkpoint.pt", weights_only=False)  # what others would do
    assert target.exists()


def test_a_tensor_that_is_there_twice_is_named(tmp_path):
    torch.save({**TENSORS, "module.perceiver.latents": torch.zeros(2, 3)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ConversionError, match="holds perceiver.latents twice, with and without a prefix"):
        read_tensors(tmp_path / "checkpoint.pt")


def test_old_format_of_torch(tmp_path):
    torch.save(TENSORS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert set(read_tensors(tmp_path / "old.pt")) == set(TENSORS)


def test_folder_of_parts(tmp_path):
    for part, name in enumerate(TENSORS):
        save_file({name: TENSORS[name]}, tmp_path / f"part{part}.safetensors")
    index = {"weight_map": {name: f"part{part}.safetensors" for part, name in enumerate(TENSORS)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert set(read_tensors(tmp_path)) == set(TENSORS)


def test_safetensors_are_known_by_what_they_hold(tmp_path):
    save_file(TENSORS, tmp_path / "named.pt")
    assert set(read_tensors(tmp_path / "named.pt")) == set(TENSORS)


@pytest.mark.parametrize("content", ["{", "{}", '{"weight_map": []}'])
def test_a_damaged_list_of_parts_is_named(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ConversionError, match="model.safetensors.index.json is damaged"):
        read_tensors(tmp_path)


def test_files_that_are_cut_off_anywhere_are_named(tmp_path):
    torch.save(TENSORS, tmp_path / "whole.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "whole.pt").read_bytes()
    rng = np.random.default_rng(0)
    contents = [whole[: int(cut)] for cut in rng.integers(1, len(whole) - 1, 60)] + [rng.bytes(200) for _ in range(60)]
    for content in contents:
        (tmp_path / "cut.pt").write_bytes(content)
        with pytest.raises(ConversionError, match="cut.pt"):
            read_tensors(tmp_path / "cut.pt")


def test_files_that_would_run_code_or_hold_no_tensors_are_refused(tmp_path):
    torch.save({"model": Surprise()}, tmp_path / "code.pt")
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "script.pt"))
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    (tmp_path / "folder").mkdir()
    said = {
        "code.pt": "cannot be read as tensors",
        "script.pt": r"is a TorchScript archive, as OpenAI's CLIP files are.*torch.jit.load\('script.pt'",
        "empty.pt": "no dictionary of tensors",
        "text.pt": "cannot be read as tensors",
        "text.safetensors": "cannot be read as tensors",
        "folder": "has no weights",
        "missing.pt": "there is no file",
    }
    for name, part in said.items():
        with pytest.raises(ConversionError, match=part) as error:
            read_tensors(tmp_path / name)
        assert name in str(error.value) and "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("lm_head.rnn.weight_ih_l0", "a RoboFlamingo checkpoint"),
        ("action_head.mlp.0.weight", "a RoboFlamingo checkpoint"),
        ("perceiver.latents", "an OpenFlamingo checkpoint"),
        ("convnet.conv1.weight", "an R3M checkpoint"),
        ("patch2embed.proj.weight", "a Voltron checkpoint"),
        ("visual.class_embedding", "a CLIP model"),
        ("vision_model.embeddings.class_embedding", "a CLIP model"),
        ("transformer.wte.weight", "a language model"),
        ("model.embed_tokens.weight", "a language model"),
    ],
)
def test_families(name, family):
    expect_family({name: torch.ones(1)}, "F.pt", family, "")
    other = "a CLIP model" if family != "a CLIP model" else "a language model"
    with pytest.raises(ConversionError, match=f"F.pt is {family} .it holds {name}.*{other} is expected here; give it"):
        expect_family({name: torch.ones(1)}, "F.pt", other, "give it")
