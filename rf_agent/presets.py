"""Named configurations, and the trained policies that come with the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rf_agent.checkpoint import CheckpointError, is_checkpoint
from rf_agent.config import (
    ConfigError,
    HeadConfig,
    ImageConfig,
    LanguageConfig,
    LossConfig,
    ResamplerConfig,
    RoboFlamingoConfig,
    VisionConfig,
)

BUNDLED = Path(__file__).parent / "bundled"
"""Folder of the checkpoint directories that come with the package, one per preset that is trained."""


def tiny() -> RoboFlamingoConfig:
    """The policy that this project trains on a CPU: two 112 px views, one look per three actions."""
    return RoboFlamingoConfig(
        image=ImageConfig(size=112),
        vision=VisionConfig(
            model={
                "model_type": "bit",  # group norm: no batch statistics, so batches equal each image alone
                "embedding_size": 16,
                "hidden_sizes": [64, 128, 192],
                "depths": [1, 1, 2],
                "num_groups": 8,
                "layer_type": "preactivation",
            }
        ),
        resampler=ResamplerConfig(layers=2, latents=16, heads=4, head_dim=32, ff_mult=2),
        language=LanguageConfig(
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
            },
            heads=4,
            head_dim=48,
            ff_mult=2,
            initial_gate=0.5,
        ),
        head=HeadConfig(hidden=256, layers=1, window=8, chunk=3, execute=3, dropout=0.0, mlp=(256, 128)),
        # small errors decide about a grasp, and demonstrations hold a few large ones that nothing in view explains
        loss=LossConfig(huber_delta=0.1, gripper_weight=0.02),
    )


def test() -> RoboFlamingoConfig:
    """As small as a policy can be, for tests: 32 px, every part present."""
    return RoboFlamingoConfig(
        image=ImageConfig(size=32),
        vision=VisionConfig(
            model={
                "model_type": "bit",
                "embedding_size": 8,
                "hidden_sizes": [16, 32],
                "depths": [1, 1],
                "num_groups": 4,
                "layer_type": "preactivation",
            }
        ),
        resampler=ResamplerConfig(layers=1, latents=4, heads=2, head_dim=8, ff_mult=2),
        language=LanguageConfig(
            model={
                "model_type": "llama",
                "vocab_size": 320,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "max_position_embeddings": 128,
                "tie_word_embeddings": True,
                "bos_token_id": None,
                "eos_token_id": 0,
                "pad_token_id": 3,
            },
            heads=2,
            head_dim=8,
            ff_mult=2,
            initial_gate=0.5,
        ),
        head=HeadConfig(hidden=16, layers=1, window=4, chunk=3, execute=2, dropout=0.0, mlp=(16,)),
    )


PRESETS: dict[str, Callable[[], RoboFlamingoConfig]] = {
    "roboflamingo-tiny": tiny,
    "roboflamingo-test": test,
}


def preset(name: str) -> RoboFlamingoConfig:
    """A fresh configuration by name. Raises ConfigError with the known names."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; known presets are {', '.join(PRESETS)}.")
    return PRESETS[name]()


def find_checkpoint(name: str | Path) -> Path:
    """Directory of a policy, given that directory or a bundled name. Raises CheckpointError with the known
    names."""
    if Path(name).is_dir():
        return Path(name)
    bundled = sorted(path.name for path in BUNDLED.glob("*") if is_checkpoint(path))
    if str(name) in bundled:
        return BUNDLED / name
    if str(name) in PRESETS:
        raise CheckpointError(
            f"no trained {str(name)!r} comes with this installation; train one with "
            f"`rf-agent train --preset {name}` and give its directory."
        )
    raise CheckpointError(
        f"there is no policy {str(name)!r}: it is neither a directory nor a bundled name "
        f"({', '.join(bundled) or 'none is bundled'})."
    )
