"""Evaluation of policies: episodes, scores with intervals, reports and videos."""

from rf_agent.evaluation.agent_evaluation import evaluate_agent

__all__ = ["evaluate_agent"]
