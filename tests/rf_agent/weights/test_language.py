import json

import pytest
import torch
from make_case import LANGUAGES, ROWS, WIDTH, make_case
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig

from rf_agent.weights.files import ConversionError
from rf_agent.weights.language import LANGUAGE, read_language_model, resized_rows


@pytest.fixture
def folder(request, tmp_path):
    """The folder of a language model, "neox" by default."""
    make_case(tmp_path / "case", getattr(request, "param", "neox"))
    return tmp_path / "case" / "lm"


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def change_tensors(folder, **tensors):
    path = folder / "model.safetensors"
    kept = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({n: t for n, t in (load_file(path) | kept).items() if t is not None}, path, {"format": "pt"})


@pytest.mark.parametrize("folder", LANGUAGES, indirect=True)
def test_vocabulary_becomes_that_of_the_tokenizer(folder):
    found = read_language_model(folder)
    tokens = len(found.tokenizer)
    assert found.model["vocab_size"] == tokens < ROWS and "architectures" not in found.model
    tables = [t for t in found.source.tensors.values() if t.shape == (tokens, WIDTH)]
    assert tables and not any(len(t) == ROWS for t in found.source.tensors.values())
    assert f"{ROWS} rows made {tokens}" in found.notes[0]
    numbers = {name.split(".")[found.layers_name.count(".") + 1] for name in found.names if found.layers_name in name}
    assert len(numbers) == found.layers


@pytest.mark.parametrize(
    ("folder", "published"),
    [
        ("mpt", {"init_config": {"name": "kaiming_normal_"}, "tokenizer_name": "x/y", "verbose": 0, "norm_bias": None}),
        ("llama", {"max_sequence_length": 2048}),
    ],
    indirect=["folder"],
)
def test_keys_of_published_folders_that_change_nothing_are_left_out(folder, published):
    before = read_language_model(folder)
    change(folder, **published)
    after = read_language_model(folder)
    assert after.model == before.model
    change(folder, sliding_windows=512)  # as in code that comes with the model: without it, it is another
    with pytest.raises(ConversionError, match="sliding_windows"):
        read_language_model(folder)


def test_output_layer_of_gpt_neox_is_found_under_its_old_name(folder):
    wanted = load_file(folder / "model.safetensors")["embed_out.weight"]
    tensors = read_language_model(folder).source.tensors
    # older versions of transformers use the old name themselves
    (found,) = (
        tensors[name] for name in (f"{LANGUAGE}lm_head.weight", f"{LANGUAGE}embed_out.weight") if name in tensors
    )
    assert torch.equal(found, wanted[: len(found)]) and found.any()


def test_rows_of_new_tokens():
    table = torch.randn(50, 8)
    longer = resized_rows(table, 53)
    assert torch.equal(longer[:50], table) and longer[50:].std() > 0.5
    assert torch.equal(resized_rows(table, 53), longer)
    assert torch.equal(resized_rows(table, 40), table[:40])


def test_too_small_a_vocabulary_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    few = {name: t[:100] for name, t in tensors.items() if len(t) == ROWS}
    save_file(tensors | few, folder / "model.safetensors", {"format": "pt"})
    change(folder, vocab_size=100)
    with pytest.raises(ConversionError) as error:
        read_language_model(folder)
    for part in ("too small", "gpt_neox.embed_in.weight is (100, 32)", "258 tokens", "(258, 32)"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("folder", "tensors", "said"),
    [
        ("neox", {"gpt_neox__final_layer_norm__bias": torch.ones(9)}, r"final_layer_norm.bias is \(9,\), but \(32,\)"),
        ("neox", {"gpt_neox__final_layer_norm__bias": None}, "missing: gpt_neox.final_layer_norm.bias"),
        ("neox", {"gpt_neox__layers__0__attention__q_ln__weight": torch.ones(9)}, "unknown to the model: gpt_neox"),
        ("mosaic", {"transformer__ln_f__weight": torch.ones(9)}, r"transformer.ln_f.weight is \(9,\), but \(32,\)"),
        ("mosaic", {"transformer__ln_f__weight": None}, "missing: transformer.ln_f.weight"),
        ("mosaic", {"transformer__blocks__0__attn__Wqkv__bias": torch.ones(9)}, "unknown to the model: transformer"),
    ],
    indirect=["folder"],
)
def test_every_wrong_tensor_is_refused(folder, tensors, said):
    """Also one that transformers would pass over in silence, such as the query-key norm of a model it lacks."""
    change_tensors(folder, **tensors)
    with pytest.raises(ConversionError, match=said):
        read_language_model(folder)


def test_models_that_are_no_language_models_are_refused(folder):
    cases = [
        ({"model_type": "of_my_own", "auto_map": {"AutoModelForCausalLM": "code.Model"}}, "never run"),
        (CLIPConfig().to_dict(), "causal language model"),
    ]
    for values, said in cases:
        (folder / "config.json").write_text(json.dumps(values))
        (folder / "code.py").write_text("raise SystemExit('this ran')")
        with pytest.raises(ConversionError, match=said):
            read_language_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ConversionError, match="has no config.json"):
        read_language_model(folder)
    with pytest.raises(ConversionError, match="does not exist"):
        read_language_model(folder / "nowhere")
    with pytest.raises(ConversionError, match="is a file"):
        read_language_model(folder / "code.py")


@pytest.mark.parametrize("folder", ["mosaic"], indirect=True)
def test_mosaic_gpt_of_another_make_is_refused(folder):
    change(folder, alibi=False)
    with pytest.raises(ConversionError, match="alibi = False"):
        read_language_model(folder)


@pytest.mark.parametrize("folder", ["mosaic"], indirect=True)
def test_raw_state_dict_of_mosaic_gpt(folder):
    wanted = read_language_model(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "raw.pt")
    (folder / "model.safetensors").unlink()
    found = read_language_model(folder, folder / "raw.pt")
    assert all(torch.equal(tensor, found.source.tensors[name]) for name, tensor in wanted.source.tensors.items())
    change(folder, model_type="llama")
    with pytest.raises(ConversionError, match="read from the folder"):
        read_language_model(folder, folder / "raw.pt")


def test_a_tokenizer_that_ends_no_text_is_refused(folder):
    """Every prompt would end with the letters of None."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "of_nobody"}))
    with pytest.raises(ValueError, match="eos_token|of_nobody"):
        read_language_model(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"cls_token": "<s>"}))
    with pytest.raises(ConversionError, match=r"names no token that ends a text \(eos_token\)"):
        read_language_model(folder)
