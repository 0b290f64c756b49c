"""RoboFlamingo: a language-conditioned robot policy on a vision-language model.

Importing this package is cheap: torch and transformers are loaded by the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_EXPORTS = {
    "RoboFlamingoPolicy": "rf_agent.policy",
    "RoboFlamingoConfig": "rf_agent.config",
    "load_policy": "rf_agent.policies",
    "preset": "rf_agent.presets",
}

__all__ = ["RoboFlamingoConfig", "RoboFlamingoPolicy", "__version__", "load_policy", "preset"]

if TYPE_CHECKING:
    from rf_agent.config import RoboFlamingoConfig
    from rf_agent.policies import load_policy
    from rf_agent.policy import RoboFlamingoPolicy
    from rf_agent.presets import preset


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that ``import rf_agent`` needs no torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
