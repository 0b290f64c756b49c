"""Small folders in the layout of the reference implementation's files, with random weights of ours.

They show that the conversion finds every tensor in that layout: what is converted must act as the policy that the
folder was made from. The names here are written out from the reference's, independently of `rf_agent.weights`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rf_agent.calvin_robot import calvin
from rf_agent.config import HeadConfig, ImageConfig, LanguageConfig, ResamplerConfig, RoboFlamingoConfig, VisionConfig
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import CLIP_MEAN, CLIP_STD
from rf_agent.tokenizer import add_flamingo_tokens

WIDTH, ROWS = 32, 280
"""Width of the language models, and rows of their token tables: more than there are tokens, as in MPT-1B."""

LANGUAGES: dict[str, dict[str, Any]] = {
    "mosaic": {"model_type": "mosaic_gpt", "d_model": WIDTH, "n_heads": 2, "n_layers": 3, "max_seq_len": 64},
    "neox": {
        "model_type": "gpt_neox",
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "rotary_pct": 1.0,
        "use_parallel_residual": False,
        "tie_word_embeddings": False,
    },
    "llama": {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
    },
    "mpt": {"model_type": "mpt", "d_model": WIDTH, "n_heads": 2, "n_layers": 4, "max_seq_len": 64},
    "opt": {
        "model_type": "opt",
        "hidden_size": WIDTH,
        "ffn_dim": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": WIDTH,
    },
}
LAYERS = {
    "mosaic": "transformer.blocks",
    "neox": "gpt_neox.layers",
    "llama": "model.layers",
    "mpt": "transformer.blocks",
    "opt": "model.decoder.layers",
}
EVERY = {"mosaic": 1, "neox": 2, "llama": 4, "mpt": 4, "opt": 2}

HEADS = {
    "lstm": HeadConfig(hidden=12, layers=2, window=4, mlp=(16, 8)),
    "gpt": HeadConfig(type="gpt", hidden=16, layers=2, window=4, mlp=(16, 8)),
    "gpt_wide": HeadConfig(type="gpt", hidden=WIDTH, layers=1, window=4, mlp=(16,)),
    "fc": HeadConfig(type="fc", hidden=12, layers=1, window=4, mlp=(16, 8)),
    "fc_hist": HeadConfig(type="fc_hist", hidden=12, layers=1, window=4, mlp=(16, 8)),
    "state": HeadConfig(hidden=12, layers=2, window=4, mlp=(16, 8), pooling="mean", proprioception=True),
    "k5": HeadConfig(hidden=12, layers=2, window=4, mlp=(16, 8), chunk_size=5),
}


def make_case(
    folder: Path, language: str = "neox", head: str = "lstm", fusion: str = "post", seed: int = 0
) -> RoboFlamingoPolicy:
    """Write a folder, and return the policy that it holds.

    Args:
        folder: is made.
        language: one of `LANGUAGES`. head: one of `HEADS`. fusion: as in a policy's configuration.
    """
    folder.mkdir(parents=True)
    tokenizer = _tokenizer(bos=language == "llama")
    tokenizer.save_pretrained(folder / "lm")
    add_flamingo_tokens(tokenizer)
    config = RoboFlamingoConfig(
        image=ImageConfig(size=28, mean=CLIP_MEAN, std=CLIP_STD, resample="bicubic"),
        vision=VisionConfig(
            model={
                "model_type": "clip_vit",
                "image_size": 28,
                "patch_size": 14,
                "width": 24,
                "layers": 2,
                "heads": 3,
                "mlp_width": 48,
                "quick_gelu": language != "mpt",
            },
            position_embedding=False,
        ),
        resampler=ResamplerConfig(layers=2, latents=3, heads=1, head_dim=64, ff_mult=2),
        language=LanguageConfig(
            model=LANGUAGES[language] | {"vocab_size": len(tokenizer)},
            cross_attention_every=EVERY[language],
            heads=1,
            head_dim=64,
            ff_mult=2,
            initial_gate=0.5,
            lm_feature="last_block_input" if language == "mosaic" else "final_norm",
            max_tokens=32,
        ),
        head=replace(HEADS[head], pool_padding=True),
        fusion=fusion,
        **calvin(),
        trained=True,
    )
    torch.manual_seed(seed + 1)
    base = RoboFlamingoPolicy(config, tokenizer)
    torch.manual_seed(seed)
    policy = RoboFlamingoPolicy(config, tokenizer).eval()
    _write_language_model(folder / "lm", base, language)
    vision = {f"visual.{name}": tensor for name, tensor in policy.vlm.vision_encoder.model.state_dict().items()}
    vision |= {"visual.ln_post.weight": torch.ones(24), "visual.ln_post.bias": torch.zeros(24)}
    torch.save(vision | {"visual.proj": torch.eye(24)}, folder / "vision.pt")
    _adopt_base(policy, base)
    torch.save(openflamingo_tensors(base, language), folder / "openflamingo.pt")
    trained = {f"module.{name}": tensor for name, tensor in roboflamingo_tensors(policy, language).items()}
    torch.save({"epoch": 4, "model_state_dict": trained}, folder / "roboflamingo.pt")
    (folder / "case.json").write_text(json.dumps(_case(config)))
    return policy


def flamingo_tensors(policy: RoboFlamingoPolicy, language: str) -> dict[str, Tensor]:
    """Resampler, cross-attention (as in version 2) and token embedding, under the reference's names."""
    tensors = {f"perceiver.{name}": tensor for name, tensor in policy.vlm.perceiver.state_dict().items()}
    for i, perceiver in enumerate(policy.vlm.other_perceivers):
        assert i == 0
        tensors |= {f"perceiver_gripper.{name}": tensor for name, tensor in perceiver.state_dict().items()}
    for name, tensor in policy.vlm.gated_cross_attn_layers.state_dict().items():
        index, rest = name.split(".", 1)
        tensors[f"lang_encoder.{LAYERS[language]}.{index}.gated_cross_attn_layer.{rest}"] = tensor
    for name, tensor in policy.vlm.lang_encoder.state_dict().items():
        if re.search(r"(wte|embed_in|embed_tokens)\.weight$", name):
            tensors[f"lang_encoder.{name}"] = tensor
    return tensors


def openflamingo_tensors(policy: RoboFlamingoPolicy, language: str) -> dict[str, Tensor]:
    """A release of OpenFlamingo, version 2, with what came along by accident."""
    tensors = flamingo_tensors(policy, language)
    output = policy.vlm.lang_encoder.get_output_embeddings().weight
    if language == "neox":
        tensors["lang_encoder.embed_out.weight"] = output
        buffer = f"lang_encoder.{LAYERS[language]}.0.decoder_layer.attention"
        tensors |= {
            f"{buffer}.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool),
            f"{buffer}.masked_bias": torch.tensor(0),
        }
        tensors[f"{buffer}.rotary_emb.inv_freq"] = torch.ones(8)
    if language in ("mpt", "opt"):
        tensors["lang_encoder.lm_head.weight"] = output
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def roboflamingo_tensors(policy: RoboFlamingoPolicy, language: str) -> dict[str, Tensor]:
    """What the reference implementation saves: the cross-attention twice, the frozen layers under another name."""
    tensors = flamingo_tensors(policy, language)
    for name, tensor in policy.vlm.gated_cross_attn_layers.state_dict().items():
        tensors[f"lang_encoder.gated_cross_attn_layers.{name}"] = tensor
    for name, tensor in policy.vlm.lang_encoder.state_dict().items():
        if name.startswith(f"{LAYERS[language]}."):
            tensors[f"lang_encoder.old_decoder_blocks.{name[len(LAYERS[language]) + 1 :]}"] = tensor
    head = head_tensors(policy)
    tensors |= {f"lm_head.{name}": tensor for name, tensor in head.items()}
    if policy.config.head.type != "lstm":
        tensors |= {f"action_head.{name}": tensor for name, tensor in head.items()}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def head_tensors(policy: RoboFlamingoPolicy) -> dict[str, Tensor]:
    """The head under the reference's names; GPT-2's matrices are transposed there, and its masks are stored."""
    names = {
        "proprioception.arm.": "embed_arm_state.0.",
        "proprioception.gripper.": "embed_gripper_state.0.",
        "proprioception.join.": "embed_state.",
    }
    tensors = {}
    for name, tensor in policy.head.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if re.search(r"\.(c_attn|c_proj|c_fc)\.weight$", name):
            tensor = tensor.t().contiguous()
        tensors[name] = tensor
        if found := re.fullmatch(r"(gpt\.h\.\d+\.attn\.)c_attn\.bias", name):
            tensors |= {f"{found[1]}bias": torch.ones(1, 1, 4, 4), f"{found[1]}masked_bias": torch.tensor(-1e4)}
    return tensors


def _tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """A byte tokenizer as a language model brings it: no special tokens of OpenFlamingo, perhaps a BOS."""
    special = ["<|endoftext|>", "<|start|>"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|start|> $A", special_tokens=[("<|start|>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], bos_token=special[int(bos)])


def _write_language_model(folder: Path, base: RoboFlamingoPolicy, language: str) -> None:
    """The language model before it had special tokens, its table longer than there are tokens."""
    (folder / "config.json").write_text(json.dumps(LANGUAGES[language] | {"vocab_size": ROWS, "architectures": ["X"]}))
    tensors = {}
    for name, tensor in base.vlm.lang_encoder.state_dict().items():
        if re.search(r"(wte|embed_in|embed_tokens|lm_head|embed_out)\.weight$", name):
            if name == "lm_head.weight" and LANGUAGES[language].get("tie_word_embeddings", True):
                continue
            tensor = torch.cat((tensor, torch.zeros(ROWS - len(tensor), WIDTH)))
        name = "embed_out.weight" if language == "neox" and name == "lm_head.weight" else name
        tensors[name] = tensor.clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def _adopt_base(policy: RoboFlamingoPolicy, base: RoboFlamingoPolicy) -> None:
    """What a RoboFlamingo file does not hold is as in the base: final norm, learned positions, output layer."""
    trained = re.compile(r"(\.\d+\.|wte|embed_in|embed_tokens)")
    frozen = {n: t for n, t in base.vlm.lang_encoder.state_dict().items() if not trained.search(n)}
    if policy.vlm.lang_encoder.get_output_embeddings().weight is policy.vlm.lang_encoder.get_input_embeddings().weight:
        frozen.pop("lm_head.weight", None)
    policy.vlm.lang_encoder.load_state_dict(frozen, strict=False)


def _case(config: RoboFlamingoConfig) -> dict[str, Any]:
    """What tests/parity/case.py reads of a case.json."""
    head, vision = config.head, config.vision.model
    return {
        "decoder_type": {"fc_hist": "fc"}.get(head.type, head.type),
        "fusion_mode": "vit_concat" if head.type == "fc_hist" else config.fusion,
        "window_size": head.window,
        "pooling": "max" if head.pooling == "max" else "avg",
        "pooling_includes_padding": head.pool_padding,
        "lm": {"lm_feature": {"last_block_input": "input_of_last_block"}.get(config.language.lm_feature, "final_norm")},
        "vision": {"head_width": vision["width"] // vision["heads"], "quick_gelu": vision["quick_gelu"]},
    }
