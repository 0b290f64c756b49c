"""What MCIL and HULC see."""

import pytest
import torch

from rf_agent.baselines.config import PerceptualEncoderConfig
from rf_agent.baselines.model import Sentence
from rf_agent.baselines.perception import PerceptualEncoder, SpatialSoftmax


def test_spatial_softmax_says_where_a_feature_is():
    layer = SpatialSoftmax(9, 2, 1)
    with torch.no_grad():
        layer.features.weight.copy_(torch.tensor([[4.0, 0.0]]))
    tokens = torch.zeros(3, 9, 2)
    tokens[0, 5, 0] = tokens[1, 6, 0] = 1.0  # middle row at the right, last row at the left
    tokens[2, :, 1] = 7.0  # another feature, everywhere
    expected = torch.tensor([[0.0, 1.0], [1.0, -1.0], [0.0, 0.0]])
    torch.testing.assert_close(layer(tokens), expected, atol=1e-4, rtol=0)


def test_places_differ_from_the_first_step_on():
    """Tokens are normalised; a softmax over their plain projections would say the middle for every frame."""
    torch.manual_seed(0)
    places = SpatialSoftmax(49, 192, 64)(torch.randn(20, 49, 192))
    assert places.std(dim=0).mean() > 0.25 and places.abs().max() <= 1


@pytest.mark.parametrize("keypoints", ["all", "first"])
def test_embeddings_of_views_stand_side_by_side_before_the_sentence(keypoints):
    torch.manual_seed(0)
    config = PerceptualEncoderConfig(keypoints=keypoints, channels=4, flat_channels=3, hidden=(8,), width=6)
    encoder = PerceptualEncoder(2, 9, 5, 7, config)
    tokens, sentence = torch.randn(3, 2, 9, 5), Sentence(torch.randn(3, 7), torch.zeros(3, 1, 7), torch.ones(3, 1))
    before = encoder(tokens, sentence)
    assert before.shape == (3, encoder.dim) == (3, 19)
    assert torch.equal(before[:, 12:], sentence.embedding)
    tokens[:, 1] += torch.randn(9, 5)  # of the second view alone
    after = encoder(tokens, sentence)
    assert torch.equal(after[:, :6], before[:, :6]) and not torch.equal(after[:, 6:12], before[:, 6:12])
    assert isinstance(encoder.views[1][0], SpatialSoftmax) == (keypoints == "all")
