"""Which parameters learn: named groups, sets of them, and a function that switches them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from rf_agent.errors import UserError
from rf_agent.finetuning import lora
from rf_agent.policy_model import PolicyModel

GROUPS = ("vision", "resampler", "cross-attention", "embeddings", "language", "adapters", "encoder", "head")
"""Parts of a policy; adapters are those of `rf_agent.finetuning.lora`, where there are any. An encoder is what
baselines have in place of resampler and cross-attention."""

TRAINABLE = {
    "default": ("resampler", "cross-attention", "embeddings", "encoder", "head"),
    "freeze-emb": ("resampler", "cross-attention", "encoder", "head"),
    "head": ("head",),
    "lora": ("resampler", "cross-attention", "embeddings", "adapters", "encoder", "head"),
    "full": GROUPS,
}
"""Sets by name: the paper's choice, the same with frozen token embeddings ("freeze-emb" in its Table 1), no fine-tuning
of the vision-language model (Fig. 3b), adapters in the language model, and everything. There is also `last-N`: the last
N cross-attention layers, embeddings and head, with the resampler frozen, as the reference's `train_params`."""

LAST = re.compile(r"last-([1-9]\d*)")
BLOCKS = "vlm.gated_cross_attn_layers."


def parameter_groups(model: PolicyModel) -> dict[str, dict[str, nn.Parameter]]:
    """Every parameter of the policy by name, in the one of `GROUPS` that it belongs to."""
    embeddings = {id(p) for p in model.language_model.get_input_embeddings().parameters()}
    groups: dict[str, dict[str, nn.Parameter]] = {group: {} for group in GROUPS}
    for name, parameter in model.named_parameters():  # tied ones come once
        group = next(group for prefix, group in model.parts.items() if name.startswith(prefix))
        if id(parameter) in embeddings:
            group = "embeddings"
        elif lora.MARK in name:
            group = "adapters"
        groups[group][name] = parameter
    return {group: parameters for group, parameters in groups.items() if parameters}


def set_trainable(
    model: PolicyModel,
    which: str = "default",
    train_vision: bool = False,
    train_language: bool = False,
    lora_rank: int = 8,
) -> list[str]:
    """Freeze what stays frozen (`requires_grad`), and return the groups that learn.

    Args:
        which: one of `TRAINABLE`, or `last-N`.
        train_vision: the vision tower learns too.
        train_language: the layers of the language model learn too.
        lora_rank: of the adapters that `lora` adds.

    Raises:
        ValueError: there is no such set, or fewer than N cross-attention layers.
    """
    chosen, blocks = _choose(which, model.cross_attention_blocks, model.unread_blocks)
    if which != "full":
        chosen -= model.always_frozen
    chosen |= {group for group, train in (("vision", train_vision), ("language", train_language)) if train}
    if train_language and not model.runs_language_model:
        raise UserError(
            "--train-language trains layers that this policy does not use, as it reads the embeddings of words: leave "
            "it out, or --override sentence=hidden"
        )
    if which == "lora":
        if not model.runs_language_model:
            raise UserError(
                "lora adapts layers that this policy does not use, as it reads the embeddings of words: choose "
                "default, or --override sentence=hidden"
            )
        lora.add_adapters(model, lora_rank)
    groups = parameter_groups(model)
    for group, parameters in groups.items():
        for name, parameter in parameters.items():
            learns = group in chosen
            if group == "cross-attention":
                learns = learns and name.removeprefix(BLOCKS).split(".")[0] in blocks
            parameter.requires_grad_(learns)
    model.train(model.training)  # towers and sentence encoders that are frozen now compute as in acting
    return [group for group in groups if group in chosen]


def _choose(which: str, blocks: list[str], unread: list[str]) -> tuple[set[str], list[str]]:
    """The groups of a set, and which of the cross-attention blocks (named by their layer) belong to it."""
    if which in TRAINABLE:
        return set(TRAINABLE[which]), blocks
    blocks = [name for name in blocks if name not in unread]
    last = LAST.fullmatch(which)
    if last is None:
        raise ValueError(
            f"there is no trainable set {which!r}: choose {', '.join(TRAINABLE)} or last-N, such as last-4"
        )
    if not blocks:
        raise ValueError(
            f"{which} was chosen, but the model has no cross-attention layers: choose {', '.join(TRAINABLE)}"
        )
    count = int(last[1])
    if count > len(blocks):
        seen = " that its head sees" if unread else ""
        raise ValueError(
            f"{which} was chosen, but the model has {len(blocks)} cross-attention layers{seen}: choose fewer"
        )
    return {"cross-attention", "embeddings", "head"}, blocks[-count:]


def trainable_summary(model: PolicyModel) -> str:
    """A table of the groups: how many parameters each has and how many of them learn."""
    rows = [
        (
            group,
            sum(p.numel() for p in parameters.values()),
            sum(p.numel() for p in parameters.values() if p.requires_grad),
        )
        for group, parameters in parameter_groups(model).items()
    ]
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return "\n".join(_lines(rows))


def _lines(rows: list[tuple[str, int, int]]) -> Iterator[str]:
    yield f"{'part':<16}{'parameters':>16}{'trainable':>16}"
    for name, count, learning in rows:
        yield f"{name:<16}{count:>16,}{learning:>16,}"
