"""Named configurations, and the trained policies that come with the package."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from rf_agent.baselines.presets import BASELINES
from rf_agent.calvin_robot import calvin
from rf_agent.checkpoint_files import RESULTS, CheckpointError, is_checkpoint, of_run
from rf_agent.config import (
    ConfigError,
    HeadConfig,
    ImageConfig,
    LanguageConfig,
    LossConfig,
    PolicyConfig,
    ResamplerConfig,
    RoboFlamingoConfig,
    VisionConfig,
)
from rf_agent.tiny_models import TINY_LANGUAGE, TINY_TOWER

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

BUNDLED = Path(__file__).parent / "bundled"
"""Folder of the checkpoint directories that come with the package."""


def tiny() -> RoboFlamingoConfig:
    """The policy that this project trains on a CPU: two 112 px views, one observation step per three actions."""
    return RoboFlamingoConfig(
        image=ImageConfig(size=112),
        vision=VisionConfig(model=deepcopy(TINY_TOWER)),
        resampler=ResamplerConfig(layers=2, latents=16, heads=4, head_dim=32, ff_mult=2),
        language=LanguageConfig(
            model=deepcopy(TINY_LANGUAGE),
            heads=4,
            head_dim=48,
            ff_mult=2,
            initial_gate=0.5,
        ),
        head=HeadConfig(hidden=256, layers=1, window=8, chunk_size=3, n_action_steps=3, dropout=0.0, mlp=(256, 128)),
        # small errors decide about a grasp, and demonstrations hold a few large ones that nothing in view explains
        loss=LossConfig(huber_delta=0.1, gripper_weight=0.02),
        **calvin(),
    )


def tiny_with(language: dict[str, Any], heads: int = 4, head_dim: int = 48) -> RoboFlamingoConfig:
    """roboflamingo-tiny with another language model, as the paper's Table 2 compares them.

    Args:
        language: keys of its `transformers` configuration that are not those of roboflamingo-tiny's. Another
            `model_type` replaces all that one family names differently.
        heads, head_dim: of the cross-attention.
    """
    config = tiny()
    kept = {key: config.language.model[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    base = kept if "model_type" in language else config.language.model
    config.language.model = base | language
    config.language.heads, config.language.head_dim = heads, head_dim
    return config


TINY_MPT = {"model_type": "mpt", "d_model": 192, "n_heads": 4, "n_layers": 3, "max_seq_len": 128}
TINY_NEOX = {
    "model_type": "gpt_neox",
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "rotary_pct": 1.0,
    "use_parallel_residual": False,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
TINY_WIDE = {
    "hidden_size": 320,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
}


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
        head=HeadConfig(hidden=16, layers=1, window=4, chunk_size=3, n_action_steps=2, dropout=0.0, mlp=(16,)),
        **calvin(),
    )


MPT_1B = {
    "model_type": "mosaic_gpt",
    "d_model": 2048,
    "n_heads": 16,
    "n_layers": 24,
    "vocab_size": 50280,
}
REDPAJAMA_3B = {
    "model_type": "gpt_neox",
    "vocab_size": 50280,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rotary_pct": 1.0,
    "use_parallel_residual": False,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LLAMA_7B = {
    "model_type": "llama",
    "vocab_size": 32003,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MPT_7B = {
    "model_type": "mpt",
    "vocab_size": 50280,
    "d_model": 4096,
    "n_heads": 32,
    "n_layers": 32,
    "max_seq_len": 2048,
}


def published(language: dict[str, Any], cross_attention_every: int) -> RoboFlamingoConfig:
    """A policy of the paper's Table 2: CLIP ViT-L/14, OpenFlamingo on the language model, and an LSTM over 12 steps.

    The vocabulary is the language model's tokenizer with OpenFlamingo's special tokens.
    """
    return RoboFlamingoConfig(
        image=ImageConfig(size=224, mean=CLIP_MEAN, std=CLIP_STD, resample="bicubic"),
        vision=VisionConfig(
            model={
                "model_type": "clip_vit",
                "image_size": 224,
                "patch_size": 14,
                "width": 1024,
                "layers": 24,
                "heads": 16,
                "mlp_width": 4096,
                "quick_gelu": True,
            },
            position_embedding=False,
        ),
        language=LanguageConfig(
            model=dict(language),
            cross_attention_every=cross_attention_every,
            lm_feature="last_block_input" if language["model_type"] == "mosaic_gpt" else "final_norm",
            max_tokens=32,
        ),
        **calvin(),
    )


def mid() -> RoboFlamingoConfig:
    """M-3B with every part smaller, for measuring: a step takes a fraction of a second on two CPU cores."""
    config = published({**MPT_1B, "d_model": 512, "n_heads": 8, "n_layers": 8}, 1)
    config.vision.model |= {"patch_size": 16, "width": 384, "layers": 6, "heads": 6, "mlp_width": 1536}
    return config


DEFAULT_PRESET = "roboflamingo-tiny"

PRESETS: dict[str, Callable[[], RoboFlamingoConfig]] = {
    "roboflamingo-tiny": tiny,
    "tiny": tiny,  # the same by its short name
    "roboflamingo-tiny-mpt": partial(tiny_with, TINY_MPT),
    "roboflamingo-tiny-neox": partial(tiny_with, TINY_NEOX),
    "roboflamingo-tiny-wide": partial(tiny_with, TINY_WIDE, 5, 64),  # 2.5 times the parameters
    "roboflamingo-test": test,
    "mid": mid,
    "M-3B": partial(published, MPT_1B, 1),
    "M-3B-IFT": partial(published, MPT_1B, 1),  # the same, of a language model tuned on instructions
    "G-4B": partial(published, REDPAJAMA_3B, 2),
    "G-4B-IFT": partial(published, REDPAJAMA_3B, 2),
    "L-9B": partial(published, LLAMA_7B, 4),
    "M-9B": partial(published, MPT_7B, 4),
}


def preset(name: str) -> PolicyConfig:
    """A fresh configuration by name. Raises ConfigError with the known names."""
    every: dict[str, Callable[[], PolicyConfig]] = {**PRESETS, **BASELINES}
    if name not in every:
        raise ConfigError(f"there is no preset {name!r}; known presets are {', '.join(every)}.")
    return every[name]()


def find_checkpoint(name: str | Path) -> Path:
    """Directory of a policy, given that directory or a bundled name. Raises CheckpointError with the known
    names."""
    if Path(name).is_dir():
        return Path(name)
    bundled = sorted(path.name for path in BUNDLED.glob("*") if is_checkpoint(path))
    for known in (str(name), f"roboflamingo-{name}"):  # presets have short names, too
        if known in bundled:
            return BUNDLED / known
    if str(name) in (*PRESETS, *BASELINES):
        raise CheckpointError(
            f"no trained {str(name)!r} comes with this installation; train one with "
            f"`rf-agent train --preset {name}`, or convert published weights with `rf-agent convert`, and give its "
            "directory."
        )
    run = of_run(Path(name).parent) if Path(name).name in RESULTS.values() else ""
    if run:
        raise CheckpointError(f"there is no policy {str(name)!r}. As for {Path(name).parent}, {run}")
    raise CheckpointError(
        f"there is no policy {str(name)!r}: it is neither a directory nor a bundled name "
        f"({', '.join(bundled) or 'none is bundled'})."
    )
