"""Policies of all types: found by the `type` of a configuration or checkpoint."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from rf_agent import checkpoint
from rf_agent.base_policy import BasePolicy
from rf_agent.config import ConfigError
from rf_agent.presets import find_checkpoint

POLICIES = {
    "roboflamingo": ("rf_agent.policy", "RoboFlamingoPolicy"),
    "r3m": ("rf_agent.baselines.representation", "R3MPolicy"),
    "rt1": ("rf_agent.baselines.rt1", "RT1Policy"),
    "mcil": ("rf_agent.baselines.mcil", "MCILPolicy"),
    "hulc": ("rf_agent.baselines.hulc", "HULCPolicy"),
    "voltron": ("rf_agent.baselines.voltron", "VoltronPolicy"),
}
"""Module and class of each type of policy."""


def policy_class(kind: str) -> type[BasePolicy]:
    """The class of policies of a type. Raises ConfigError that names the known ones."""
    if kind not in POLICIES:
        raise ConfigError(f"there is no policy of type {kind!r}; known types are {', '.join(POLICIES)}.")
    module, name = POLICIES[kind]
    return getattr(importlib.import_module(module), name)


def load_policy(
    name: str | Path,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "float32",
    compile: bool = False,
) -> BasePolicy:
    """A trained policy of any type, ready to act; see `BasePolicy.from_pretrained`."""
    kind = checkpoint.read_config(find_checkpoint(name)).type
    return policy_class(kind).from_pretrained(name, device, dtype, compile)
