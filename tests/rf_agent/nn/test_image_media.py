"""Images without a robot: one view where a policy has two, and several images in one text."""

import pytest
import torch

from rf_agent.nn.cross_attention import MaskedCrossAttention
from rf_agent.nn.flamingo import Flamingo
from rf_agent.presets import preset

IMAGE = 2
ONE = torch.tensor([[IMAGE, 10, 11, 12]])
TWO = torch.tensor([[IMAGE, 10, IMAGE, 12, 13]])


def make(*changes):
    torch.manual_seed(0)
    return Flamingo(preset("roboflamingo-test").changed(changes), IMAGE).eval()


def pixels(n=1, images=1):
    return torch.randn(n, images, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["post", "pre", "separate", "two_way"])
def test_an_image_stands_in_the_place_of_the_first_view(fusion):
    model = make(f"fusion={fusion}")
    media = model.image_media(pixels())
    assert media.shape == (1, 4, 32)  # the latents of one view
    both = model.encode_vision(pixels().expand(1, 2, 3, 32, 32))
    torch.testing.assert_close(model.encode_vision(pixels()), both[:, :1])
    torch.testing.assert_close(media, model.perceiver(both[:, 0]))
    assert model.logits(media, ONE, images=1).shape == (1, 4, 320)


@torch.no_grad()
def test_one_image_is_read_as_the_media_of_one_view():
    model = make()
    media = model.image_media(pixels())
    torch.testing.assert_close(model.logits(media, ONE, images=1), model.logits(media, ONE))


@torch.no_grad()
def test_positions_that_are_asked_for_alone():
    model = make()
    media, tokens = model.image_media(pixels(2)), ONE.expand(2, 4)
    whole = model.logits(media, tokens, images=1)
    some = model.logits(media, tokens, images=1, at=torch.tensor([3, 1]))
    torch.testing.assert_close(some, torch.stack([whole[0, 3], whole[1, 1]]))


@torch.no_grad()
def test_text_is_about_the_last_image_before_it():
    model = make()
    first, second = (model.image_media(pixels(1, 3)[:, i : i + 1]) for i in (0, 1))
    both = torch.cat((first, second), dim=1)
    logits = model.logits(both, TWO, images=2)
    torch.testing.assert_close(logits[:, :2], model.logits(first, TWO[:, :2], images=1))
    # text with one image sees nothing of a second one
    torch.testing.assert_close(model.logits(both, ONE, images=2), model.logits(first, ONE, images=1))
    other = model.logits(torch.cat((first, first), dim=1), TWO, images=2)
    torch.testing.assert_close(other[:, :2], logits[:, :2])
    assert not torch.allclose(other[:, 2:], logits[:, 2:])


@torch.no_grad()
def test_masked_attention_is_that_to_the_media_of_the_mask():
    layer = MaskedCrossAttention(16, 24, heads=2, head_dim=8)
    x, media, sees = torch.randn(1, 3, 16), torch.randn(1, 6, 24), torch.ones(1, 3, 1)
    mask = torch.tensor([[[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]]]).bool()
    out = layer(x, media, sees, mask)
    torch.testing.assert_close(out[:, :2], layer(x, media[:, :3], sees)[:, :2])
    torch.testing.assert_close(out[:, 2:], layer(x, media[:, 3:], sees)[:, 2:])


@torch.no_grad()
def test_text_before_all_images_sees_none():
    model = make()
    tokens = torch.tensor([[9, IMAGE, 10, IMAGE, 11]])  # a beginning-of-text token, as Llama's tokenizer adds
    one, other = (model.logits(model.image_media(pixels(1, 4)[:, i : i + 2]), tokens, images=2) for i in (0, 2))
    assert one.isfinite().all() and torch.equal(one[:, 0], other[:, 0])
    assert not torch.allclose(one[:, 1], other[:, 1])
