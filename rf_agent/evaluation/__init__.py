"""Evaluation of policies in Gymnasium environments: a work queue, rates with intervals, and reports."""
