"""Voltron's files: the features of the policy are those of the published network."""

import numpy as np
import pytest
import torch
from policy_cases import make_observation
from representation_files import distilbert, save_r3m, save_tokenizer, save_voltron, vcond
from torch.nn import functional as F

import rf_agent
from rf_agent.config import HeadConfig
from rf_agent.weights import ConversionError, from_voltron

HEAD = HeadConfig(hidden=8, layers=1, window=3, mlp=(8,))
TEXTS = ["push the red block", "open the drawer"]
HEADS, LENGTH = 2, 20


@pytest.fixture
def words(tmp_path):
    return save_tokenizer(tmp_path / "tokenizer")


def convert(path, words, **changes):
    return from_voltron(save_voltron(path, **changes), words, head=HEAD, head_width=16, language_head_width=8)


def rms(x, scale):
    return x / (x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5).clamp(min=1e-8) * scale


def gated(x, widen, narrow):
    value, gate = F.linear(x, *widen).tensor_split(2, dim=-1)
    return F.linear(value * gate * gate.sigmoid(), *narrow)


def attended(q, k, v, hidden_rows, heads):
    """Attention of (m, w) to (n, w) one head at a time; rows that are hidden have equal scores."""
    width, out = q.shape[-1] // heads, []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T * width**-0.5
        scores[hidden_rows] = 0.0
        out.append(scores.softmax(dim=-1) @ v[:, part])
    return torch.cat(out, dim=-1)


def published(tensors, image, ids):
    """V-Cond's tokens (16 + 20, w) of one image (3, 32, 32) and one text, padded to 20 tokens as it is there."""

    def pair(name):
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    real = torch.tensor([1] * len(ids) + [0] * (LENGTH - len(ids)))
    padded = torch.tensor(ids + [0] * (LENGTH - len(ids)))
    text = distilbert()(input_ids=padded[None], attention_mask=real[None]).last_hidden_state[0]
    patches = F.conv2d(image[None], *pair("patch2embed.proj"), stride=8)[0].flatten(1).T + tensors["encoder_pe"][0]
    x = torch.cat((patches + tensors["img_token"][0], F.linear(text, *pair("lang2encoder")) + tensors["lang_token"][0]))
    hidden_rows = torch.cat((torch.zeros(16), 1 - real)).bool()
    for block in ("encoder_blocks.0", "encoder_blocks.1"):
        q, k, v = F.linear(rms(x, tensors[f"{block}.pre_norm_attn.g"]), *pair(f"{block}.attn.qkv")).chunk(3, dim=-1)
        out = F.linear(attended(q, k, v, hidden_rows, HEADS), *pair(f"{block}.attn.proj"))
        x = x + tensors[f"{block}.layer_scale_attn.gamma"] * out
        out = gated(rms(x, tensors[f"{block}.pre_norm_mlp.g"]), pair(f"{block}.mlp.0.project"), pair(f"{block}.mlp.2"))
        x = x + tensors[f"{block}.layer_scale_mlp.gamma"] * out
    return rms(x, tensors["encoder_norm.g"])


def pooled(pool, x):
    """Attention pooling of (m, w) to (w,) with the random weights that the policy has."""

    def pair(name):
        return pool[f"{name}.weight"], pool[f"{name}.bias"]

    query, read = pool["query"][None], F.linear(x, *pair("project"))
    k, v = F.linear(read, pool["kv.weight"]).chunk(2, dim=-1)
    seen = attended(F.linear(query, pool["q.weight"]), k, v, torch.zeros(1, dtype=torch.bool), 2 * HEADS)
    y = rms(query + F.linear(seen, *pair("out")), pool["norm_attention.scale"])
    return rms(y + gated(y, pair("mlp.widen"), pair("mlp.narrow")), pool["norm_mlp.scale"])[0]


def test_features_are_those_of_the_published_network(tmp_path, words):
    policy, report = convert(tmp_path / "v-cond.pt", words)
    assert policy.config.image.size == 32 and policy.config.encoder.layers == 2
    tensors, pixels = vcond(), torch.randn(2, 2, 3, 32, 32)  # two frames of two views
    tokens, mask = policy.tokenize(TEXTS)
    assert tokens.shape == mask.shape == (2, LENGTH)
    ids = [[2, 5, 6, 7, 8, 3], [2, 9, 6, 10, 3]]  # the bare words, as DistilBERT reads them
    pool = policy.encoder.pool.state_dict()
    with torch.no_grad():
        features = policy.features(policy.encode_vision(pixels), tokens, mask)
        wanted = [
            torch.cat([pooled(pool, published(tensors, view, text)) for view in frame])
            for frame, text in zip(pixels, ids, strict=True)
        ]
    torch.testing.assert_close(features, torch.stack(wanted), atol=1e-4, rtol=1e-4)
    decoder = {name for name in tensors if name.startswith(("decoder_", "encoder2decoder.", "mask_token"))}
    assert {name for _, name in report.used.values()} == set(tensors) - decoder
    assert {name for _, name in report.ignored} == decoder
    assert {name.rsplit(".", 2)[0].split(".")[0] for name in report.missing} == {"encoder", "head"}
    assert all(name.startswith(("encoder.pool.", "head.")) for name in report.missing)


def test_it_is_saved_and_acts(tmp_path, words):
    policy, _ = convert(tmp_path / "v-cond.pt", words)
    again = rf_agent.load_policy(policy.save_pretrained(tmp_path / "policy"), "cpu")
    actions = []
    for text in TEXTS:
        policy.reset(), again.reset()
        observation = make_observation(0, instruction=text)
        actions.append(policy.act(observation))
        np.testing.assert_array_equal(again.act(observation), actions[-1])
    assert not np.array_equal(*actions)


@pytest.mark.parametrize(("which", "tuned"), [("head", False), ("default", True)])
def test_frozen_and_fine_tuned(tmp_path, words, which, tuned):
    """Table 7's rows: the pooling learns in both; the transformer where the representation is fine-tuned."""
    policy, _ = convert(tmp_path / "v-cond.pt", words)
    policy.set_trainable(which)
    pixels, (tokens, mask) = torch.randn(1, 2, 2, 3, 32, 32), policy.tokenize(TEXTS[:1])
    batch = {"pixels": pixels, "tokens": tokens, "token_mask": mask}
    batch |= {"actions": torch.rand(1, 2, 1, 7), "mask": torch.ones(1, 2, dtype=torch.bool)}
    policy.train()(batch)[0].backward()
    learns = {name for name, parameter in policy.named_parameters() if parameter.grad is not None}
    parts = {".".join(name.split(".")[:2]) for name in learns}
    head = {"encoder.pool", "head.rnn", "head.actions", "head.gripper"}
    assert parts == head | ({"encoder.transformer"} if tuned else set())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder_pe": None}, "lacks encoder_pe"),
        ({"encoder_pe": torch.ones(16, 32)}, r"encoder_pe of .* is \(16, 32\), but 3 dimensions"),
        ({"encoder_pe": torch.ones(1, 15, 32)}, r"but those of a square image"),
        ({"encoder_blocks.1.mlp.2.bias": None}, r"blocks\.1\.mlp\.narrow\.bias: in none of the files"),
        ({"img_token": torch.ones(1, 1, 31)}, r"img_token of .* is \(31,\), but \(32,\) is expected"),
        ({"lm.embeddings.word_embeddings.weight": None}, "lacks lm.embeddings.word_embeddings.weight"),
        ({"lm.embeddings.word_embeddings.weight": torch.ones(4, 16)}, "tokenizer of .* has 11 words"),
        ({"cls_token": torch.ones(1, 1, 32)}, "has a class token"),
        ({"ctx_enc_pe": torch.ones(1, 2, 1, 32)}, "no place for ctx_enc_pe"),  # of V-Dual
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, words, changes, said):
    with pytest.raises(ConversionError, match=said) as error:
        convert(tmp_path / "v-cond.pt", words, **changes)
    assert "\n" not in str(error.value)


def test_mistaken_arguments_are_refused(tmp_path, words):
    path = save_voltron(tmp_path / "v-cond.pt")
    with pytest.raises(ConversionError, match="give the transformer's with --head-width"):
        from_voltron(path, words, head=HEAD)
    with pytest.raises(ConversionError, match="give the language model's with --language-head-width"):
        from_voltron(path, words, head=HEAD, head_width=16)
    with pytest.raises(ConversionError, match="is an R3M checkpoint .* but a Voltron checkpoint is expected"):
        from_voltron(save_r3m(tmp_path / "model.pt"), words, head=HEAD)
    with pytest.raises(ConversionError, match="has no tokenizer"):
        from_voltron(path, tmp_path / "nothing", head=HEAD, head_width=16, language_head_width=8)
