import pytest
import torch

from rf_agent.checkpoint import unique_tensors
from rf_agent.config import ConfigError
from rf_agent.nn.flamingo import Flamingo
from rf_agent.nn.fusion import arrange, with_other_resamplers
from rf_agent.presets import preset

IMAGE = 2
TOKENS = torch.tensor([[IMAGE, 10, 11, 1], [IMAGE, 12, 1, 3]])


def make(fusion):
    torch.manual_seed(0)
    return Flamingo(preset("roboflamingo-test").changed([f"fusion={fusion}"]), IMAGE).eval()


def vision(n=2):
    torch.manual_seed(1)
    return torch.randn(n, 2, 16, 32)


def test_pre_resamples_all_views_together():
    model, tokens = make("pre"), vision()
    media = model.media(tokens)
    assert media.shape == (2, 4, 32)  # the latents of one view
    torch.testing.assert_close(media, model.perceiver(tokens.flatten(1, 2)))


def test_separate_resamplers_begin_alike_and_learn_apart():
    model, tokens = make("separate"), vision()
    assert torch.equal(model.media(tokens), make("post").media(tokens))
    with torch.no_grad():
        model.other_perceivers[0].latents.add_(1.0)
    media = model.media(tokens)
    torch.testing.assert_close(media[:, :4], model.perceiver(tokens[:, 0]))
    torch.testing.assert_close(media[:, 4:], model.other_perceivers[0](tokens[:, 1]))
    assert not torch.allclose(media[:, 4:], model.perceiver(tokens[:, 1]))


def test_two_way_reads_the_text_with_each_view():
    two_way, post = make("two_way"), make("post")
    media = two_way.media(vision())
    hidden = two_way.hidden(media, TOKENS)
    assert hidden.shape == (2, 4, 32) and two_way.feature_dim == 2 * two_way.dim
    for view, part in enumerate(hidden.chunk(2, dim=-1)):
        alone = post.hidden(media[:, 4 * view : 4 * view + 4], TOKENS)
        torch.testing.assert_close(part, alone, atol=1e-6, rtol=1e-5)


def test_two_way_with_several_texts_for_each_frame():
    model = make("two_way")
    media, texts = model.media(vision()), torch.cat((TOKENS, TOKENS.flip(0)))  # two texts for each of two frames
    both = model.hidden(media, texts)
    torch.testing.assert_close(both[2:], model.hidden(media[1:], texts[2:]), atol=1e-6, rtol=1e-5)
    logits = model.logits(media, texts)
    halves = [make("post").logits(part, texts) for part in media.chunk(2, dim=1)]
    torch.testing.assert_close(logits, (halves[0] + halves[1]) / 2, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="3 texts for 2 frames"):
        model.hidden(media, texts[:3])


def test_media_of_a_history_go_view_by_view_and_latent_by_latent():
    frames, views, latents = 3, 2, 4
    frame, view, latent = torch.meshgrid(*map(torch.arange, (frames, views, latents)), indexing="ij")
    media = arrange((100 * view + 10 * latent + frame)[None, ..., None])[0, :, 0].tolist()
    assert media[:7] == [0, 1, 2, 10, 11, 12, 20] and media[12:15] == [100, 101, 102]


def test_one_resampler_becomes_several():
    shared = unique_tensors(make("post"))
    assert shared.keys() == unique_tensors(make("pre")).keys() == with_other_resamplers(shared, 1).keys()
    several = with_other_resamplers(shared, 2)
    assert several.keys() == unique_tensors(make("separate")).keys()
    assert torch.equal(several["other_perceivers.0.norm.bias"], shared["perceiver.norm.bias"])
    kept = with_other_resamplers({**several, "other_perceivers.0.norm.bias": torch.ones(32)}, 2)
    assert kept["other_perceivers.0.norm.bias"].all()


def test_unknown_fusions_are_refused():
    with pytest.raises(ConfigError, match="fusion is 'late'.*post, pre, separate, two_way"):
        make("late")
