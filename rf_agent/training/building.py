"""A policy before its first step of training: built, begun from another one, and with what shall learn switched on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rf_agent import checkpoint
from rf_agent.base_policy import BasePolicy
from rf_agent.demos.frames import Frames
from rf_agent.errors import UserError
from rf_agent.nn.heads import PolicyHead
from rf_agent.policies import policy_class
from rf_agent.policy_config import PolicyConfig
from rf_agent.preprocess import normalise

STATISTICS_FRAMES = 32
"""Frames that say how the features of a tower are distributed which nobody has trained yet."""
STATE = "proprioception."
"""Tensors of a head that read the state of the robot."""


def build_policy(
    config: PolicyConfig,
    start: BasePolicy | None = None,
    corpus: Iterable[str] = (),
    *,
    source: str = "the policy to start from",
    seed: int | None = None,
    init_head: bool = True,
    vl_pretrained: bool = True,
    trainable: str = "default",
    train_vision: bool = False,
    train_language: bool = False,
    lora_rank: int = 8,
) -> BasePolicy:
    """A policy that is ready to learn.

    Args:
        config: its configuration, for the robot of the demonstrations (`rf_agent.training.robot.fitted`).
        start: a policy whose tokenizer and vision-language model it begins with, and whose head if that has the same
            shape or lacks the state of the robot alone. None draws everything.
        corpus: texts from which the tokenizer is learned where there is no `start`.
        source: where `start` comes from, for messages.
        seed: of what is drawn; the global random state is left as it was. Without, what begins from nothing is drawn
            from that state.
        init_head: whether the head of `start` is taken, too.
        vl_pretrained: whether its resampler and cross-attention are.
        trainable: what learns, see `rf_agent.finetuning.trainable`; the default is everything without a `start`, since
            nothing is worth keeping.
        train_vision, train_language: whether these parts learn, too.
        lora_rank: of the adapters of `lora`.

    Raises:
        CheckpointError: the vision-language model of `start` does not fit the configuration.
        UserError: parts shall stay as they are that are drawn at random.
        ValueError: there is no such trainable set.
    """
    which = "full" if start is None and trainable == "default" else trainable
    if start is None:
        policy = policy_class(config.type).from_config(config, corpus, seed)
    else:
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.manual_seed(seed)
            policy = policy_class(config.type)(config, start.tokenizer)
        _check_vision(policy, start, source)
        policy.begin_from(start, source, vl_pretrained)
        if init_head and config.type == start.config.type:
            _load_head(policy.head, start.head, source)
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        policy.set_trainable(which, train_vision, train_language, lora_rank)
    if start is None and which != "full":
        raise UserError(
            f"--trainable {which} keeps parts of the model as they are, but without --init these are random: give the "
            "checkpoint to start from, or --trainable full"
        )
    return policy


@torch.no_grad()
def fit_running_statistics(policy: BasePolicy, frames: Frames, rows: NDArray[np.int64]) -> None:
    """Give the batch norms of a vision tower that was drawn the statistics which pre-training would have given them.

    Imitation leaves statistics as they are, and with those that torch begins with a deep tower hardly lets an image
    through. Towers without batch norms stay as they are.

    Args:
        policy: whose tower it is.
        frames: of the demonstrations.
        rows: those of them that are trained on; some are drawn evenly.
    """
    norms = [module for module in policy.vision_encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, STATISTICS_FRAMES).astype(np.int64))]
    momenta = [norm.momentum for norm in norms]
    policy.eval()  # nothing else in it may be drawn
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the statistics of these frames alone
    policy.encode_vision(normalise(torch.from_numpy(frames.get(rows)), policy.config.image))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    policy.train()


def _check_vision(policy: BasePolicy, start: BasePolicy, source: str) -> None:
    """Refuse to begin from a vision tower that is made for other images: its learned places do not fit."""
    own, had = (getattr(one.vision_encoder, "position", None) for one in (policy, start))
    if own is None or had is None or own.shape == had.shape:
        return
    ours, theirs = policy.config, start.config
    if len(ours.views) != len(theirs.views):
        raise UserError(
            f"{source} sees {len(theirs.views)} cameras ({', '.join(theirs.views)}), but the policy would see "
            f"{len(ours.views)} ({', '.join(ours.views)}): name as many with --override 'views=[...]', or train "
            "without --init"
        )
    if ours.image.size != theirs.image.size:
        raise UserError(
            f"{source} sees images of {theirs.image.size} pixels, but image.size is {ours.image.size}: leave that "
            "change out, or train without --init"
        )


def same_head(head: PolicyHead, start: PolicyHead) -> bool:
    """Whether a head can begin from another: it has the same shape, or reads the state of the robot besides."""
    own, had = (_shapes(checkpoint.unique_tensors(one)) for one in (head, start))
    return own == had or _without_state(own) == had


def _load_head(head: PolicyHead, start: PolicyHead, source: str) -> None:
    if not same_head(head, start):
        return
    drawn, weights = checkpoint.unique_tensors(head), checkpoint.unique_tensors(start)
    checkpoint.load_strictly(head, drawn | weights, source)
    if head.proprioception is not None and start.proprioception is None:
        head.proprioception.zero_init()


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _without_state(shapes: dict[str, torch.Size]) -> dict[str, torch.Size]:
    return {name: shape for name, shape in shapes.items() if not name.startswith(STATE)}
