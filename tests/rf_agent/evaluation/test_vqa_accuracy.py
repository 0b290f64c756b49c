import pytest

from rf_agent.evaluation.vqa_accuracy import answer_accuracy, normalise_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Two dogs, I dont know.", "2 dogs i don't know"),
        ("1,000.5", "1000.5"),
        ("none", "0"),
        ("left-hand side!", "left hand side"),
        ("an apple/a pear", "apple pear"),
        ("On the left of the shelf", "on left of shelf"),
        ("10:30 pm.", "10:30 pm"),
        ("U.S.A.", "usa"),
        ("50%", "50%"),
        ("$5, or 3.50", "$5 or 3.50"),
        ("10-20", "10 20"),
        ("it’s", "it's"),
        ("isnt", "isn't"),
        ("   ", ""),
    ],
)
def test_normalised(text, expected):
    assert normalise_answer(text) == expected


@pytest.mark.parametrize(
    ("equal", "expected"),
    # by hand: with n of ten equal, n people left out see (n - 1) / 3 and the others n / 3, both at most 1
    [(0, 0.0), (1, 9 * (1 / 3) / 10), (2, (2 * (1 / 3) + 8 * (2 / 3)) / 10), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_three_people_make_an_answer_right(equal, expected):
    answers = ["The red one"] * equal + ["blue"] * (10 - equal)
    assert answer_accuracy("red one.", answers) == pytest.approx(expected)


def test_few_people():
    assert answer_accuracy("yes", ["Yes"]) == 1 and answer_accuracy("yes", ["no"]) == 0
    assert answer_accuracy("yes", ["yes", "yes"]) == 1 and answer_accuracy("yes", ["yes", "no"]) == 0.5
    assert answer_accuracy("yes", ["yes", "no", "no"]) == pytest.approx(1 / 3)
