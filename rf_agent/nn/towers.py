"""Vision towers: any vision model of `transformers`, or an own one, as a function from pixels to tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import AutoModel

from rf_agent.config import ConfigError, VisionConfig
from rf_agent.nn.clip_vit import ClipViT
from rf_agent.nn.model_config import model_config
from rf_agent.nn.patch_embedding import PatchEmbedding

OWN_MODELS: dict[str, Callable[..., nn.Module]] = {"clip_vit": ClipViT, "patch_embedding": PatchEmbedding}
"""Towers by `model_type` that `transformers` does not have in this form: their fields to the model."""
MASKING = ("vit_mae",)
"""Models whose result for an image is another one each time."""


class VisionTower(nn.Module):
    """A vision model that yields the tokens of each view of a frame.

    Convolutional models yield the cells of their last feature map, row by row, normalised where `config.norm` says so;
    transformers their patch tokens without the class token. With `config.position_embedding` a learned embedding of
    (view, row, column) is added, which starts as sines and cosines so that places are told apart from the first step.
    Frames may have fewer views, such as the one of a photo: they stand in the places of the first ones.

    Args:
        config: `model` is the configuration of a model of `transformers` or of `OWN_MODELS`, with its `model_type`.
        image_size: side of the (square) input in pixels.
        views: number of views of a frame.

    Attributes:
        tokens: tokens per view. dim: their width.

    Raises:
        ConfigError: the model is unknown or yields no grid of features.
    """

    def __init__(self, config: VisionConfig, image_size: int, views: int) -> None:
        super().__init__()
        self.model = build_vision_model(config, image_size)
        shape = output_shape(self.model, image_size)
        self.is_convolutional = len(shape) == 4
        if self.is_convolutional:
            self.dim, grid = int(shape[1]), (int(shape[2]), int(shape[3]))
            self.norm: nn.Module = nn.LayerNorm(self.dim) if config.norm else nn.Identity()
        else:
            side = math.isqrt(int(shape[1]))
            self.dim, grid = int(shape[2]), (side, side)
            self.norm = nn.Identity()
        self.tokens = grid[0] * grid[1]
        self.position: nn.Parameter | None = None
        if config.position_embedding:
            table = sine_cosine_grid(*grid, self.dim)  # (n, d)
            view = 0.1 * torch.randn(views, 1, self.dim)
            self.position = nn.Parameter(table + view)  # (V, n, d)

    def train(self, mode: bool = True) -> VisionTower:
        """While it is frozen it computes as in acting: neither dropout nor statistics of a batch, and keeps its own."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (N, V, 3, S, S) normalised -> tokens (N, V, n, d); V is the number of views or less."""
        n, views = pixels.shape[:2]
        flat = pixels.flatten(0, 1)
        if self.is_convolutional:  # channels last is what CPUs and GPUs convolve fastest
            flat = flat.contiguous(memory_format=torch.channels_last)
        out = self.model(flat).last_hidden_state
        if self.is_convolutional:
            tokens = self.norm(out.flatten(2).transpose(1, 2))  # (N * V, n, d)
        else:
            tokens = out[:, -self.tokens :]
        tokens = tokens.unflatten(0, (n, views))
        return tokens if self.position is None else tokens + self.position[:views]


def build_vision_model(config: VisionConfig, image_size: int) -> nn.Module:
    """The bare vision model of `config`, with random weights. Raises ConfigError when there is none."""
    values = dict(config.model)
    kind = values.pop("model_type", None)
    if kind is None:
        raise ConfigError("vision.model has no 'model_type'; name a vision model of transformers, such as 'resnet'.")
    if kind in MASKING:
        raise ConfigError(f"vision.model.model_type is {kind!r}, which hides patches by chance: choose 'vit'.")
    try:
        if kind in OWN_MODELS:
            return OWN_MODELS[kind](**{"image_size": image_size, **values})
        model = AutoModel.from_config(model_config(kind, values, "vision.model", image_size=image_size))
    except ConfigError:
        raise
    except Exception as error:  # transformers checks values in many places, each with errors of its own
        raise ConfigError(f"vision.model cannot be built: {error}") from error
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)  # transformers draws EfficientNet's around zero: nothing came through
    return model


@torch.no_grad()
def output_shape(model: nn.Module, image_size: int) -> torch.Size:
    """Shape of the last hidden state for one image, without computing it: on torch's "meta" device.

    Raises:
        ConfigError: the model cannot compute on an image of that size.
    """
    tensors = {name: t.to("meta") for name, t in chain(model.named_parameters(), model.named_buffers())}
    pixels = torch.zeros(1, 3, image_size, image_size, device="meta")
    try:
        return torch.func.functional_call(model.eval(), tensors, (pixels,)).last_hidden_state.shape
    except Exception as error:
        raise ConfigError(f"vision.model does not fit together, or not images of {image_size} px: {error}") from error


def sine_cosine_grid(rows: int, columns: int, dim: int) -> Tensor:
    """(rows * columns, dim): half of the channels say the row, half the column; wavelengths up to twice the grid."""
    bands = dim // 4
    frequency = math.pi / max(rows, columns) * torch.logspace(0, math.log2(max(rows, columns)), bands, base=2.0)

    def sines(count: int) -> Tensor:
        phase = (torch.arange(count)[:, None] + 0.5) * frequency  # (count, bands)
        return torch.cat((phase.sin(), phase.cos()), dim=1)

    table = torch.zeros(rows, columns, dim)
    table[..., : 2 * bands] = sines(rows)[:, None]
    table[..., 2 * bands : 4 * bands] = sines(columns)[None]
    return table.flatten(0, 1)
