"""Greedy decoding."""

import numpy as np
import pytest
import torch
from policy_cases import make_policy

from rf_agent.acting.generate import generate, greedy_tokens
from rf_agent.preprocess import normalise
from rf_agent.tokenizer import END_OF_CHUNK, IMAGE, encode

PROMPTS = [f"{IMAGE}A photo of", f"{IMAGE}Question: where is the red block? Short answer:", IMAGE]


def pictures(n, images=1):
    return np.random.default_rng(3).integers(0, 256, (n, images, 32, 32, 3), dtype=np.uint8)


def one_by_one(policy, image, prompt, limit):
    """The definition: the most likely next token of the text so far, alone and without any padding."""
    (ids,) = encode(policy.tokenizer, [prompt])
    pixels = normalise(torch.from_numpy(image), policy.config.image)[None]
    media = policy.vlm.image_media(pixels)
    ends = {policy.tokenizer.eos_token_id, policy.tokenizer.convert_tokens_to_ids(END_OF_CHUNK)}
    said = []
    while len(said) < limit:
        logits = policy.vlm.logits(media, torch.tensor([ids + said]), images=len(image))
        token = int(logits[0, -1].argmax())
        if token in ends:
            break
        said.append(token)
    return said


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["post", "pre", "separate", "two_way"])
def test_equals_the_most_likely_tokens_one_by_one(fusion):
    policy = make_policy(0, f"fusion={fusion}")
    images = pictures(3)
    media = policy.vlm.image_media(normalise(torch.from_numpy(images), policy.config.image))
    together = greedy_tokens(policy, media, encode(policy.tokenizer, PROMPTS), 1, 9)
    assert together == [one_by_one(policy, *pair, 9) for pair in zip(images, PROMPTS, strict=True)]
    assert max(map(len, together)) == 9
    texts = generate(policy, images[:, 0], PROMPTS, 9)
    assert texts == [policy.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in together]


@torch.no_grad()
def test_ends_where_a_chunk_or_the_text_ends(monkeypatch):
    """Rows end at their own time, and the others go on."""
    policy = make_policy()
    chunk, text = policy.tokenizer.convert_tokens_to_ids(END_OF_CHUNK), policy.tokenizer.eos_token_id
    plan = {0: [70, 71, chunk], 1: [text], 2: [80, 81, 82, 83, 84]}
    sequences = [[2, 50 + row] for row in plan]

    def logits(media, tokens, images, at):
        out = torch.zeros(len(tokens), 320)
        for i, row in enumerate(tokens):
            out[i, plan[int(row[1]) - 50][int(at[i]) - 1]] = 1
        return out

    monkeypatch.setattr(policy.vlm, "logits", logits)
    assert greedy_tokens(policy, torch.zeros(3, 4, 32), sequences, 1, 4) == [[70, 71], [], [80, 81, 82, 83]]


@torch.no_grad()
def test_examples_come_before_the_image():
    policy = make_policy(1)
    prompt = f"{IMAGE}A photo of red{END_OF_CHUNK}{IMAGE}A photo of"
    images = pictures(2, images=2)
    media = policy.vlm.image_media(normalise(torch.from_numpy(images), policy.config.image))
    said = greedy_tokens(policy, media, encode(policy.tokenizer, [prompt] * 2), 2, 6)
    assert said == [one_by_one(policy, image, prompt, 6) for image in images]


@torch.no_grad()
def test_a_text_ends_where_the_language_model_reads_no_further(monkeypatch):
    policy = make_policy()
    asked = []

    def logits(media, tokens, images, at):
        asked.append(tokens.shape[1])
        return torch.nn.functional.one_hot(torch.full((len(tokens),), 70), len(policy.tokenizer)).float()

    monkeypatch.setattr(policy.vlm, "logits", logits)
    most = policy.language_model.config.max_position_embeddings
    sequences = [[5] * (most - 2), [5] * (most - 5)]
    said = greedy_tokens(policy, torch.zeros(2, 4, 32), sequences, 1, 20)
    assert [len(tokens) for tokens in said] == [3, 6] and max(asked) == most


def test_modes_are_left_as_they_were():
    policy = make_policy().train()
    generate(policy, pictures(1)[:, 0], PROMPTS[:1], 1)
    assert policy.training and all(part.training for part in policy.modules())


@pytest.mark.parametrize(
    ("images", "prompts", "said"),
    [
        (pictures(2), PROMPTS[:1], "1 prompts with"),
        (pictures(1), ["no image"], r"prompts with \[0\] images"),
        (pictures(1), [IMAGE * 2], "as many images as there are <image>"),
        (pictures(1), [IMAGE + "word " * 1100], "more than the 127 tokens that fit before an answer"),
    ],
)
def test_what_does_not_fit_is_refused(images, prompts, said):
    with pytest.raises(ValueError, match=said):
        generate(make_policy(), images, prompts)
