"""Policies that the paper compares RoboFlamingo with, behind the same interface."""
