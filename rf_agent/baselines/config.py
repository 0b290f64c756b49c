"""Configurations of the baselines."""
