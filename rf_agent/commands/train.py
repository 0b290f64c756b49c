"""`rf-agent train`: a policy by imitation of demonstrations."""

from __future__ import annotations

import os

from rf_agent.interrupts import sigterm_like_ctrl_c
from rf_agent.progress import RichReporter
from rf_agent.training.trainer import TrainConfig as Args
from rf_agent.training.trainer import train
from rf_agent.unused import refuse_unused

__all__ = ["Args", "run"]

OF_TEXTS = ("vl_prompts", "vl_batch_size", "vl_caption_weight", "vl_question_weight", "vl_question_mean")
"""Options of captions and questions that name no files."""


def run(args: Args) -> None:
    """Train, with a progress bar, and say where the policy is. Of several processes the first one speaks."""
    if not args.resume:  # a run that was begun with them must be able to end
        _refuse_unused(args)
    with sigterm_like_ctrl_c():  # which saves a checkpoint
        if int(os.environ.get("RANK", "0")):
            train(args)
            return
        with RichReporter("train") as reporter:
            train(args, reporter)
            reporter.log(f"Policy: {args.output / 'policy'}")


def _refuse_unused(args: Args) -> None:
    if args.init is None:
        refuse_unused(args, ("init_head", "vl_pretrained", "vlm_lr_scale"), "there is no --init")
    if args.trainable != "lora":
        refuse_unused(args, ("lora_rank",), "--trainable is not lora")
    if args.vl_images is None:
        refuse_unused(args, OF_TEXTS, "there are no --vl-images")
    if not args.scene_images:
        refuse_unused(args, ("scene_batch_size", "scene_weight"), "there are no --scene-images")
    if args.evaluation_env is None:
        refuse_unused(args, ("evaluation_episodes",), "there is no --evaluation-env")
