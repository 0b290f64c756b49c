"""Settings that pre-training and imitation share."""

from __future__ import annotations

import math
import shlex
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

PRECISIONS = ("auto", "no", "bf16", "fp16")
ABOVE_ZERO = (
    *("steps", "minutes", "learning_rate", "clip", "batch_size", "gradient_accumulation", "sequence_length"),
    *("threads", "evaluation_episodes", "evaluation_images", "positions_per_image"),
)
NOT_NEGATIVE = (
    *("weight_decay", "min_lr_ratio", "evaluations", "checkpoint_minutes", "spike", "keep", "balance", "seed"),
    *("vlm_lr_scale", "vl_caption_weight", "vl_question_weight", "workers", "gradient_checkpointing"),
    "language_weight",
)
SHARES = ("validation_fraction", "ema_decay", "warmup")
"""Numbers that are checked, by name; some belong to one kind of training alone."""


@dataclass(kw_only=True)
class LoopConfig:
    """How to optimise."""

    by_content: ClassVar[tuple[str, ...]] = ()
    """Settings that name files or a policy: when a run goes on these may lie elsewhere, but must hold the same."""

    output: Path
    """Directory of the run: checkpoint, curves, result."""
    steps: int | None = None
    """Optimisation steps. If neither steps nor minutes are given, 20,000, or with `resume` what the run had before."""
    minutes: float | None = None
    """Time limit; the schedule follows it (or `steps`, if those are over first). Such a run is not repeatable
    exactly."""
    batch_size: int = 32
    """Examples of a step."""
    learning_rate: float = 1e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    """AdamW's decay, on matrices only."""
    warmup: float = 0.03
    """Share of the run in which the learning rate rises."""
    min_lr_ratio: float = 0.01
    """Learning rate at the end of the cosine, as a factor of the highest."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average (EMA) of the weights, which are evaluated and saved; 0 for none."""
    validation_fraction: float = 0.05
    """Share of the data kept for validation."""
    evaluations: int = 10
    """Validations spread over the run."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints."""
    gradient_accumulation: int = 1
    """Parts in which a process computes its share of a step, to save memory. The result is the same; but HULC's
    contrastive loss compares the sequences of a part with each other."""
    mixed_precision: str = "auto"
    """Number format of the computation: no (float32), bf16, fp16; auto is bf16 or fp16 on GPUs, as `accelerate launch`
    says if it does, and no on CPUs, where bf16 is faster if they have instructions for it (AVX512_BF16, AMX)."""
    fsdp: bool = False
    """Divide the weights among the processes (FSDP), for models that do not fit one GPU's memory."""
    spike: float = 50.0
    """A loss so many times the median of the last 100 steps stops the run, with the batch saved; 0 never."""
    wandb: str | None = None
    """Project at Weights & Biases that gets the curves, too (pip install wandb)."""
    resume: bool = False
    """Go on from the output directory's checkpoint."""
    seed: int = 0
    """Seed of the weights and of the order of the data."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """CPU threads; all cores if not given."""

    def __post_init__(self) -> None:
        for name in ABOVE_ZERO:
            value = getattr(self, name, None)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}: give a number above zero")
        for name in NOT_NEGATIVE:
            value = getattr(self, name, 0)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: give zero or more")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a share from 0 to below 1")
        check_precision(self.mixed_precision)


def check_precision(name: str) -> None:
    """Refuse a `mixed_precision` that there is not."""
    if name not in PRECISIONS:
        raise ValueError(f"mixed_precision is {name!r}: give {', '.join(PRECISIONS)}")


def command(name: str, config: LoopConfig) -> str:
    """The command line of a run: all settings that are not the defaults, files by their names alone."""
    words = ["rf-agent", name]
    for field in fields(config):
        value = getattr(config, field.name)
        if value == field.default and field.default is not MISSING or field.name == "resume":
            continue
        if field.name == "init" and Path(value).is_absolute():
            value = Path(value)
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{flag}", *map(_word, values)]
    return " ".join(words)


def _word(value: Any) -> str:
    # where somebody's files lie is nobody else's business
    return shlex.quote(value.name if isinstance(value, Path) else str(value))
