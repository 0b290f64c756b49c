"""Small files in the layouts in which R3M and Voltron were published, with random weights."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import DistilBertConfig, DistilBertForMaskedLM, DistilBertModel, PreTrainedTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "push", "the", "red", "block", "open", "drawer"]
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 32}


class Runs:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def save_tokenizer(folder):
    """A tokenizer of whole words that marks beginning and end, as BERT's."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    special = {f"{name}_token": token for name, token in names.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def distilbert(masked=False):
    """A small DistilBERT with dropout, as the published one has."""
    torch.manual_seed(7)
    config = DistilBertConfig(vocab_size=len(WORDS), **DISTILBERT)
    return (DistilBertForMaskedLM if masked else DistilBertModel)(config).eval()


def save_distilbert(folder):
    """Its folder: with the head for masked words, as distilbert-base-uncased is published, and the tokenizer."""
    distilbert(masked=True).save_pretrained(folder)
    return save_tokenizer(folder)


def norm(name, width):
    return {
        f"{name}.weight": torch.rand(width) + 0.5,
        f"{name}.bias": torch.randn(width),
        f"{name}.running_mean": torch.randn(width),
        f"{name}.running_var": torch.rand(width) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(9),
    }


def resnet(bottleneck):
    """Tensors of a torchvision ResNet of two stages with two blocks and one: widths 8 and 16, at the end 16 or 64."""
    torch.manual_seed(3)
    expansion, before = (4, 8) if bottleneck else (1, 8)
    tensors = {"conv1.weight": 0.2 * torch.randn(8, 3, 7, 7), **norm("bn1", 8)}
    for stage, (width, blocks) in enumerate(((8, 2), (16, 1)), start=1):
        for block in range(blocks):
            name, out = f"layer{stage}.{block}", width * expansion
            shapes = [(width, before, 1), (width, width, 3), (out, width, 1)]
            for i, (o, c, k) in enumerate(shapes if bottleneck else [(width, before, 3), (width, width, 3)], start=1):
                tensors |= {f"{name}.conv{i}.weight": 0.2 * torch.randn(o, c, k, k), **norm(f"{name}.bn{i}", o)}
            if before != out:
                tensors[f"{name}.downsample.0.weight"] = 0.2 * torch.randn(out, before, 1, 1)
                tensors |= norm(f"{name}.downsample.1", out)
            before = out
    return tensors


def save_r3m(path, bottleneck=True, **changes):
    """R3M's model.pt; `changes` replace tensors, None takes them out."""
    tensors = {f"module.convnet.{name}": tensor for name, tensor in resnet(bottleneck).items()}
    tensors |= {f"module.lang_enc.model.{name}": tensor for name, tensor in distilbert().state_dict().items()}
    tensors |= {"module.lang_rew.pred.0.weight": torch.randn(4, 144), "module.lang_rew.pred.0.bias": torch.randn(4)}
    tensors |= changes
    content = {"r3m": {name: tensor for name, tensor in tensors.items() if tensor is not None}, "global_step": 5}
    torch.save(content, path)
    return path


def vcond():
    """Tensors of a V-Cond: 32 px, patches of 8, width 32, two blocks of two heads."""
    torch.manual_seed(5)
    w, hidden, decoder = 32, 40, 16
    shapes = {
        "patch2embed.proj.weight": (w, 3, 8, 8),
        "patch2embed.proj.bias": (w,),
        "encoder_pe": (1, 16, w),
        "encoder_norm.g": (w,),
        "lang2encoder.weight": (w, DISTILBERT["dim"]),
        "lang2encoder.bias": (w,),
        "img_token": (1, 1, w),
        "lang_token": (1, 1, w),
        "encoder2decoder.weight": (decoder, w),
        "encoder2decoder.bias": (decoder,),
        "mask_token": (1, 1, decoder),
        "decoder_pe": (1, 16, decoder),
        "decoder_norm.g": (decoder,),
        "decoder_prediction.weight": (192, decoder),
        "decoder_prediction.bias": (192,),
    }
    for kind, dim, count in (("encoder", w, 2), ("decoder", decoder, 1)):
        for block in range(count):
            name = f"{kind}_blocks.{block}"
            shapes |= {f"{name}.{part}": (dim,) for part in ("pre_norm_attn.g", "layer_scale_attn.gamma")}
            shapes |= {f"{name}.{part}": (dim,) for part in ("pre_norm_mlp.g", "layer_scale_mlp.gamma")}
            for part, (o, i) in {
                "attn.qkv": (3 * dim, dim),
                "attn.proj": (dim, dim),
                "mlp.0.project": (2 * hidden, dim),
                "mlp.2": (dim, hidden),
            }.items():
                shapes |= {f"{name}.{part}.weight": (o, i), f"{name}.{part}.bias": (o,)}
    tensors = {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}
    return tensors | {f"lm.{name}": tensor for name, tensor in distilbert().state_dict().items()}


def save_voltron(path, **changes):
    """Voltron's v-cond.pt: the tensors and the optimiser's state; `changes` as in `save_r3m`."""
    tensors = vcond() | changes
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save(({name: tensor for name, tensor in tensors.items() if tensor is not None}, optimizer), path)
    return path
