"""Text to tokens: the prompt of the policy, and a small tokenizer that can be built offline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

IMAGE, END_OF_CHUNK, PAD, END_OF_TEXT = "<image>", "<|endofchunk|>", "<PAD>", "<|endoftext|>"
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def build_tokenizer(corpus: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer from `corpus`: frequent words become one token, any text can be encoded.

    Args:
        corpus: texts such as instructions and captions; may be empty, then every byte is a token.
        vocab_size: most tokens, counting 256 bytes and 4 special tokens.

    Raises:
        ValueError: `vocab_size` leaves no room for the bytes and special tokens.
    """
    special = [END_OF_TEXT, END_OF_CHUNK, IMAGE, PAD]
    least = 256 + len(special)
    if vocab_size < least:
        raise ValueError(f"vocab_size is {vocab_size}, but bytes and special tokens alone are {least}; give more.")
    tokenizer = Tokenizer(models.BPE())
    # "Push the RED block" and "push the red block" are the same wish, and a small corpus is all lower case
    tokenizer.normalizer = normalizers.Lowercase()
    # A space before the first word too, so that a word is the same token wherever it stands.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[END_OF_CHUNK, IMAGE],
        padding_side="right",
    )


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer in the folder of a language model, from its files alone.

    Raises:
        ValueError: there is none that can be read.
    """
    try:
        if (Path(folder) / "tokenizer.json").is_file():
            return _with_special_tokens(folder)
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{folder} has no tokenizer that can be read ({reason}); give a folder with tokenizer.json."
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{folder} has a {type(tokenizer).__name__}, which has no tokenizer.json; give one that has.")
    if not set(tokenizer("push the block", add_special_tokens=False)["input_ids"]) - {tokenizer.unk_token_id}:
        # transformers makes an empty one where a folder has no tokenizer files
        raise ValueError(f"{folder} has no tokenizer that knows any words; give a folder with tokenizer.json.")
    return tokenizer


def _with_special_tokens(folder: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a tokenizer.json. Where nothing names special tokens, as in BERT's folder, those of its kind."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    if tokenizer.cls_token is None and tokenizer.eos_token is None:
        with contextlib.suppress(OSError, ValueError, KeyError, ImportError):  # a kind that transformers does not know
            usual = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            known = {name: getattr(usual, name, None) for name in SPECIAL_TOKENS if getattr(tokenizer, name) is None}
            words = tokenizer.get_vocab()
            tokenizer.add_special_tokens({name: token for name, token in known.items() if token in words})
    return tokenizer


def add_flamingo_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """Give a language model's tokenizer OpenFlamingo's special tokens, in its order: end of chunk, image, padding."""
    tokenizer.add_special_tokens({"additional_special_tokens": [END_OF_CHUNK, IMAGE]})
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.padding_side = "right"


def prompt(instruction: str, end_of_text: str = END_OF_TEXT) -> str:
    """What the language model reads for an instruction (or any text about one image), as in OpenFlamingo."""
    return f"{IMAGE}{instruction.strip()}{END_OF_CHUNK}{end_of_text}"


def image_token(tokenizer: Any) -> int:
    """Id of `<image>`. Raises ValueError when the tokenizer has no such token."""
    token = tokenizer.convert_tokens_to_ids(IMAGE)
    if token is None or token == tokenizer.unk_token_id:
        raise ValueError(f"the tokenizer has no {IMAGE} token; add it to its special tokens.")
    return token


def encode(tokenizer: Any, texts: Sequence[str], max_length: int = 64, begins: bool = True) -> list[list[int]]:
    """Token ids of texts, each at most `max_length` long.

    Args:
        tokenizer: a `transformers` tokenizer.
        texts: complete ones (see `prompt`), or what goes on where another has ended.
        max_length: in tokens.
        begins: whether each begins a text, so that a tokenizer that marks beginnings does so.
    """
    options = {"truncation": True, "max_length": max_length, "add_special_tokens": begins}
    return [tokenizer(text, **options)["input_ids"] for text in texts]


def encode_pair(tokenizer: Any, given: str, wanted: str, max_length: int = 64) -> tuple[list[int], int]:
    """Token ids of a text about one image that a model is to end itself, and how many of them it is given.

    They are the ids of the whole prompt, except where a token would reach across the border: generation, which begins
    behind the given ones, could never meet such a text.

    Args:
        tokenizer: a `transformers` tokenizer.
        given: the beginning of the text.
        wanted: the rest, with the space that it begins with, if any.
        max_length: in tokens; longer texts are cut at the end.
    """
    (before,) = encode(tokenizer, [IMAGE + given], max_length)
    (whole,) = encode(tokenizer, [prompt(given + wanted, tokenizer.eos_token)], max_length)
    if whole[: len(before)] != before:
        rest = f"{wanted.rstrip()}{END_OF_CHUNK}{tokenizer.eos_token}"
        whole = (before + encode(tokenizer, [rest], max_length, begins=False)[0])[:max_length]
    return whole, len(before)


def pad(sequences: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids (N, L) int64 and the mask (N, L) bool that is true for real tokens."""
    length = max(map(len, sequences))
    tokens = torch.full((len(sequences), length), padding)
    mask = torch.zeros(len(sequences), length, dtype=torch.bool)
    for row, ids in enumerate(sequences):
        tokens[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = True
    return tokens, mask
