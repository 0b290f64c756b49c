import pytest
import torch

from rf_agent.config import ConfigError, HeadConfig
from rf_agent.nn.heads import HEADS, build_head, max_pool

CONFIG = dict(hidden=12, layers=2, window=4, chunk=3, dropout=0.0, mlp=(8,))


@pytest.fixture(params=sorted(HEADS))
def head(request):
    torch.manual_seed(0)
    return build_head(10, HeadConfig(type=request.param, **CONFIG)).eval()


def test_shapes_and_range(head):
    pose, gripper = head.window(100 * torch.randn(2, 4, 10))
    assert pose.shape == (2, 4, 3, 6) and gripper.shape == (2, 4, 3)
    assert pose.abs().max() <= 1


def test_stepping_equals_the_window_that_ends_with_the_step(head):
    features = torch.randn(2, 9, 10)
    history = head.empty_history(2)
    for t in range(9):
        pose, gripper, history = head.step(features[:, t], history)
        expected_pose, expected_gripper = head.window(features[:, max(0, t - 3) : t + 1])
        torch.testing.assert_close(pose, expected_pose[:, -1])
        torch.testing.assert_close(gripper, expected_gripper[:, -1])


def test_environments_with_histories_of_different_length(head):
    features = torch.randn(2, 3, 10)
    history = head.empty_history(2)
    for t in range(3):
        if t == 2:  # the second environment restarts
            history = history._replace(length=torch.tensor([2, 0]))
        pose, _, history = head.step(features[:, t], history)
    torch.testing.assert_close(pose[0], head.window(features[:1])[0][0, -1])
    torch.testing.assert_close(pose[1], head.window(features[1:, 2:])[0][0, -1])


def test_step_leaves_the_given_history_alone(head):
    history = head.empty_history(1)
    head.step(torch.randn(1, 10), history)
    assert history.length.item() == 0 and not history.features.any()


def test_too_long_a_window_is_refused(head):
    with pytest.raises(ValueError, match="window of 5 looks"):
        head.window(torch.randn(1, 5, 10))


def test_unknown_head_is_refused():
    with pytest.raises(ConfigError, match="lstm"):
        build_head(10, HeadConfig(type="mamba"))


def test_size_of_the_papers_lstm_head():
    head = build_head(2048, HeadConfig())
    assert sum(p.numel() for p in head.parameters()) == 41_194_759


def test_max_pool_skips_padding():
    hidden = torch.tensor([[[1.0, -5.0], [0.0, -2.0], [9.0, 9.0]]])
    assert max_pool(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[1.0, -2.0]]
