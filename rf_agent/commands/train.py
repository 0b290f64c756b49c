"""`rf-agent train`: a policy by imitation of demonstrations."""

from __future__ import annotations

import os

from rf_agent.interrupts import sigterm_like_ctrl_c
from rf_agent.progress import RichReporter
from rf_agent.training.trainer import TrainConfig as Args
from rf_agent.training.trainer import train

__all__ = ["Args", "run"]


def run(args: Args) -> None:
    """Train, with a progress bar, and say where the policy is. Of several processes the first one speaks."""
    with sigterm_like_ctrl_c():  # which saves a checkpoint
        if int(os.environ.get("RANK", "0")):
            train(args)
            return
        with RichReporter("train") as reporter:
            train(args, reporter)
            reporter.log(f"Policy: {args.output / 'policy'}")
