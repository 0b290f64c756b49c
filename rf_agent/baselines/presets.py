"""Named configurations of the baselines: `-tiny` in the size of roboflamingo-tiny, without it in the papers' sizes."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from rf_agent.baselines.config import (
    BaselineConfig,
    HULCConfig,
    MCILConfig,
    PerceptualEncoderConfig,
    R3MConfig,
    RT1Config,
    RT1EncoderConfig,
    VoltronConfig,
    VoltronEncoderConfig,
)
from rf_agent.calvin_robot import calvin
from rf_agent.nn.plan_config import HULCHeadConfig, MCILHeadConfig
from rf_agent.policy_config import HeadConfig, ImageConfig, LossConfig, TextConfig, VisionConfig
from rf_agent.tiny_models import TINY_LANGUAGE, TINY_TOWER

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


def tiny() -> dict[str, Any]:
    """What the tiny baselines share with roboflamingo-tiny: resolution, vision tower, language model, robot, loss."""
    return {
        "image": ImageConfig(size=112),
        "vision": VisionConfig(model=deepcopy(TINY_TOWER)),
        "language": TextConfig(model=deepcopy(TINY_LANGUAGE)),
        "sentence": "words",
        "loss": LossConfig(huber_delta=0.1, gripper_weight=0.02),
        **calvin(),
    }


def r3m_tiny() -> R3MConfig:
    """Average-pooled features of the pre-trained tower under roboflamingo-tiny's head."""
    head = HeadConfig(hidden=256, layers=1, window=8, chunk_size=3, n_action_steps=3, dropout=0.0, mlp=(256, 128))
    return R3MConfig(head=head, **tiny())


def rt1_tiny() -> RT1Config:
    """RT-1 on the pre-trained tower of roboflamingo-tiny, with chunks of three actions as that has."""
    head = HeadConfig(type="rt1", hidden=160, layers=4, heads=4, window=6, chunk_size=3, n_action_steps=3, dropout=0.0)
    return RT1Config(encoder=RT1EncoderConfig(width=128, blocks=1, expansion=4), head=head, **tiny())


def rt1() -> RT1Config:
    """RT-1 in the paper's size: EfficientNet-B3 at 300 px, 8 layers of width 512, six frames, one action a frame.

    The grid has 10 x 10 places, as `transformers` pads images, where RT-1 reports 9 x 9. The sentence encoder has the
    size of the Universal Sentence Encoder's transformer (arXiv:1803.11175): 6 layers, embeddings of 512. RT-1 begins
    with weights of ImageNet and of that encoder; here both are random, and all of it learns, sentence encoder included.
    """
    return RT1Config(
        image=ImageConfig(
            size=300,
            mean=IMAGENET_MEAN,
            std=(0.47853944, 0.4732864, 0.47434163),  # those of google/efficientnet-b3
        ),
        vision=VisionConfig(
            model={
                "model_type": "efficientnet",
                "width_coefficient": 1.2,
                "depth_coefficient": 1.4,
                "hidden_dim": 1536,
                "depthwise_padding": [5, 18],
            },
            position_embedding=False,  # places are left to the convolutions
        ),
        language=TextConfig(
            model={
                "model_type": "distilbert",
                "vocab_size": 8192,
                "dim": 512,
                "hidden_dim": 2048,
                "n_layers": 6,
                "n_heads": 8,
                "max_position_embeddings": 128,
                "dropout": 0.0,  # so that a text has the same embedding every time
                "attention_dropout": 0.0,
                "pad_token_id": 3,
            }
        ),
        encoder=RT1EncoderConfig(),
        head=HeadConfig(type="rt1", hidden=512, layers=8, heads=8, window=6),
        **calvin(),
    )


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
        "image": ImageConfig(size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD),
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
    "rt1-tiny": rt1_tiny,
    "rt1": rt1,
    "mcil-tiny": mcil_tiny,
    "hulc-tiny": hulc_tiny,
    "mcil": mcil,
    "hulc": hulc,
    "r3m": r3m,
    "voltron-tiny": voltron_tiny,
    "voltron": voltron,
}
"""Configurations of baselines by name."""
