"""RoboFlamingo: a checkpoint of the reference implementation, with what it was trained on, to a policy.

Nothing is read off a file's name. What no tensor shows (window, pooling, how views come together) is an argument;
checkpoints that were trained with the reference's `tcp_rel`, whose actions are in the hand's frame, are not supported.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from rf_agent.calvin_robot import CALVIN_VIEWS, calvin
from rf_agent.config import HeadConfig, RoboFlamingoConfig
from rf_agent.nn.heads import HEADS
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.weights.files import ConversionError, expect_family, read_tensors
from rf_agent.weights.layout import OTHER_RESAMPLERS, shape, translated
from rf_agent.weights.openflamingo import assembled, read_backbone
from rf_agent.weights.report import Report, Source


def from_roboflamingo(
    checkpoint: str | Path,
    language_model: str | Path,
    vision: str | Path,
    openflamingo: str | Path | None = None,
    *,
    head: str | None = None,
    window: int = 12,
    pooling: str = "max",
    pool_padding: bool = False,
    fusion: str | None = None,
    views: tuple[str, ...] = CALVIN_VIEWS,
    lm_feature: str | None = None,
    language_weights: str | Path | None = None,
    vision_head_width: int | None = None,
    quick_gelu: bool | None = None,
) -> tuple[RoboFlamingoPolicy, Report]:
    """A trained RoboFlamingo, ready to act.

    Args:
        checkpoint: what the reference implementation saved.
        language_model, vision: as of `rf_agent.weights.openflamingo.from_openflamingo`.
        openflamingo: the OpenFlamingo checkpoint that the training began with. Needed where resampler,
            cross-attention or token embeddings were frozen: they are not in `checkpoint` then.
        head: kind of head, as in `rf_agent.config.HeadConfig`; by default what the tensors show (an MLP is taken for
            the one with history, `fc_hist`).
        window: observation steps that an action depends on (a GPT's is read from its tensors).
        pooling, pool_padding: as in `rf_agent.config.HeadConfig`. Acting does not depend on the latter.
        fusion: as in `rf_agent.config.RoboFlamingoConfig`; "post" by default, or what the tensors show.
        views, lm_feature, language_weights, vision_head_width, quick_gelu: as of `from_openflamingo`.

    Returns:
        The policy, on the CPU in float32, and what became of the tensors.

    Raises:
        ConversionError: a file of another kind, files that do not belong together, or tensors that are missing or
            mis-shaped; the message names them.
        ConfigError: an option that there is not.
    """
    tensors = read_tensors(checkpoint)
    remedy = "use `rf-agent convert openflamingo` for what has no policy head"
    expect_family(tensors, checkpoint, "a RoboFlamingo checkpoint", remedy)
    base = None if openflamingo is None else read_tensors(openflamingo)
    if base is not None:
        remedy = "give the one that the training began with"
        expect_family(base, str(openflamingo), "an OpenFlamingo checkpoint", remedy)
    backbone = read_backbone(language_model, vision, language_weights, vision_head_width, quick_gelu)
    source, found = translated(tensors, str(checkpoint), backbone)
    sources = [source]
    if base is not None:
        sources.insert(0, translated(base, str(openflamingo), backbone)[0])
    language, resampler = shape(sources, backbone)
    values, inputs = head_config(found, head, window)
    values.pooling, values.pool_padding = pooling, pool_padding
    config = RoboFlamingoConfig(
        resampler=resampler,
        language=language,
        head=values,
        fusion=_fusion(fusion, inputs, backbone.language.width, source),
        **calvin() | {"views": views},
        trained=True,
    )
    sources.append(translated_head(found, values.type))
    return assembled(config, backbone, sources, lm_feature=lm_feature)


def head_config(found: Source, kind: str | None = None, window: int = 12) -> tuple[HeadConfig, int]:
    """What a head's tensors show, and the width of the hidden states that it reads.

    Args:
        found: the tensors under the reference's names, without the prefix.
        kind: `head.type`, where it is known.
        window: where the tensors do not show it.
    """
    tensors = _Matrices(found)
    shown, first, hidden, layers = _shown(tensors, found.path)
    kind = kind or shown
    if kind != shown and not (kind == "fc" and shown == "fc_hist"):
        raise ConversionError(f"the head of {found.path} is of type {shown}, but {kind!r} was given; leave it out.")
    if "gpt.wpe.weight" in tensors:
        window = len(tensors["gpt.wpe.weight"])
    mlp = _numbered(tensors, "actions.mlp.{}.weight")
    if not mlp:
        raise ConversionError(f"the head of {found.path} has no actions.mlp.*.weight; its MLP for the pose is missing.")
    return HeadConfig(
        type=kind,
        hidden=hidden,
        layers=layers,
        window=window,
        chunk_size=len(tensors[f"gripper.mlp.{mlp[-1]}.weight"]),
        mlp=tuple(len(tensors[f"actions.mlp.{index}.weight"]) for index in mlp[:-1]),
        proprioception="embed_state.weight" in tensors,
    ), first


class _Matrices(dict[str, Tensor]):
    """Tensors of a head by name; one that is missing or no matrix is an error that says so."""

    def __init__(self, found: Source) -> None:
        super().__init__(found.tensors)
        self.path = found.path

    def __missing__(self, name: str) -> Tensor:
        raise ConversionError(f"the head of {self.path} lacks {name}; the file is cut short or of another kind.")

    def __getitem__(self, name: str) -> Tensor:
        tensor = super().__getitem__(name)
        if tensor.dim() != 2:
            raise ConversionError(f"{name} of {self.path} is {tuple(tensor.shape)}, but a matrix is expected.")
        return tensor


def _shown(tensors: _Matrices, path: str) -> tuple[str, int, int, int]:
    """Kind of head, width that it reads, its hidden width, and its layers."""
    if "rnn.weight_ih_l0" in tensors:
        layers = sum(name.startswith("rnn.weight_ih_l") for name in tensors)
        return "lstm", tensors["rnn.weight_ih_l0"].shape[1], tensors["rnn.weight_hh_l0"].shape[1], layers
    if "gpt.wpe.weight" in tensors:
        hidden = tensors["gpt.wpe.weight"].shape[1]
        first = tensors["fc.weight"].shape[1] if "fc.weight" in tensors else hidden
        return "gpt", first, hidden, len(_numbered(tensors, "gpt.h.{}.ln_1.weight"))
    if "mlp.0.weight" in tensors and "mlp.2.weight" in tensors:
        return "fc_hist", tensors["mlp.0.weight"].shape[1], len(tensors["mlp.2.weight"]), 1
    raise ConversionError(
        f"the head of {path} is neither LSTM, GPT nor MLP (it holds {', '.join(list(tensors)[:3])}); other kinds are "
        "not converted."
    )


def _numbered(tensors: dict[str, Tensor], name: str) -> list[int]:
    """The numbers for which there is a tensor of that name, in order."""
    return [index for index in range(100) if name.format(index) in tensors]


def _fusion(given: str | None, inputs: int, width: int, source: Source) -> str:
    """How the views come together, as the tensors show or as `given`."""
    shown = None
    if inputs == 2 * width:
        shown = "two_way"
    elif any(name.startswith(OTHER_RESAMPLERS) for name in source.tensors):
        shown = "separate"
    if shown and given and shown != given:
        raise ConversionError(
            f"the tensors of {source.path} show fusion {shown!r}, but {given!r} was given; leave it out."
        )
    return shown or given or "post"


def translated_head(found: Source, kind: str) -> Source:
    """A head's tensors under our names."""
    head = Source(found.path, ignored=dict(found.ignored))
    for name, tensor in found.tensors.items():
        ours = HEADS[kind].reference_tensors({name: tensor})
        if not ours:
            head.ignored[found.names[name]] = "a buffer of older versions"
        for new, converted in ours.items():
            head.add(f"head.{new}", converted, found.names[name])
    return head
