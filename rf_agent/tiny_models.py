"""The vision tower and the language model of `roboflamingo-tiny`, on which the tiny baselines stand, too."""

from __future__ import annotations

from typing import Any

TINY_TOWER: dict[str, Any] = {
    "model_type": "bit",  # group norm: no batch statistics, so batches equal each image alone
    "embedding_size": 16,
    "hidden_sizes": [64, 128, 192],
    "depths": [1, 1, 2],
    "num_groups": 8,
    "layer_type": "preactivation",
}

TINY_LANGUAGE: dict[str, Any] = {
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
