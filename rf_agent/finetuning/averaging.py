"""The average of policies of one architecture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rf_agent.base_policy import BasePolicy
from rf_agent.config_values import first_difference
from rf_agent.errors import UserError
from rf_agent.policies import load_policy

NO_ARCHITECTURE = frozenset({"n_action_steps", "repeat", "ensemble", "dropout", "state_dropout"})
"""Keys of `head` in which policies with one mean may differ."""


@torch.no_grad()
def average_policies(policies: Sequence[str | Path], shares: Sequence[float]) -> BasePolicy:
    """The policy whose weights are the weighted mean of others'.

    A policy that was trained on a little has forgotten a little; the mean of it and of the one that it began with has
    most of what both can do (WiSE-FT, arXiv:2109.01903). Means of policies that did not begin from one are useless.

    Args:
        policies: checkpoint directories or bundled names, two or more. How the mean acts is as of the last one.
        shares: of each, 0 or more; divided by their sum.

    Returns:
        the mean, on the CPU in float32. Its tasks are those of all of them.

    Raises:
        UserError: there are too few, the shares do not fit, or the policies have different architectures or words.
        CheckpointError: there is no such policy.
    """
    if len(policies) < 2 or len(shares) != len(policies):
        raise UserError(f"{len(policies)} policies and {len(shares)} shares were given: give two or more, and as many")
    if not all(math.isfinite(share) and share >= 0 for share in shares) or not sum(shares) > 0:
        raise UserError(f"the shares are {', '.join(map(str, shares))}: give numbers from 0 on, not all of them 0")
    loaded = [load_policy(policy, "cpu") for policy in policies]
    mean, name = loaded[-1], policies[-1]
    tasks = tuple(dict.fromkeys(task for policy in loaded for task in policy.config.tasks))
    ours = _architecture(mean)
    for other, policy in zip(policies, loaded, strict=True):
        theirs = _architecture(policy)
        if ours != theirs:
            key = first_difference(ours, theirs)[0]
            raise UserError(f"{other} and {name} differ in {key}: policies of one architecture have a mean")
        if policy.tokenizer.get_vocab() != mean.tokenizer.get_vocab():
            raise UserError(f"{other} and {name} know different words: policies of one vocabulary have a mean")
    states = [{key: value.clone() for key, value in policy.state_dict().items()} for policy in loaded]
    weights = [share / sum(shares) for share in shares]
    for key, value in mean.state_dict().items():  # tied weights come more than once, and get the same values
        if value.is_floating_point():
            values = torch.stack([weight * state[key].double() for weight, state in zip(weights, states, strict=True)])
            value.copy_(values.sum(dim=0))
    mean.config = replace(mean.config, tasks=tasks)
    return mean


def _architecture(policy: BasePolicy) -> dict[str, Any]:
    """The configuration without what says how it was trained, how it acts and which tasks it knows."""
    config = policy.config.to_dict()
    head = {key: value for key, value in config["head"].items() if key not in NO_ARCHITECTURE}
    head["state_optional"] = policy.config.head.state_optional
    return {key: value for key, value in config.items() if key not in ("loss", "tasks")} | {"head": head}
