"""Evaluation of policies: episodes, scores with intervals, reports and videos.

Importing this package is cheap: most commands need one of its modules only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["evaluate_agent"]

if TYPE_CHECKING:
    from rf_agent.evaluation.agent_evaluation import evaluate_agent


def __getattr__(name: str) -> Any:
    """Load the public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rf_agent.evaluation.agent_evaluation import evaluate_agent

    return evaluate_agent
