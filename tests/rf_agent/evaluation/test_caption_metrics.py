"""The scores of small cases, computed by hand."""

import math
import sys

import pytest

from rf_agent.errors import UserError
from rf_agent.evaluation.caption_metrics import caption_scores, words


def test_words_are_those_of_cocos_tokenizer():
    assert words("A man's dog doesn't run, well-known!") == "a man 's dog does n't run well-known"
    assert words("The cat (on) 3.5 mats.") == "the cat on 3.5 mats"


class TestScores:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("pycocoevalcap")

    def test_identical_captions(self):
        said = ["a cat sits on the mat", "two men play football today", "red dogs run in green grass"]
        scores = caption_scores(said, [[text.upper() + "!"] for text in said])
        assert list(scores) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]
        assert scores.pop("CIDEr") == pytest.approx(10)
        assert list(scores.values()) == pytest.approx([1] * 5)

    def test_bleu(self):
        # 3 of 4 words and 1 of 3 pairs are right; the caption is a word shorter than the nearest reference
        scores = caption_scores(["the cat the mat"], [["the cat sat on mat"]])
        brevity = math.exp(1 - 5 / 4)
        assert scores["BLEU-1"] == pytest.approx(brevity * 3 / 4, rel=1e-6)
        assert scores["BLEU-2"] == pytest.approx(brevity * math.sqrt(3 / 4 * 1 / 3), rel=1e-6)
        # a word counts as often as the reference that has it most often
        assert caption_scores(["the the the"], [["the cat sat", "the dog the"]])["BLEU-1"] == pytest.approx(2 / 3)

    def test_rouge(self):
        # the longest common subsequence is "the cat mat": precision 3/4, recall 3/5, weighted with beta 1.2
        scores = caption_scores(["the cat the mat"], [["the cat sat on mat"]])
        precision, recall, beta = 3 / 4, 3 / 5, 1.2
        expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
        assert scores["ROUGE-L"] == pytest.approx(expected)

    def test_cider(self):
        # Of images "a b" and "a c", word "a" is said of both and weighs nothing. "a b" for both: the first is right in
        # words and in pairs, and has no longer parts: 10 * (1 + 1 + 0 + 0) / 4. The second has nothing that weighs.
        scores = caption_scores(["a b", "a b"], [["a b"], ["a c"]])
        assert scores["CIDEr"] == pytest.approx((5 + 0) / 2, abs=1e-6)

    def test_silence_scores_nothing(self):
        assert set(caption_scores(["", ""], [["a dog"], ["a cat"]]).values()) == {0.0}

    def test_one_caption_for_each_image(self):
        with pytest.raises(UserError, match="1 captions were generated for 2 images"):
            caption_scores(["a"], [["a"], ["b"]])


def test_a_missing_package_is_named(monkeypatch):
    for name in ("pycocoevalcap", "pycocoevalcap.bleu", "pycocoevalcap.bleu.bleu"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'roboflamingo-agent\[vl\]'"):
        caption_scores(["a"], [["a"]])
