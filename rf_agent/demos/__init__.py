"""Demonstrations: collecting, storing, loading, and cutting them into what a training step sees."""

from rf_agent.demos.demonstration import Demonstration
from rf_agent.demos.store import read_demonstrations, write_demonstrations

__all__ = ["Demonstration", "read_demonstrations", "write_demonstrations"]
