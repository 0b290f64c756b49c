"""R3M's files: the features of the policy are those of the published network."""

import json

import pytest
import torch
from policy_cases import make_observation
from representation_files import distilbert, resnet, save_distilbert, save_r3m, save_tokenizer
from torch.nn import functional as F

import rf_agent
from rf_agent.config import HeadConfig
from rf_agent.errors import UserError
from rf_agent.weights import ConversionError, from_r3m
from rf_agent.weights.sentence import read_sentence_encoder

HEAD = HeadConfig(hidden=8, layers=1, window=3, mlp=(8,))
TEXTS = ["push the red block", "open the drawer"]


def torchvision_features(tensors, pixels, bottleneck):
    """What torchvision's ResNet (stride in the 3 x 3 convolution) says of pixels (N, 3, S, S): the mean (N, d)."""

    def conv(x, name, norm, stride=1):
        weight = tensors[f"{name}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        statistics = (tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics)

    x = F.max_pool2d(conv(pixels, "conv1", "bn1", 2).relu(), 3, 2, padding=1)
    for stage, blocks in ((1, 2), (2, 1)):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y, convolutions = x, 3 if bottleneck else 2
            for i in range(1, 1 + convolutions):
                strided = i == (2 if bottleneck else 1)
                y = conv(y, f"{name}.conv{i}", f"{name}.bn{i}", stride if strided else 1)
                y = y.relu() if i < convolutions else y
            if f"{name}.downsample.0.weight" in tensors:
                x = conv(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (x + y).relu()
    return x.mean(dim=(2, 3))


def test_a_sentence_encoder_as_it_was_published(tmp_path):
    """The config.json of distilbert-base-uncased has a key that no class of `transformers` has."""
    folder = save_distilbert(tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_weights_": True, "output_past": True}))
    policy, _ = from_r3m(save_r3m(tmp_path / "model.pt", True), folder, head=HEAD, image_size=40)
    assert "tie_weights_" not in policy.config.language.model
    (folder / "config.json").write_text(json.dumps(config | {"position_embedding_type": "relative_key"}))
    with pytest.raises(UserError, match="position_embedding_type"):
        from_r3m(tmp_path / "model.pt", folder, head=HEAD, image_size=40)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_features_are_those_of_the_published_network(tmp_path, bottleneck):
    path = save_r3m(tmp_path / "model.pt", bottleneck)
    policy, report = from_r3m(path, save_distilbert(tmp_path / "lm"), head=HEAD, image_size=40)
    tensors, language = resnet(bottleneck), distilbert()
    pixels = torch.randn(2, 2, 3, 40, 40)  # two frames of two views
    tokens, mask = policy.tokenize(TEXTS)
    assert tokens.tolist() == [[2, 5, 6, 7, 8, 3], [2, 9, 6, 10, 3, 0]]  # the bare words, as DistilBERT reads them
    with torch.no_grad():
        features = policy.features(policy.encode_vision(pixels), tokens, mask)
        views = [torchvision_features(tensors, pixels[:, view], bottleneck) for view in range(2)]
        hidden = language(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        sentence = torch.stack([words[real].mean(dim=0) for words, real in zip(hidden, mask, strict=True)])
    torch.testing.assert_close(features, torch.cat((*views, sentence), dim=1), atol=1e-4, rtol=1e-4)
    said = "\n".join(report.lines())
    assert f"{path}: {len(tensors)} tensors used" in said
    assert f"{len(language.state_dict())} tensors ignored: R3M's language model" in said
    assert "2 tensors ignored: R3M's reward" in said and "ignored: a head for another task" in said
    assert len({name for file, name in report.used.values() if file == str(path)}) == len(tensors)
    assert "random and to be trained: head." in said and "sentence_encoder" not in said


def test_it_is_saved_and_acts_without_a_language_model(tmp_path):
    policy, report = from_r3m(save_r3m(tmp_path / "model.pt"), head=HEAD, image_size=40)
    assert any("the sentence encoder is random and stays frozen" in line for line in report.lines())
    again = rf_agent.load_policy(policy.save_pretrained(tmp_path / "policy"), "cpu")
    observation = make_observation(0)
    action = policy.act(observation)
    assert action.shape == (7,) and (again.act(observation) == action).all()


def test_counters_that_nothing_reads_may_be_missing(tmp_path):
    path = save_r3m(tmp_path / "model.pt")
    content = torch.load(path)
    content["r3m"] = {name: tensor for name, tensor in content["r3m"].items() if "num_batches" not in name}
    torch.save(content, path)
    policy, report = from_r3m(path, head=HEAD, image_size=40)
    assert not [name for name in report.missing if "normalization" in name]


def test_a_frozen_sentence_encoder_is_the_same_in_training(tmp_path):
    """DistilBERT has dropout, with which the same instruction would differ from step to step."""
    policy, _ = from_r3m(save_r3m(tmp_path / "model.pt"), save_distilbert(tmp_path / "lm"), head=HEAD, image_size=40)
    tokens, mask = policy.tokenize(TEXTS)
    with torch.no_grad():
        acting = policy.sentence_encoder(tokens, mask).embedding
        policy.set_trainable("head")
        policy.train()
        assert torch.equal(policy.sentence_encoder(tokens, mask).embedding, acting)
        policy.set_trainable("full")
        policy.train()
        assert not torch.equal(policy.sentence_encoder(tokens, mask).embedding, acting)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"module.convnet.conv1.weight": None}, r"lacks convnet\.conv1\.weight"),
        ({"module.convnet.conv1.weight": torch.ones(8)}, r"conv1\.weight of .* is \(8,\), but 4 dimensions"),
        ({"module.convnet.layer1.1.bn2.bias": None}, r"layers\.1\.layer\.1\.normalization\.bias: in none of the files"),
        ({"module.convnet.bn1.bias": torch.ones(9)}, r"bn1\.bias of .* is \(9,\), but \(8,\) is expected"),
        ({"module.convnet.attention.weight": torch.ones(1)}, r"no place for convnet\.attention\.weight"),
        ({f"module.convnet.layer1.0.conv{i}.weight": None for i in (1, 2, 3)}, r"lacks convnet\.layer1\.0\.conv2"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, changes, said):
    path = save_r3m(tmp_path / "model.pt", **changes)
    with pytest.raises(ConversionError, match=said) as error:
        from_r3m(path, save_distilbert(tmp_path / "lm"), head=HEAD)
    assert "\n" not in str(error.value)


def test_folders_that_are_no_sentence_encoder_are_refused(tmp_path):
    path = save_r3m(tmp_path / "model.pt")
    with pytest.raises(ConversionError, match="does not exist"):
        from_r3m(path, tmp_path / "nothing", head=HEAD)
    distilbert().save_pretrained(tmp_path / "mute")
    with pytest.raises(ConversionError, match="tokenizer"):
        from_r3m(path, tmp_path / "mute", head=HEAD)
    save_tokenizer(tmp_path / "mute")
    torch.save({"embeddings.word_embeddings.weight": torch.ones(3, 16)}, tmp_path / "mute" / "pytorch_model.bin")
    (tmp_path / "mute" / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"word_embeddings.* is \(3, 16\), but \(11, 16\) is expected"):
        from_r3m(path, tmp_path / "mute", head=HEAD)


def test_a_folder_that_names_no_special_tokens_has_those_of_its_kind(tmp_path):
    """As distilbert-base-uncased is published: its tokenizer_config.json says two things, neither of them a token."""
    folder = save_distilbert(tmp_path / "distilbert")
    for file in folder.glob("special_tokens_map.json"):
        file.unlink()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')
    _, tokenizer, _ = read_sentence_encoder(folder)
    assert (tokenizer.cls_token, tokenizer.pad_token, tokenizer.sep_token) == ("[CLS]", "[PAD]", "[SEP]")
