"""`rf-agent evaluate-vl`: how well a policy still describes images and answers questions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from rf_agent.checkpoint import read_config
from rf_agent.demos.vision_language import PROMPTS, CaptionSet, QuestionSet
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import has_network
from rf_agent.evaluation.caption_metrics import check_installed
from rf_agent.evaluation.vision_language import Said, chosen, say, score_answers, score_captions
from rf_agent.files import write_json
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import find_checkpoint
from rf_agent.progress import RichReporter
from rf_agent.versions import versions


@dataclass(kw_only=True)
class Args:
    """Score a policy's captions (COCO's layout) or answers to questions (VQAv2's layout)."""

    images: Path
    """Folder of the images."""
    captions: Path | None = None
    """Captions of people: captions_*.json."""
    questions: Path | None = None
    """Questions: v2_OpenEnded_mscoco_*_questions.json."""
    annotations: Path | None = None
    """Their answers: v2_mscoco_*_annotations.json."""
    policy: str = "roboflamingo-tiny"
    """A checkpoint directory, or the name of a bundled policy."""
    count: int | None = None
    """Evaluate that many images, or questions, drawn at random; all if not given."""
    shots: int = 0
    """Solved examples before each, drawn from those that --count leaves out (the paper: 0 and 4)."""
    prompts: Literal["reference", "openflamingo", "pretrain"] = "reference"
    """How the model is asked: as RoboFlamingo's co-training, OpenFlamingo's evaluation or `rf-agent pretrain` do."""
    max_new_tokens: int = 32
    """Longest caption or answer."""
    batch_size: int = 32
    """Images, or questions, at once."""
    seed: int = 0
    """Seed of what is drawn."""
    device: str = "auto"
    """Where the policy computes: auto, cpu, cuda, cuda:1, ..."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the policy's parameters."""
    output: Path | None = None
    """Directory for results.json and predictions.json (in COCO's or VQAv2's format of results)."""


def run(args: Args) -> None:
    """Generate, score, print and write."""
    samples = _samples(args)
    if args.output is not None and args.output.exists() and not args.output.is_dir():
        raise UserError(f"--output {args.output} is a file: give a directory")
    policy = RoboFlamingoPolicy.from_pretrained(args.policy, args.device, args.dtype)
    indices = chosen(samples, args.count, args.seed)
    started = time.monotonic()
    with RichReporter("captions" if isinstance(samples, CaptionSet) else "answers") as reporter:
        said = say(
            policy,
            samples,
            indices,
            PROMPTS[args.prompts],
            shots=args.shots,
            seed=args.seed,
            batch_size=args.batch_size,
            max_new_tokens=args.max_new_tokens,
            reporter=reporter,
        )
    seconds = time.monotonic() - started
    if isinstance(samples, CaptionSet):
        scores, predictions = score_captions(samples, said)
    else:
        scores, predictions = score_answers(samples, said)
    console = Console(soft_wrap=True, highlight=False)
    console.print(_table(scores, f"{len(said.texts)} {'captions' if args.captions else 'answers'}"))
    if left_out := samples.missing + said.skipped:
        console.print(f"{left_out} images or questions left out: their files are missing or cannot be decoded")
    if args.output:
        write_json(args.output / "results.json", _results(args, samples, said, scores, seconds))
        write_json(args.output / "predictions.json", predictions)
        console.print(f"{seconds:.0f} s: {args.output / 'results.json'}", markup=False)


def _samples(args: Args) -> CaptionSet | QuestionSet:
    for name in ("count", "max_new_tokens", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}: give 1 or more")
    if args.shots < 0:
        raise UserError(f"--shots is {args.shots}: give 0 or more")
    if not has_network(args.policy):
        raise UserError(f"--policy {args.policy} has no language model to evaluate: give a checkpoint")
    if (kind := read_config(find_checkpoint(args.policy)).type) != RoboFlamingoPolicy.config_class.type:
        raise UserError(f"--policy {args.policy} is of type {kind!r}, which writes no text: give one of RoboFlamingo")
    if (args.captions is None) == (args.questions is None):
        raise UserError("captions or questions are evaluated: give either --captions, or --questions and --annotations")
    if (args.questions is None) != (args.annotations is None):
        raise UserError("questions and their answers belong together: give both --questions and --annotations")
    if args.captions is not None:
        check_installed()  # before the work
        return CaptionSet(args.captions, args.images)
    assert args.questions is not None and args.annotations is not None
    return QuestionSet(args.questions, args.annotations, args.images)


def _results(
    args: Args, samples: CaptionSet | QuestionSet, said: Said, scores: dict[str, float], seconds: float
) -> dict[str, Any]:
    files = {name: getattr(args, name) for name in ("captions", "questions", "annotations")}
    settings = ("policy", "shots", "prompts", "max_new_tokens", "batch_size", "seed", "device", "dtype")
    return {
        "kind": "captions" if isinstance(samples, CaptionSet) else "questions",
        "files": {name: file.name for name, file in files.items() if file is not None},
        **{name: getattr(args, name) for name in settings},
        "scores": scores,
        "counts": {
            "evaluated": len(said.texts),
            "there": len(samples),
            "missing": samples.missing,
            "cannot_be_decoded": said.skipped,
        },
        "versions": versions(),
        "seconds": round(seconds, 1),
    }


def _table(scores: dict[str, float], title: str) -> Table:
    table = Table("metric", "score", title=title)
    table.columns[1].justify = "right"
    for name, score in scores.items():
        table.add_row(name, f"{score:.4f}")
    return table
