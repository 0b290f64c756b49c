"""Policies and evaluations that several tables share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rf_agent.reproduce.plan import Plan
from rf_agent.reproduce.stages import Stage

Plans = Sequence[Plan]
"""The plans of one recipe, one for each seed."""

FOUR = "ABCD"
THREE = "ABC"
CHAINS = ("1", "2", "3", "4", "5", "average length")
VARIANTS = {
    "M": ("M", False),
    "M-IFT": ("M", True),
    "G": ("G", False),
    "G-IFT": ("G", True),
    "L": ("L", False),
    "L-IFT": ("L", True),
    "L-wide-IFT": ("L-wide", True),
}
"""Our backbones: family of the language model, and whether it was pre-trained with instructions and questions."""
PAPERS = dict(zip(VARIANTS, ("M-3B", "M-3B-IFT", "G-4B", "G-4B-IFT", "L-9B", "", "M-9B"), strict=True))
"""The paper's backbone that stands beside each."""


def ours(plan: Plan, scenes: str = FOUR) -> Stage:
    """RoboFlamingo as it is by default, on the L-IFT backbone."""
    return plan.policy("L-IFT", scenes=scenes)


def variant(plan: Plan, name: str, scenes: str = FOUR) -> Stage:
    """RoboFlamingo on one of `VARIANTS`."""
    return plan.policy(name, vlm=plan.vlm(*VARIANTS[name]), scenes=scenes)


def cotrained(plan: Plan, scenes: str = FOUR) -> Stage:
    """RoboFlamingo that learned captions and questions in the same steps."""
    return plan.policy("L-IFT-cotrained", scenes=scenes, captions=True)


def baseline(plan: Plan, kind: str, scenes: str = FOUR) -> Stage:
    """A baseline with its own preset."""
    return plan.policy(kind, preset=f"{kind}-tiny", scenes=scenes)


def frozen_embeddings(plan: Plan) -> Stage:
    """RoboFlamingo whose embeddings of words stay as they are."""
    return plan.policy("L-IFT-freeze-emb", "--trainable", "freeze-emb")


def chains(plans: Plans, policy: Callable[..., Stage], *given: str, enriched: bool = False) -> tuple[Stage, ...]:
    """Evaluations of the policy `policy(plan, *given)` on chains, one a seed."""
    return tuple((plan.enriched if enriched else plan.chains)(policy(plan, *given)) for plan in plans)
