import pytest
import torch
from transformers import GPT2Config, GPT2Model

from rf_agent.calvin_robot import calvin
from rf_agent.config import ActionConfig, ConfigError, HeadConfig
from rf_agent.nn.heads import HEADS, History, PolicyHead, append, build_head, max_pool, mean_pool

CONFIG = dict(hidden=12, layers=2, heads=3, window=4, chunk_size=3, dropout=0.0, mlp=(8,))
ACTION, STATE = ActionConfig(dim=7, gripper=6), calvin()["state"]
WITH_HISTORY = ["gpt", "lstm", "rt1"]
REGRESSING = [name for name, head in sorted(HEADS.items()) if head.act is PolicyHead.act]


def make(kind, dim=10, **changes):
    torch.manual_seed(0)
    return build_head(dim, HeadConfig(type=kind, **CONFIG | changes), ACTION, STATE, vision_dim=6).eval()


@pytest.fixture(params=["fc", "fc_hist", "gpt", "lstm"])  # those that regress
def head(request):
    return make(request.param)


def test_shapes_and_range(head):
    pose, gripper = head.window(100 * torch.randn(2, 4, head.feature_dim))
    assert pose.shape == (2, 4, 3, 6) and gripper.shape == (2, 4, 3)
    assert pose.abs().max() <= 1


@pytest.mark.parametrize("kind", REGRESSING)
def test_chunks_are_laid_out_action_by_action(kind):
    """As in the reference: entry k * 6 + j of the pose MLP is dimension j of the k-th action."""
    head, x = make(kind), torch.randn(1, 12)
    assert torch.equal(head.act(x)[0][0, 2, 1], head.actions(x).tanh()[0, 2 * 6 + 1])


@pytest.mark.parametrize("kind", WITH_HISTORY)
def test_stepping_equals_the_window_that_ends_with_the_step(kind):
    head = make(kind)
    features = torch.randn(2, 9, 10)
    history = head.empty_history(2)
    for t in range(9):
        pose, gripper, history = head.step(features[:, t], history)
        expected_pose, expected_gripper = head.window(features[:, max(0, t - 3) : t + 1])
        torch.testing.assert_close(pose, expected_pose[:, -1], atol=1e-6, rtol=0)
        torch.testing.assert_close(gripper, expected_gripper[:, -1], atol=1e-6, rtol=0)


def test_staggered_chains_of_the_papers_lstm_are_exact():
    """At full depth and window, over more steps than the window has."""
    head = make("lstm", dim=32, hidden=48, layers=4, window=12)
    features = torch.randn(1, 30, 32)
    history, worst = head.empty_history(1), 0.0
    for t in range(30):
        pose, _, history = head.step(features[:, t], history)
        expected = head.window(features[:, max(0, t - 11) : t + 1])[0][:, -1]
        worst = max(worst, (pose - expected).abs().max().item())
    assert worst < 1e-6


@pytest.mark.parametrize("kind", WITH_HISTORY)
def test_environments_with_histories_of_different_length(kind):
    head = make(kind)
    features = torch.randn(2, 7, 10)
    history = head.empty_history(2)
    for t in range(7):
        if t == 5:  # the second environment restarts
            history = history._replace(length=history.length * torch.tensor([1, 0]))
        pose, _, history = head.step(features[:, t], history)
    torch.testing.assert_close(pose[0], head.window(features[:1, 3:])[0][0, -1])
    torch.testing.assert_close(pose[1], head.window(features[1:, 5:])[0][0, -1])


def test_step_leaves_the_given_history_alone(head):
    history = head.empty_history(1, (5,))
    if head.frames > 1:
        append(history, torch.randn(1, 5))
    else:
        head.step(torch.randn(1, head.feature_dim), history)
    assert history.length.item() == 0 and not history.memory.any()


def test_histories_drop_the_oldest():
    history = History(torch.zeros(2, 3, 1), torch.tensor([0, 2]))
    for value in (1.0, 2.0):
        history = append(history, torch.tensor([[value], [10 * value]]))
    assert history.memory[..., 0].tolist() == [[1, 2, 0], [0, 10, 20]]
    assert history.length.tolist() == [2, 3]


@pytest.mark.parametrize("kind", WITH_HISTORY)
def test_too_long_a_window_is_refused(kind):
    with pytest.raises(ValueError, match="window of 5 steps"):
        make(kind).window(torch.randn(1, 5, 10))


def test_looks_of_the_head_without_history_do_not_mix():
    head = make("fc")
    features = torch.randn(1, 9, 12)
    pose, _ = head.window(features)
    torch.testing.assert_close(pose[:, 6:7], head.window(features[:, 6:7])[0])


def test_unknown_heads_and_values_are_refused():
    with pytest.raises(ConfigError, match="fc, fc_hist, gpt, .*lstm"):
        build_head(10, HeadConfig(type="mamba"), ACTION)
    with pytest.raises(ConfigError, match="head.hidden is 12, which 5"):
        make("gpt", heads=5)
    with pytest.raises(ConfigError, match="frame_position.*fc_hist"):
        make("lstm", frame_position=True)


def size(module):
    return sum(p.numel() for p in module.parameters())


def test_sizes_of_the_papers_heads():
    assert size(build_head(2048, HeadConfig(), ACTION)) == 41_194_759
    assert size(build_head(2560, HeadConfig(), ACTION)) == 43_291_911
    assert size(build_head(4096, HeadConfig(), ACTION)) == 49_583_367
    gpt = build_head(2048, HeadConfig(type="gpt", hidden=768, layers=8), ACTION)
    assert round(size(gpt) / 1e6, 2) == 61.18


def test_gpt_trunk_is_gpt2_and_reads_its_weights():
    head = make("gpt")
    model = GPT2Model(GPT2Config(vocab_size=1, n_positions=4, n_embd=12, n_layer=2, n_head=3)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    theirs = {f"gpt.{k}": v for k, v in model.state_dict().items() if k != "wte.weight"}
    for i in range(2):  # buffers that old versions save
        theirs[f"gpt.h.{i}.attn.bias"] = torch.ones(1, 1, 12, 12)
        theirs[f"gpt.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    ours = head.reference_tensors(theirs)
    head.gpt.load_state_dict({k.removeprefix("gpt."): v for k, v in ours.items()})
    x = torch.randn(2, 4, 12)
    torch.testing.assert_close(head.gpt(x), model(inputs_embeds=x).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_gpt_projects_features_only_where_widths_differ():
    assert isinstance(make("gpt", dim=12).fc, torch.nn.Identity)
    assert make("gpt").fc.weight.shape == (12, 10)


def test_pools_skip_padding():
    hidden = torch.tensor([[[1.0, -5.0], [0.0, -2.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert max_pool(hidden, mask).tolist() == [[1.0, -2.0]]
    assert mean_pool(hidden, mask).tolist() == [[0.5, -3.5]]


def test_the_mlp_pools_after_its_layers():
    head = make("fc")
    hidden, mask = torch.randn(2, 5, 10), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    expected = torch.stack([head.mlp(hidden[0]).amax(0), head.mlp(hidden[1, :2]).amax(0)])
    torch.testing.assert_close(head.feature(hidden, mask), expected)
    mean = make("fc", pooling="mean")
    torch.testing.assert_close(mean.feature(hidden, mask)[1], mean.mlp(hidden[1, :2]).mean(0))


def test_proprioception_reads_pose_and_last_gripper_action(head):
    kind = next(name for name, cls in HEADS.items() if type(head) is cls)
    head = make(kind, proprioception=True)
    hidden, mask, robot = torch.randn(1, 3, 10), torch.ones(1, 3), torch.randn(1, 15)
    robot[:, -1] = 1.0
    feature = head.feature(hidden, mask, robot)
    assert feature.shape == (1, head.feature_dim)
    for column, matters in ((0, True), (5, True), (6, False), (13, False)):
        other = robot.clone()
        other[:, column] += 1.0
        assert torch.equal(head.feature(hidden, mask, other), feature) != matters
    assert not torch.equal(head.feature(hidden, mask, robot * torch.tensor([1.0] * 14 + [-1.0])), feature)
    torch.testing.assert_close(head.feature(hidden, mask, robot[:, [0, 1, 2, 3, 4, 5, 14]]), feature)
    with pytest.raises(ValueError, match="no state of the robot"):
        head.feature(hidden, mask)


def test_reference_names_of_proprioception():
    head = make("lstm", proprioception=True)
    names = {"arm": "embed_arm_state.0", "gripper": "embed_gripper_state.0", "join": "embed_state"}
    theirs = {}
    for name, tensor in head.state_dict().items():
        _, part, rest = name.split(".", 2) if name.startswith("proprioception") else ("", "", name)
        theirs[f"{names[part]}.{rest}" if part else name] = tensor
    assert any(name.startswith("embed_state.") for name in theirs)
    assert head.reference_tensors(theirs).keys() == head.state_dict().keys()
