"""Which parameters learn: named groups, and a function that switches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from rf_agent.policy import RoboFlamingoPolicy

GROUPS = ("vision", "resampler", "cross-attention", "embeddings", "language", "head")


def parameter_groups(policy: RoboFlamingoPolicy) -> dict[str, dict[str, nn.Parameter]]:
    """Every parameter of the policy by name, in the one of `GROUPS` that it belongs to."""
    embeddings = {id(p) for p in policy.vlm.lang_encoder.get_input_embeddings().parameters()}
    prefixes = {
        "vlm.vision_encoder.": "vision",
        "vlm.perceiver.": "resampler",
        "vlm.gated_cross_attn_layers.": "cross-attention",
        "vlm.lang_encoder.": "language",
        "head.": "head",
    }
    groups: dict[str, dict[str, nn.Parameter]] = {group: {} for group in GROUPS}
    for name, parameter in policy.named_parameters():
        group = next(group for prefix, group in prefixes.items() if name.startswith(prefix))
        groups["embeddings" if id(parameter) in embeddings else group][name] = parameter
    return groups


def set_trainable(policy: RoboFlamingoPolicy, train_vision: bool = False, train_language: bool = False) -> list[str]:
    """Freeze what stays frozen (`requires_grad`), and return the groups that learn.

    Default is the paper's: resampler, cross-attention, token embeddings and head learn (Table 3, "FT").

    Args:
        train_vision: the vision tower learns too.
        train_language: the layers of the language model learn too.
    """
    frozen = {group for group, train in (("vision", train_vision), ("language", train_language)) if not train}
    for group, parameters in parameter_groups(policy).items():
        for parameter in parameters.values():
            parameter.requires_grad_(group not in frozen)
    return [group for group in GROUPS if group not in frozen]


def trainable_summary(policy: RoboFlamingoPolicy) -> str:
    """A table of the groups: how many parameters each has and how many of them learn."""
    rows = [
        (
            group,
            sum(p.numel() for p in parameters.values()),
            sum(p.numel() for p in parameters.values() if p.requires_grad),
        )
        for group, parameters in parameter_groups(policy).items()
    ]
    rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    return "\n".join(_lines(rows))


def _lines(rows: list[tuple[str, int, int]]) -> Iterator[str]:
    yield f"{'part':<16}{'parameters':>16}{'trainable':>16}"
    for name, count, learning in rows:
        yield f"{name:<16}{count:>16,}{learning:>16,}"
