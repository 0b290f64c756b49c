"""Named configurations of the baselines: `-tiny` in the size of roboflamingo-tiny, without it in the papers' sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rf_agent.baselines.config import (
    BaselineConfig,
    HULCConfig,
    MCILConfig,
    PerceptualEncoderConfig,
    R3MConfig,
)
from rf_agent.calvin_robot import calvin
from rf_agent.nn.plan_config import HULCHeadConfig, MCILHeadConfig
from rf_agent.policy_config import HeadConfig, ImageConfig, LossConfig, TextConfig, VisionConfig


def tiny() -> dict[str, Any]:
    """What the tiny baselines share with roboflamingo-tiny: resolution, vision tower, language model, robot, loss."""
    return {
        "image": ImageConfig(size=112),
        "vision": VisionConfig(
            model={
                "model_type": "bit",
                "embedding_size": 16,
                "hidden_sizes": [64, 128, 192],
                "depths": [1, 1, 2],
                "num_groups": 8,
                "layer_type": "preactivation",
            }
        ),
        "language": TextConfig(
            model={
                "model_type": "llama",
                "vocab_size": 1024,
                "hidden_size": 192,
                "intermediate_size": 384,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 128,
                "tie_word_embeddings": True,
                "bos_token_id": None,
                "eos_token_id": 0,
                "pad_token_id": 3,
            }
        ),
        "loss": LossConfig(huber_delta=0.1, gripper_weight=0.02),
        **calvin(),
    }


def r3m_tiny() -> R3MConfig:
    """Average-pooled features of the pre-trained tower under roboflamingo-tiny's head."""
    head = HeadConfig(hidden=256, layers=1, window=8, chunk_size=3, n_action_steps=3, dropout=0.0, mlp=(256, 128))
    return R3MConfig(head=head, **tiny())


def likelihood() -> LossConfig:
    """Of policies whose motions are scored by likelihood: the gripper counts as much, as in HULC's code."""
    return LossConfig(gripper_weight=1.0)


def mcil_tiny() -> MCILConfig:
    """MCIL in the size of roboflamingo-tiny: windows of 8 observation steps, each a chunk of 3 actions."""
    head = MCILHeadConfig(
        hidden=256,
        layers=2,
        window=8,
        chunk_size=3,
        n_action_steps=3,
        dropout=0.0,
        mlp=(),
        goal_hidden=256,
        proposal=(256, 256),
        recognition_hidden=160,
        plan=64,
    )
    encoder = PerceptualEncoderConfig(hidden=(256,))
    return MCILConfig(encoder=encoder, head=head, **tiny() | {"loss": likelihood()})


def hulc_tiny() -> HULCConfig:
    """HULC in the size of roboflamingo-tiny: windows of 8 observation steps, each a chunk of 3 actions."""
    head = HULCHeadConfig(
        hidden=256,
        layers=2,
        heads=4,
        window=8,
        chunk_size=3,
        n_action_steps=3,
        dropout=0.1,
        mlp=(),
        goal_hidden=256,
        proposal=(256, 256),
        recognition_hidden=256,
        categoricals=16,
        classes=16,
        sequence=384,
    )
    encoder = PerceptualEncoderConfig(keypoints="first", hidden=(256,))
    return HULCConfig(encoder=encoder, head=head, **tiny() | {"loss": likelihood()})


def full() -> dict[str, Any]:
    """What MCIL and HULC share in the papers' sizes.

    Their convolutional encoders of 200 px and 84 px images are replaced by one ResNet-18 of `transformers` at 224 px,
    and MCIL's sentence encoder (MUSE) by one of HULC's kind (MiniLM: 3 layers, 384 wide).
    """
    return {
        "image": ImageConfig(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        "vision": VisionConfig(
            model={
                "model_type": "resnet",
                "embedding_size": 64,
                "hidden_sizes": [64, 128, 256, 512],
                "depths": [2, 2, 2, 2],
                "layer_type": "basic",
            },
            position_embedding=False,
        ),
        "language": TextConfig(
            model={
                "model_type": "bert",
                "vocab_size": 30522,
                "hidden_size": 384,
                "intermediate_size": 1536,
                "num_hidden_layers": 3,
                "num_attention_heads": 12,
                "max_position_embeddings": 512,
            }
        ),
        "loss": likelihood(),
        **calvin(),
    }


def mcil() -> MCILConfig:
    """MCIL with the paper's head: windows of 32 frames, an action at each."""
    return MCILConfig(head=MCILHeadConfig(hidden=2048, layers=2, window=32, dropout=0.0, mlp=()), **full())


def hulc() -> HULCConfig:
    """HULC with the paper's head: windows of 32 frames, an action at each, and 10 bins of the likelihood."""
    head = HULCHeadConfig(hidden=2048, layers=2, heads=8, window=32, mlp=(), bins=10)
    return HULCConfig(encoder=PerceptualEncoderConfig(keypoints="first"), head=head, **full())


BASELINES: dict[str, Callable[[], BaselineConfig]] = {
    "r3m-tiny": r3m_tiny,
    "mcil-tiny": mcil_tiny,
    "hulc-tiny": hulc_tiny,
    "mcil": mcil,
    "hulc": hulc,
}
"""Configurations of baselines by name."""
