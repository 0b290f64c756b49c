"""What a policy says about images, and how it is scored."""

import numpy as np
import pytest
from policy_cases import make_policy
from vl_files import color_of, write_vl_files

from rf_agent.demos.vision_language import PROMPTS, CaptionSet, QuestionSet
from rf_agent.errors import UserError
from rf_agent.evaluation import vision_language
from rf_agent.evaluation.vision_language import Said, chosen, say, score_answers, score_captions

REFERENCE = PROMPTS["reference"]


@pytest.fixture
def files(tmp_path):
    return write_vl_files(tmp_path)


@pytest.fixture
def captions(files):
    return CaptionSet(files["captions"], files["images"])


@pytest.fixture
def questions(files):
    return QuestionSet(files["questions"], files["annotations"], files["images"])


@pytest.fixture
def asked(monkeypatch):
    """What the model is asked: (shape of the images, prompt)."""
    calls = []

    def generate(policy, images, prompts, max_new_tokens):
        calls.extend((image.shape, prompt) for image, prompt in zip(images, prompts, strict=True))
        return ["green" for _ in prompts]

    monkeypatch.setattr(vision_language, "generate", generate)
    return calls


def test_chosen(captions):
    assert chosen(captions, None, 0) == list(range(8))
    some = chosen(captions, 3, 0)
    assert some == chosen(captions, 3, 0) and len(set(some)) == 3 and some != chosen(captions, 3, 1)


def test_every_image_is_described_whatever_the_batches(captions):
    policy = make_policy()
    said = say(policy, captions, range(8), REFERENCE, batch_size=3, max_new_tokens=3)
    alone = say(policy, captions, range(8), REFERENCE, batch_size=1, max_new_tokens=3)
    assert list(said.texts) == list(range(8)) and said == alone and said.skipped == 0


def test_questions_are_put_to_the_model(questions, asked):
    say(make_policy(), questions, [2, 3], REFERENCE)
    assert asked == [((1, 32, 32, 3), "<image>Question:What color is it? Short answer:")] * 2


def test_examples_come_from_what_is_not_evaluated(questions, asked):
    say(make_policy(), questions, [0, 1], PROMPTS["pretrain"], shots=4, seed=1)
    for shape, prompt in asked:
        assert shape == (5, 32, 32, 3)
        *examples, last = prompt.split("<|endofchunk|>")
        assert last == "<image>Question: What color is it? Short answer:"
        assert len(examples) == 4 and all(text.startswith(last + " ") for text in examples)
    assert asked[0] != asked[1]
    with pytest.raises(UserError, match="7 examples were asked for, but only 6 of 8 are left"):
        say(make_policy(), questions, [0, 1], REFERENCE, shots=7)


def test_examples_are_of_other_images(questions, asked, monkeypatch):
    """An answer about the image itself may give away that to the next question."""
    for other in (1, 2, 3, 4):
        questions.paths[other] = questions.paths[0]
    read, reader = [], vision_language.ImageReader
    monkeypatch.setattr(reader, "read", lambda self, index, one=reader.read: read.append(index) or one(self, index))
    say(make_policy(), questions, [0], REFERENCE, shots=3)
    assert sorted(read) == [0, 5, 6, 7]
    with pytest.raises(UserError, match="too few other images can be decoded for 4 examples"):
        say(make_policy(), questions, [0], REFERENCE, shots=4)


def test_broken_images_are_skipped(captions, asked):
    captions.paths[2].write_bytes(b"no image")
    said = say(make_policy(), captions, [1, 2, 3], REFERENCE)
    assert list(said.texts) == [1, 3] and said.skipped == 1
    with pytest.raises(UserError, match="none of the 1 images that were chosen"):
        say(make_policy(), captions, [2], REFERENCE)
    with pytest.raises(UserError, match="too few other images can be decoded for 1 examples"):
        say(make_policy(), captions, [0, 1, 3, 4, 5, 6, 7], REFERENCE, shots=1)


def test_answers_are_scored_by_kind(questions):
    said = Said(texts={n: "Green." for n in range(4)}, skipped=0)
    scores, predictions = score_answers(questions, said)
    assert scores == {"accuracy": 0.25, "accuracy, other": 0.25}  # nine of ten say so of the first alone
    assert predictions[0] == {"question_id": 100, "answer": "Green."}


def test_captions_are_scored_by_all_references(captions):
    pytest.importorskip("pycocoevalcap")
    said = Said(texts={n: f"the wall is {color_of(n + 1)}" for n in range(8)}, skipped=0)
    scores, predictions = score_captions(captions, said)
    assert scores["BLEU-4"] == pytest.approx(1) and scores["ROUGE-L"] == 1 and np.isfinite(scores["CIDEr"])
    assert predictions[0] == {"image_id": 1, "caption": "the wall is green"}
