"""Pre-training of a small VLM on pictures of the table, so that imitation starts from one that has seen it.

The paper starts from OpenFlamingo; a policy small enough for a CPU has no such ancestor.
`rf_agent.training.lesson` says what is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rf_agent.demos.grounding import PictureSet
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.training.callbacks import Reporter, Silent
from rf_agent.training.lesson import Lesson
from rf_agent.training.loop import Loop
from rf_agent.training.settings import LoopConfig, choose_device, claim_output, command


@dataclass(kw_only=True)
class PretrainConfig(LoopConfig):
    """Pre-train a small vision-language model on pictures of the table."""

    pictures: tuple[Path, ...]
    """Picture files (HDF5)."""
    preset: str = "roboflamingo-tiny"
    """Name of the policy's configuration."""
    init: str | None = None
    """Checkpoint directory to go on from instead of random weights."""
    batch_size: int = 48
    """Pictures of a step."""
    places_per_picture: int = 4
    """Places asked for in each picture of a step (most of the cost; one caption or question comes on top)."""
    language_weight: float = 0.1
    """Weight of captions and answers relative to places."""
    scene_weight: float = 0.5
    """Weight of reading the whole scene from vision tokens and from media tokens, relative to places."""
    seeing: float = 0.3
    """Share of the run in which only tower and resampler learn, by reading the scene from their tokens."""
    jitter: float = 0.1
    """Strength of the random changes of light and colour."""
    evaluation_pictures: int = 256
    """Held-out pictures that are evaluated, at most."""


@dataclass
class PretrainReport:
    """How well the pre-trained model finds things in held-out pictures."""

    output: Path
    """Checkpoint directory of the model (a policy whose head is untrained)."""
    grounding: dict[str, dict[str, float]]
    """Per thing: `median` and `mean` error in cm, asked for by its name; `instruction`: median, asked by
    instructions."""
    scalars: dict[str, float]
    """The last validation."""

    def table(self) -> str:
        """The grounding errors as text."""
        lines = [f"{'grounding error (cm)':<24}{'median':>8}{'mean':>8}{'by instruction':>16}"]
        for name, error in sorted(self.grounding.items()):
            by = f"{error['instruction']:16.2f}" if "instruction" in error else f"{'-':>16}"
            lines.append(f"{name:<24}{error['median']:8.2f}{error['mean']:8.2f}{by}")
        return "\n".join(lines)


def pretrain(config: PretrainConfig, reporter: Reporter | None = None) -> PretrainReport:
    """Pre-train a VLM; writes `config.output / "vlm"` (a policy checkpoint) and the curves.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad data or settings, before anything is written.
    """
    reporter = reporter or Silent()
    claim_output(config)
    device = choose_device(config)
    policy = None if config.init is None else RoboFlamingoPolicy.from_pretrained(config.init, "cpu")
    image = (policy.config if policy else preset(config.preset)).image
    pictures = PictureSet(config.pictures, image.size, image.resample)
    if policy is None:
        policy = RoboFlamingoPolicy.from_preset(config.preset, pictures.corpus(), seed=config.seed)
    policy.to(device).requires_grad_(True)
    lesson = Lesson(config, policy, pictures)
    loop = Loop(config, lesson.model, lesson.loss, lesson.evaluate, reporter)
    scalars = loop.run()
    report = PretrainReport(config.output / "vlm", lesson.grounding, scalars)
    policy.eval().save_pretrained(report.output, card=_card(config, report))
    reporter.say(report.table())
    return report


def _card(config: PretrainConfig, report: PretrainReport) -> str:
    return (
        f"# {config.preset}, pre-trained VLM\n\n"
        "Its policy head is untrained: `rf-agent train --init` starts from it.\n\n"
        f"    {command('pretrain', config)}\n\n```\n{report.table()}\n```\n"
    )
