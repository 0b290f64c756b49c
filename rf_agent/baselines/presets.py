"""Named configurations of the baselines: `-tiny` in the size of roboflamingo-tiny, without it in the papers' sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rf_agent.baselines.config import BaselineConfig, R3MConfig
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


BASELINES: dict[str, Callable[[], BaselineConfig]] = {
    "r3m-tiny": r3m_tiny,
}
"""Configurations of baselines by name."""
