"""`rf-agent convert`: published weights, or a mean of policies, to a checkpoint directory; and data sets (see
`convert_data`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from rf_agent.calvin_robot import CALVIN_VIEWS
from rf_agent.checkpoint import check_target
from rf_agent.commands import convert_data
from rf_agent.config import HeadConfig

LOADING = "Load it with `rf_agent.load_policy(<this directory>)`.\n"
"""Last line of the cards."""


@dataclass(kw_only=True)
class _Pretrained:
    """What both kinds of checkpoint need. The fields are arguments of the functions in `rf_agent.weights`."""

    language_model: Path
    """Folder of the language model under it: config.json, weights and tokenizer."""
    vision: Path
    """CLIP vision tower: a file in the layout of OpenAI, open_clip or Hugging Face, or a folder of the latter."""
    output: Path
    """Directory of the policy that is made."""
    language_weights: Path | None = None
    """Weights of an MPT-1B (MosaicGPT) where they are in another file than its folder's."""
    vision_head_width: int | None = None
    """Width of the vision tower's attention heads, which no tensor shows (a folder's config.json does); by default 64,
    and a sixteenth of the width in towers wider than ViT-L."""
    quick_gelu: bool | None = None
    """Whether the vision tower has OpenAI's activation; by default what its config.json says, else yes. Must be given
    for towers wider than ViT-L without a config.json."""
    views: tuple[str, ...] = CALVIN_VIEWS
    """Camera images of the observation, in the order in which the policy sees them."""
    lm_feature: Literal["final_norm", "last_block_input"] | None = None
    """Hidden states that the head reads; by default what the reference implementation reads from this model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights that are written."""


@dataclass(kw_only=True)
class OpenFlamingo(_Pretrained):
    """A published OpenFlamingo, with a policy head that is yet to be trained."""

    checkpoint: Path | None = None
    """Its checkpoint.pt. Without, resampler and cross-attention are random, too."""
    cross_attention_every: int = 1
    """Without a checkpoint: a cross-attention layer stands before every n-th layer of the language model."""
    fusion: str = "post"
    """How the views come together: post, pre, separate or two_way."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The policy head."""
    seed: int = 0
    """Of what is random."""


@dataclass(kw_only=True)
class RoboFlamingo(_Pretrained):
    """A RoboFlamingo trained with the reference implementation, ready to act."""

    checkpoint: Path
    """What the reference implementation saved."""
    openflamingo: Path | None = None
    """The OpenFlamingo checkpoint that the training began with; needed where parts of it were frozen."""
    head: Literal["lstm", "gpt", "fc", "fc_hist"] | None = None
    """Kind of head; by default what the tensors show (an MLP is taken for the one with history)."""
    window: int = 12
    """Observation steps that an action depends on; of a GPT as many as its tensors have places."""
    pooling: Literal["max", "mean"] = "max"
    """How hidden states are pooled."""
    pool_padding: bool = False
    """Go on training as the reference does, which pools over padding too; acting does not depend on it."""
    fusion: str | None = None
    """How the views come together: post, pre, separate or two_way; by default what the tensors show, else post."""


@dataclass(kw_only=True)
class _Representation:
    """What both representations need. The fields are arguments of the functions in `rf_agent.weights`."""

    output: Path
    """Directory of the policy that is made."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The policy head, which is random and yet to be trained."""
    views: tuple[str, ...] = CALVIN_VIEWS
    """Camera images of the observation, in the order in which the policy sees them."""
    seed: int = 0
    """Of what is random."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights that are written."""


@dataclass(kw_only=True)
class R3M(_Representation):
    """A published R3M under our policy head (the paper's Table 7)."""

    checkpoint: Path
    """R3M's model.pt, of a ResNet-18, -34 or -50."""
    language_model: Path | None = None
    """Folder of the sentence encoder, such as distilbert-base-uncased; without, it is random and stays so."""
    image_size: int = 224
    """Side of the images in pixels."""


@dataclass(kw_only=True)
class Voltron(_Representation):
    """A published V-Cond of Voltron under our policy head (the paper's Table 7)."""

    checkpoint: Path
    """Voltron's v-cond.pt or v-cond-base.pt."""
    tokenizer: Path
    """Folder of the tokenizer of distilbert-base-uncased; its weights are in the checkpoint."""
    head_width: int = 64
    """Width of the transformer's attention heads, which no tensor shows; 64 in all that were published."""
    language_head_width: int = 64
    """The same of the language model."""


@dataclass(kw_only=True)
class Average:
    """The weighted mean of policies, such as one that was fine-tuned and the one that it began with (WiSE-FT)."""

    policies: tuple[str, ...]
    """Checkpoint directories or bundled names, of one architecture; the mean acts as the last one does."""
    shares: tuple[float, ...]
    """Weight of each of them."""
    output: Path
    """Directory of the policy that is made."""


Args = (
    Annotated[OpenFlamingo, tyro.conf.subcommand("openflamingo")]
    | Annotated[RoboFlamingo, tyro.conf.subcommand("roboflamingo")]
    | Annotated[R3M, tyro.conf.subcommand("r3m")]
    | Annotated[Voltron, tyro.conf.subcommand("voltron")]
    | Annotated[Average, tyro.conf.subcommand("average")]
    | convert_data.Args
)


def run(args: OpenFlamingo | RoboFlamingo | R3M | Voltron | Average | convert_data.DataSet) -> None:
    """Convert. Of weights, print what became of the tensors."""
    if isinstance(args, convert_data.DataSet):
        return convert_data.run(args)
    if isinstance(args, Average):
        return _average(args)
    import torch

    from rf_agent.weights import from_openflamingo, from_r3m, from_roboflamingo, from_voltron

    check_target(args.output)  # what can be refused is refused before the work
    options = {name: value for name, value in vars(args).items() if name not in ("output", "dtype")}
    converters: dict[type, Callable[..., Any]] = {
        OpenFlamingo: from_openflamingo,
        RoboFlamingo: from_roboflamingo,
        R3M: from_r3m,
        Voltron: from_voltron,
    }
    policy, report = converters[type(args)](**options)
    policy.save_pretrained(args.output, card=_card(args), dtype=getattr(torch, args.dtype))
    console = Console(soft_wrap=True, highlight=False)
    for line in report.lines():
        console.print(line, markup=False)
    console.print(f"Policy: {args.output}", markup=False)


def _average(args: Average) -> None:
    from rf_agent.finetuning.averaging import average_policies

    check_target(args.output)
    policy = average_policies(args.policies, args.shares)
    parts = ", ".join(f"{share:g} x {name}" for name, share in zip(args.policies, args.shares, strict=True))
    card = f"# {args.output.name}\n\nThe weighted mean of policies: {parts}.\n\n{LOADING}"
    policy.save_pretrained(args.output, card=card)
    Console(soft_wrap=True, highlight=False).print(f"Policy: {args.output}", markup=False)


def _card(args: OpenFlamingo | RoboFlamingo | R3M | Voltron) -> str:
    """The model card: which files the policy was made of."""
    others: tuple[Path, ...] = ()
    if isinstance(args, (R3M, Voltron)):
        what = f"{type(args).__name__} under RoboFlamingo's policy head"
    else:
        what, others = "A RoboFlamingo policy", (args.language_model, args.vision)
    files = [args.checkpoint, args.openflamingo if isinstance(args, RoboFlamingo) else None, *others]
    names = [file.name for file in files if file is not None]
    untrained = "" if isinstance(args, RoboFlamingo) else " Its head is random: train it before it acts."
    return (
        f"# {args.output.name}\n\n{what} (arXiv:2311.01378) converted from {', '.join(names)}.{untrained}\n\n{LOADING}"
    )
