"""CLIP vision towers of OpenAI, open_clip and Hugging Face to `rf_agent.nn.clip_vit`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch

from rf_agent.weights.files import ConversionError, Tensors, expect_family, read_tensors
from rf_agent.weights.report import Source

VISION = "vlm.vision_encoder.model."

WIDE = 1280
"""Towers of this width and wider (ViT-H, g, bigG and e, none of them OpenAI's) have 16 heads, by the model_configs of
open_clip; narrower ones have heads of 64."""
OPENAI_NAMES = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.": "ln_pre.",
    "post_layernorm.": "ln_post.",
    "encoder.layers.": "transformer.resblocks.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
    ".self_attn.": ".attn.",
}
"""Parts of Hugging Face's names, and OpenAI's for the same."""


def read_vision(
    path: str | Path, head_width: int | None = None, quick_gelu: bool | None = None
) -> tuple[dict[str, Any], Source]:
    """A CLIP vision tower from a file or folder: its configuration and tensors.

    Args:
        path: tensors in OpenAI's, open_clip's or Hugging Face's layout (of a whole CLIP model or its vision tower
            alone), or a Hugging Face folder.
        head_width: width of an attention head, which no tensor shows. The config.json of a folder goes before it; by
            default 64, and a sixteenth of the width in towers of `WIDE` and wider.
        quick_gelu: whether the activation is OpenAI's approximate GELU; by default what the folder's config.json
            says, else true in towers as OpenAI has published.

    Returns:
        `vision.model` of a policy's configuration, and the tensors.

    Raises:
        ConversionError: the file is of another kind, lacks tensors, or its shapes fit no vision transformer; or nothing
            says the activation of a tower that is not OpenAI's.
    """
    tensors = read_tensors(path)
    expect_family(tensors, path, "a CLIP model", "give the weights of CLIP's vision tower")
    source = vision_source(tensors, str(path))
    said = _folder_config(Path(path))
    width = _width(source)
    if said:  # what a config.json leaves out is as in transformers' CLIPVisionConfig
        head_width = width // said.get("num_attention_heads", 12)
    elif head_width is None:
        head_width = 64 if width < WIDE else width // 16
    if quick_gelu is None:
        if not said and width >= WIDE:
            raise ConversionError(
                f"{path} is a vision tower of width {width}, which OpenAI has none of, and says nothing of its "
                "activation: give --quick-gelu, or --no-quick-gelu for most of open_clip's."
            )
        quick_gelu = said.get("hidden_act", "quick_gelu") == "quick_gelu"
    return vision_model(source, head_width, quick_gelu), source


def vision_model(source: Source, head_width: int, quick_gelu: bool) -> dict[str, Any]:
    """`vision.model` of a policy's configuration, as the tensors show. Raises ConversionError where they do not."""
    visual = {name.removeprefix(VISION): tensor for name, tensor in source.tensors.items()}
    needed = ("conv1.weight", "positional_embedding", "class_embedding", "transformer.resblocks.0.mlp.c_fc.weight")
    if absent := [name for name in needed if name not in visual]:
        raise ConversionError(f"{source.path} holds no whole vision tower of CLIP: {', '.join(absent)} is missing.")
    if visual["conv1.weight"].dim() != 4:
        raise ConversionError(
            f"{source.names[VISION + 'conv1.weight']} of {source.path} is {tuple(visual['conv1.weight'].shape)}, but "
            "(width, 3, patch, patch) is expected of a vision transformer."
        )
    width, _, patch, _ = visual["conv1.weight"].shape
    if not 0 < head_width <= width or width % head_width:
        raise ConversionError(
            f"{source.names[VISION + 'conv1.weight']} of {source.path} is {tuple(visual['conv1.weight'].shape)}, but "
            f"heads of {head_width} do not divide a width of {width}; give the width of the tower's attention heads."
        )
    blocks = [int(name.split(".")[2]) for name in visual if name.startswith("transformer.resblocks.")]
    return {
        "model_type": "clip_vit",
        "image_size": math.isqrt(len(visual["positional_embedding"]) - 1) * patch,
        "patch_size": patch,
        "width": width,
        "layers": 1 + max(blocks),
        "heads": width // head_width,
        "mlp_width": len(visual["transformer.resblocks.0.mlp.c_fc.weight"]),
        "quick_gelu": quick_gelu,
    }


def _width(source: Source) -> int:
    """Of a vision transformer; 0 where there is none, which `vision_model` refuses."""
    first = source.tensors.get(f"{VISION}conv1.weight")
    return 0 if first is None else len(first)


def vision_source(tensors: Tensors, path: str) -> Source:
    """The tensors of a CLIP model that the tower has, under their names in a policy."""
    source = Source(path)
    marks = ("class_embedding", "embeddings.class_embedding")
    prefixes = ("visual.", "vision_model.", "vision_encoder.visual.", "vision_encoder.", "")
    prefix = next((p for p in prefixes if any(p + mark in tensors for mark in marks)), "visual.")
    merged: dict[str, dict[str, str]] = {}  # in_proj tensor -> which of q, k, v -> name in the file
    for original, tensor in tensors.items():
        name = original.removeprefix(prefix)
        if not original.startswith(prefix):
            source.ignored[original] = "not of the vision tower"
            continue
        for theirs, ours in OPENAI_NAMES.items():
            name = name.replace(theirs, ours)
        if name.startswith("ln_post.") or name == "proj":
            source.ignored[original] = "comes after the patch tokens"
        elif name == "embeddings.position_ids":
            source.ignored[original] = "a buffer of older versions"
        elif part := re.fullmatch(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)", name):
            merged.setdefault(f"{part[1]}in_proj_{part[3]}", {})[part[2]] = original
        else:
            source.add(VISION + name, tensor, original)
    for name, parts in merged.items():
        if len(parts) < 3:
            raise ConversionError(
                f"{path} holds {', '.join(parts.values())} alone; queries, keys and values are needed."
            )
        originals = [parts[letter] for letter in "qkv"]
        source.add(VISION + name, torch.cat([tensors[part] for part in originals]), " + ".join(originals))
    return source


def _folder_config(path: Path) -> dict[str, Any]:
    """The vision part of the config.json of a Hugging Face folder; empty when there is none."""
    file = path / "config.json"
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversionError(f"{file} is not valid JSON ({error}); copy the folder again.") from error
    return values.get("vision_config", values)
