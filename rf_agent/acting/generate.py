"""Text about images: a policy's language model ends prompts, one most likely token after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rf_agent.base_policy import evaluating
from rf_agent.nn.language import longest_text
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.tokenizer import END_OF_CHUNK, IMAGE, encode, pad

PROMPT_TOKENS = 1024
"""Most tokens of a prompt, where the language model reads as many."""


@torch.inference_mode()
def generate(
    policy: RoboFlamingoPolicy, images: NDArray[np.uint8], prompts: Sequence[str], max_new_tokens: int = 32
) -> list[str]:
    """What the policy's language model says about images, by greedy decoding.

    The images take the place of the robot's first view. A text does not depend on the others in the batch.

    Args:
        policy: on any device.
        images: uint8 (N, S, S, 3) of the policy's resolution, or (N, I, S, S, 3) where a prompt is about I images.
        prompts: N texts, each with `<image>` where an image stands, I times.
        max_new_tokens: a text ends there, or before with `<|endofchunk|>` or the end of the text, or where with its
            prompt it is as long as the language model reads.

    Returns:
        N texts without special tokens, stripped.

    Raises:
        ValueError: the number of images does not fit the prompts, or a prompt is too long.
    """
    images = images if images.ndim == 5 else images[:, None]
    counts = {prompt.count(IMAGE) for prompt in prompts}
    if len(images) != len(prompts) or counts != {images.shape[1]}:
        raise ValueError(
            f"{len(prompts)} prompts with {sorted(counts)} images were given for images of shape {images.shape}: give "
            f"as many images as there are {IMAGE} in each prompt."
        )
    most = min(PROMPT_TOKENS, (longest_text(policy.language_model) or PROMPT_TOKENS + 1) - 1)
    sequences = encode(policy.tokenizer, prompts, most + 1)
    if max(map(len, sequences)) > most:
        raise ValueError(f"a prompt has more than the {most} tokens that fit before an answer: give a shorter one.")
    with evaluating(policy):
        pixels = normalise(torch.from_numpy(images).to(policy.device), policy.config.image)  # (N, I, 3, S, S)
        said = greedy_tokens(policy, policy.vlm.image_media(pixels), sequences, images.shape[1], max_new_tokens)
    return [text.strip() for text in policy.tokenizer.batch_decode(said, skip_special_tokens=True)]


def greedy_tokens(
    policy: RoboFlamingoPolicy, media: Tensor, sequences: Sequence[Sequence[int]], images: int | None, limit: int
) -> list[list[int]]:
    """The tokens that follow given ones, without the one that ends a text.

    The whole text is read again for every token: what is said is short, and any language model can do that.

    Args:
        policy: whose language model speaks.
        media: (N, m, dv).
        sequences: N token sequences.
        images: as of `rf_agent.nn.flamingo.Flamingo.logits`; None for media of all views.
        limit: most tokens; a text also ends where it is as long as the language model reads.
    """
    tokenizer = policy.tokenizer
    ends = torch.tensor([tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_CHUNK)], device=media.device)
    given, mask = pad(sequences, tokenizer.pad_token_id)
    room = torch.full((len(given), limit), tokenizer.pad_token_id)
    tokens = torch.cat((given, room), dim=1).to(media.device)  # (N, L + limit), each row filled from its own end on
    at = mask.sum(dim=1).to(media.device)  # (N,) where the next token of a row goes
    longest = longest_text(policy.language_model) or tokens.shape[1]
    rows = torch.arange(len(given), device=media.device)  # those that have not ended
    said: list[list[int]] = [[] for _ in sequences]
    for step in range(limit):
        # padding is right of everything, so it changes nothing
        seen = tokens[:, : min(given.shape[1] + step, longest)]
        following = policy.vlm.logits(media, seen, images=images, at=at - 1).argmax(dim=-1)  # (N,)
        (goes_on,) = torch.nonzero(~torch.isin(following, ends), as_tuple=True)
        if not len(goes_on):
            break
        rows, following, media, tokens, at = (x[goes_on] for x in (rows, following, media, tokens, at))
        for row, token in zip(rows.tolist(), following.tolist(), strict=True):
            said[row].append(token)
        tokens[torch.arange(len(rows), device=media.device), at] = following
        at = at + 1
        (goes_on,) = torch.nonzero(at <= longest, as_tuple=True)
        rows, media, tokens, at = (x[goes_on] for x in (rows, media, tokens, at))
        if not len(rows):
            break
    return said
