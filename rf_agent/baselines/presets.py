"""Named configurations of the baselines: `-tiny` in the size of roboflamingo-tiny, without it in the papers' sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rf_agent.baselines.config import BaselineConfig, R3MConfig, VoltronConfig, VoltronEncoderConfig
from rf_agent.calvin_robot import calvin
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


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DISTILBERT = {
    "model_type": "distilbert",
    "vocab_size": 30524,  # 30,522 and the two tokens that every tokenizer here has, `<image>` and `<|endofchunk|>`
    "dim": 768,
    "n_layers": 6,
    "n_heads": 12,
    "hidden_dim": 3072,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
"""The sentence encoder of R3M and Voltron."""


def published() -> dict[str, Any]:
    """What R3M and Voltron share: ImageNet's normalisation at 224 px, and the paper's LSTM over 12 steps."""
    return {
        "image": ImageConfig(size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        "head": HeadConfig(),
        **calvin(),
    }


def r3m() -> R3MConfig:
    """R3M with its ResNet-50: 2048 numbers of each view."""
    return R3MConfig(
        vision=VisionConfig(
            model={
                "model_type": "resnet",
                "embedding_size": 64,
                "hidden_sizes": [256, 512, 1024, 2048],
                "depths": [3, 4, 6, 3],
                "layer_type": "bottleneck",
            },
            position_embedding=False,
            norm=False,
        ),
        language=TextConfig(model=dict(DISTILBERT)),
        **published(),
    )


def voltron() -> VoltronConfig:
    """Voltron's V-Cond with its ViT-Small: 384 numbers of each view."""
    return VoltronConfig(
        vision=VisionConfig(
            model={"model_type": "patch_embedding", "image_size": 224, "patch_size": 16, "width": 384},
            position_embedding=False,
        ),
        language=TextConfig(model=dict(DISTILBERT), max_tokens=20),
        encoder=VoltronEncoderConfig(pad_text=True),
        **published(),
    )


def voltron_tiny() -> VoltronConfig:
    """A language-conditioned transformer of two layers on the pre-trained tower, under roboflamingo-tiny's head."""
    head = HeadConfig(hidden=256, layers=1, window=8, chunk_size=3, n_action_steps=3, dropout=0.0, mlp=(256, 128))
    return VoltronConfig(encoder=VoltronEncoderConfig(width=192, layers=2, heads=4, mlp_width=512), head=head, **tiny())


BASELINES: dict[str, Callable[[], BaselineConfig]] = {
    "r3m-tiny": r3m_tiny,
    "r3m": r3m,
    "voltron-tiny": voltron_tiny,
    "voltron": voltron,
}
"""Configurations of baselines by name."""
