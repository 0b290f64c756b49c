"""Questions and answers in VQAv2's layout."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rf_agent.demos.files import DemoError
from rf_agent.demos.vision_language.annotations import read_entries
from rf_agent.demos.vision_language.images import check_any, numbered_files
from rf_agent.demos.vision_language.prompts import Pair, Prompts

QUESTIONS = "questions in VQAv2's layout (v2_OpenEnded_*_questions.json)"
ANNOTATIONS = "answers in VQAv2's layout (v2_*_annotations.json)"


class Question(NamedTuple):
    """A question about an image."""

    id: int
    text: str
    answers: tuple[str, ...]
    """What people answered, in VQAv2 ten of them."""
    kind: str
    """Kind of answer: `yes/no`, `number` or `other`; empty where the file does not say."""


class QuestionSet:
    """Images with questions and answers. Image files are not opened.

    Args:
        questions: `v2_OpenEnded_*_questions.json`: `questions` with `question_id`, `image_id` and `question`.
        annotations: `v2_*_annotations.json`: `annotations` with `question_id`, `image_id` and `answers`, each with
            `answer`; those of questions that the other file does not ask are ignored.
        images: folder of the image files, whose names end in the image's number.

    Attributes:
        questions: all questions. paths: the image of each.
        missing: questions left out because the folder does not hold their image.

    Raises:
        FileNotFoundError: a file or folder is missing.
        DemoError: it is no such file, a number stands for two questions or two images, a question has no answers, or
            the folder holds none of the images.
    """

    def __init__(self, questions: Path, annotations: Path, images: Path) -> None:
        fields = {"question_id": int, "image_id": int, "question": str}
        asked = read_entries(questions, "questions", fields, QUESTIONS, unique="question_id")
        fields = {"question_id": int, "answers": list}
        answered = read_entries(annotations, "annotations", fields, ANNOTATIONS, unique="question_id")
        known = {entry["question_id"]: entry for entry in answered}
        files = numbered_files(images)
        self.questions: list[Question] = []
        self.paths: list[Path] = []
        for entry in asked:
            number = entry["question_id"]
            if number not in known:
                raise DemoError(
                    f"question {number} of {questions} has no answer in {annotations}: give those of one set"
                )
            answers = _answers(known[number]["answers"], number, annotations)
            if paths := files.get(entry["image_id"]):
                if len(paths) > 1:
                    raise DemoError(
                        f"{images} holds several images of number {entry['image_id']}, which question {number} is "
                        f"about, {paths[0].name} and {paths[1].name}: give a folder with one of each number"
                    )
                kind = str(known[number].get("answer_type", ""))
                self.questions.append(Question(number, entry["question"].strip(), answers, kind))
                self.paths.append(paths[0])
        check_any(len(self.paths), questions, images, f"*{asked[0]['image_id']:012d}.jpg")
        self.missing = len(asked) - len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def prompt(self, index: int, prompts: Prompts) -> str:
        """What a model is told before it answers a question."""
        return prompts.about_question(self.questions[index].text).given

    def pair(self, index: int, rng: np.random.Generator, prompts: Prompts) -> Pair:
        """A question with a random one of its answers."""
        question = self.questions[index]
        return prompts.about_question(question.text, question.answers[int(rng.integers(len(question.answers)))])

    def training_pair(self, index: int, rng: np.random.Generator, prompts: Prompts) -> Pair:
        """The same for training: the answer alone is to be said."""
        return self.pair(index, rng, prompts)


def _answers(values: list[object], number: int, source: Path) -> tuple[str, ...]:
    texts = [value["answer"] for value in values if isinstance(value, dict) and isinstance(value.get("answer"), str)]
    if len(texts) < len(values) or not any(text.strip() for text in texts):
        raise DemoError(f"{source}: question {number} has no answers with text: give {ANNOTATIONS}")
    return tuple(text.strip() for text in texts if text.strip())
