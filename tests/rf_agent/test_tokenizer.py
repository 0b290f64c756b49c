import pytest
from policy_cases import CORPUS

from rf_agent.tokenizer import build_tokenizer, encode, image_token, pad, prompt


def test_known_words_are_one_token_and_unknown_text_survives():
    tokenizer = build_tokenizer(CORPUS * 3, 400)
    (ids,) = encode(tokenizer, [prompt(CORPUS[0])])
    assert len(ids) == 1 + len(CORPUS[0].split()) + 2
    assert ids[0] == image_token(tokenizer) and ids[-1] == tokenizer.eos_token_id
    (unknown,) = encode(tokenizer, ["Öffne die Schublade ☃"])
    assert tokenizer.decode(unknown).strip() == "öffne die schublade ☃"  # all bytes, in lower case


def test_prompt_is_openflamingos():
    assert prompt(" push it ") == "<image>push it<|endofchunk|><|endoftext|>"


def test_pad_is_on_the_right():
    tokens, mask = pad([[5], [6, 7, 8]], padding=3)
    assert tokens.tolist() == [[5, 3, 3], [6, 7, 8]]
    assert mask.tolist() == [[True, False, False], [True, True, True]]


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size is 100"):
        build_tokenizer(CORPUS, 100)


def test_upper_and_lower_case_read_the_same():
    tokenizer = build_tokenizer(["push the red block"] * 3, 300)
    texts = [prompt(text) for text in ("push the red block", "Push the RED block")]
    lower, upper = encode(tokenizer, texts)
    assert lower == upper and image_token(tokenizer) in lower
