"""Low-rank adapters (LoRA, arXiv:2106.09685) on the layers of the language model, through `peft`.

They are there while a policy is trained. A saved policy has them folded into the weights that they adapt, so that it
loads and acts without `peft`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rf_agent.checkpoint import unique_tensors
from rf_agent.errors import require
from rf_agent.nn.language import decoder_layers
from rf_agent.policy_model import PolicyModel

MARK = ".lora_"
"""What the names of adapters contain."""


def add_adapters(model: PolicyModel, rank: int = 8) -> None:
    """Lay an adapter over every matrix of the decoder layers; does nothing where there are some.

    An adapter begins as zero, so that the policy acts as before.

    Args:
        rank: r; the adapters are scaled by 2 (alpha = 2 r).

    Raises:
        UserError: `peft` is not installed.
        ValueError: the rank is not positive.
    """
    if has_adapters(model):
        return
    if rank < 1:
        raise ValueError(f"the rank of the adapters is {rank}: give 1 or more")
    peft = require("peft", "training with LoRA adapters", "peft")
    layers = decoder_layers(model.language_model)
    matrices = [name for name, module in layers.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    transposed = any(isinstance(module, Conv1D) for module in layers.modules())
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=matrices, fan_in_fan_out=transposed)
    peft.inject_adapter_in_model(settings, layers)
    layers.to(next(model.parameters()).device)


def has_adapters(model: PolicyModel) -> bool:
    """Whether `add_adapters` was called."""
    return any(MARK in name for name, _ in model.named_parameters())


@torch.no_grad()
def folded_tensors(model: PolicyModel) -> dict[str, Tensor]:
    """State dict without aliases, with adapters folded into the weights that they adapt, under the names of those."""
    tensors = unique_tensors(model)
    if not has_adapters(model):
        return tensors
    folded = {name.replace(".base_layer.", "."): tensor for name, tensor in tensors.items() if MARK not in name}
    for name, module in model.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "get_delta_weight"):
            weight = folded[f"{name}.weight"]
            folded[f"{name}.weight"] = (weight + module.get_delta_weight("default")).to(weight.dtype)
    return folded
