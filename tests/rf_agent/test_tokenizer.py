import pytest
from policy_cases import CORPUS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rf_agent.tokenizer import (
    END_OF_CHUNK,
    IMAGE,
    PAD,
    add_flamingo_tokens,
    build_tokenizer,
    encode,
    encode_pair,
    image_token,
    load_tokenizer,
    pad,
    prompt,
)


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


def official(tmp_path, bos=False):
    """A tokenizer as a language model brings it, in a folder: no special tokens of ours, and its case kept."""
    words = {"<|endoftext|>": 0, "<s>": 1, "push": 2, "Push": 3, "it": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", unk_token="<|endoftext|>")
    fast.save_pretrained(tmp_path)
    return tmp_path


def test_special_tokens_are_added_in_the_order_of_openflamingo(tmp_path):
    tokenizer = load_tokenizer(official(tmp_path))
    add_flamingo_tokens(tokenizer)
    ids = tokenizer.convert_tokens_to_ids([END_OF_CHUNK, IMAGE, PAD])
    assert ids == [5, 6, 7] and len(tokenizer) == 8 and tokenizer.pad_token_id == 7
    assert encode(tokenizer, [prompt("Push it"), prompt("push it")]) == [[6, 3, 4, 5, 0], [6, 2, 4, 5, 0]]
    add_flamingo_tokens(tokenizer)
    assert len(tokenizer) == 8


def test_beginning_of_text_stands_before_the_image(tmp_path):
    tokenizer = load_tokenizer(official(tmp_path, bos=True))
    add_flamingo_tokens(tokenizer)
    assert encode(tokenizer, [prompt("push it")]) == [[1, 6, 2, 4, 5, 0]]
    assert encode(tokenizer, [prompt("push it it it")], max_length=4) == [[1, 6, 2, 4]]


def test_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no tokenizer that can be read"):
        load_tokenizer(tmp_path)


def test_a_folder_without_tokenizer_files_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    with pytest.raises(ValueError, match="tokenizer"):
        load_tokenizer(tmp_path)


def test_a_text_with_a_given_beginning_is_that_text():
    tokenizer = build_tokenizer(["question: what is it? short answer: a red block"] * 3, 320)
    for given, wanted in (("Question:what is it? Short answer:", "red"), ("A photo of", " a block"), ("", "a block")):
        ids, count = encode_pair(tokenizer, given, wanted)
        assert ids == tokenizer(prompt(given + wanted))["input_ids"]
        assert ids[:count] == tokenizer("<image>" + given)["input_ids"]
        assert tokenizer.decode(ids[count:]).strip() == f"{wanted}<|endofchunk|><|endoftext|>".strip()
    whole, _ = encode_pair(tokenizer, "what is it?", "red")
    assert encode_pair(tokenizer, "what is it?", "red", max_length=4) == (whole[:4], 4)


def test_no_token_reaches_into_what_is_wanted():
    tokenizer = build_tokenizer(["answer:?"] * 9, 320)
    assert len(tokenizer("answer:?")["input_ids"]) == len(tokenizer("answer:")["input_ids"])  # ":?" is one token
    ids, count = encode_pair(tokenizer, "answer:", "?")
    assert ids[:count] == tokenizer("<image>answer:")["input_ids"]
    assert tokenizer.decode(ids[count:]).strip().startswith("?")
