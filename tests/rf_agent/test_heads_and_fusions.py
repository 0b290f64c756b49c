"""What holds for every head with every fusion."""

import itertools

import numpy as np
import pytest
import torch
from policy_cases import CORPUS, make_observation, make_policy, row

from rf_agent import preprocess
from rf_agent.nn.fusion import FUSIONS
from rf_agent.policy import RoboFlamingoPolicy

HEADS = {
    "lstm": (),
    "gpt": ("head.heads=2",),
    "fc": (),
    "fc_hist": (),
    "fc_hist with places": ("head.frame_position=true",),
    "lstm with state, mean": ("head.proprioception=true", "head.pooling=mean"),
    "fc_hist with state": ("head.proprioception=true",),
}
COMBINATIONS = list(itertools.product(HEADS, FUSIONS))


def make(head, fusion, *changes):
    kind = head.split()[0]
    return make_policy(0, f"head.type={kind}", *HEADS[head], f"fusion={fusion}", "head.n_action_steps=1", *changes)


@pytest.fixture(params=COMBINATIONS, ids=lambda c: f"{c[0]}-{c[1]}", scope="module")
def policy(request):
    policy = make(*request.param)
    if policy.head.position is not None:  # small at first; large enough here to be seen
        torch.nn.init.normal_(policy.head.position)
    return policy


@pytest.fixture(autouse=True)
def fresh(policy):
    policy.reset()


def test_batch_equals_each_alone(policy):
    """Texts of different lengths, histories of different lengths, and more observation steps than the window has."""
    state, states = None, [None] * 3
    for t in range(6):
        starts = np.array([t == 0, t in (0, 2), t == 0])
        observation = make_observation(t, n=3, instruction=list(CORPUS))
        actions, state = policy.predict(observation, state, starts)
        for i in range(3):
            alone, states[i] = policy.predict(row(observation, i), states[i], starts[i : i + 1])
            np.testing.assert_allclose(actions[i], alone, atol=1e-5)


def window_of(policy, observations):
    views = policy.config.views
    pixels = [preprocess.pixels({k: o[k][None] for k in views}, views, policy.config.image) for o in observations]
    robot = torch.from_numpy(np.stack([o["robot_obs"] for o in observations])[None])
    with torch.no_grad():
        return policy.window(torch.stack(pixels, dim=1), *policy.tokenize([CORPUS[0]]), robot)


def test_stepping_equals_the_training_window(policy):
    """Also once the oldest observation step has left the window (W = 4)."""
    observations = [make_observation(t) for t in range(6)]
    for t, observation in enumerate(observations):
        chunk = policy.predict_action_chunk(observation)[0]
        out = window_of(policy, observations[max(0, t - 3) : t + 1])
        assert out.pose.shape[1] in (1, min(t + 1, 4))
        np.testing.assert_allclose(chunk[:, :6], out.pose[0, -1].numpy(), atol=2e-6)
        np.testing.assert_array_equal(chunk[:, 6] > 0, out.gripper_logits[0, -1].numpy() > 0)


def test_runs_share_frames_and_equal_their_windows(policy):
    """Training on a run of steps is training on the windows that end at each of them, as if the run began there."""
    torch.manual_seed(0)
    pixels, robot = torch.randn(6, 2, 3, 32, 32), torch.randn(6, 15)
    tokens, mask = policy.tokenize(CORPUS[:2])
    valid = torch.tensor([[True, True, False, False], [True, True, True, True]])
    with torch.no_grad():
        vision = policy.encode_vision(pixels)
        features = policy.sequence_features(vision, valid, tokens, mask, robot)
        assert not features[0, 2:].any()
        for b, t, last in ((0, 1, 1), (1, 3, 5)):
            first = max(last - t, last - policy.head.frames + 1)
            alone = policy.features(
                vision[None, first : last + 1], tokens[b : b + 1], mask[b : b + 1], robot[last][None]
            )
            torch.testing.assert_close(features[b, t], alone[0], atol=1e-5, rtol=1e-5)


def test_images_words_and_state_matter(policy):
    def chunk(text=CORPUS[0], **changes):
        policy.reset()
        observation = make_observation(0, instruction=text)
        return policy.predict_action_chunk(observation | changes)

    base, other = chunk(), make_observation(1)
    for view in policy.config.views:
        assert not np.allclose(base, chunk(**{view: other[view]}), atol=1e-7), view
    assert not np.allclose(base, chunk(CORPUS[0].replace("red", "blue")), atol=1e-7)
    reads_state = policy.config.head.proprioception
    assert np.allclose(base, chunk(robot_obs=other["robot_obs"]), atol=1e-7) != reads_state


def test_history_matters_where_there_is_one(policy):
    def second(first):
        policy.reset()
        policy.predict_action_chunk(make_observation(first))
        return policy.predict_action_chunk(make_observation(1))

    assert np.allclose(second(0), second(7), atol=1e-7) == (policy.config.head.type == "fc")


def test_saved_policy_loads_to_the_same_actions(policy, tmp_path):
    loaded = RoboFlamingoPolicy.from_pretrained(policy.save_pretrained(tmp_path / "policy"), "cpu")
    for t in range(3):
        np.testing.assert_array_equal(policy.act(make_observation(t)), loaded.act(make_observation(t)))


def test_loss_reaches_every_part(policy):
    torch.manual_seed(0)
    policy.zero_grad(set_to_none=True)
    tokens, mask = policy.tokenize(CORPUS[:2])
    batch = {
        "pixels": torch.randn(2, 4, 2, 3, 32, 32),
        "tokens": tokens,
        "token_mask": mask,
        "actions": torch.rand(2, 4, 3, 7) * 2 - 1,
        "mask": torch.ones(2, 4, dtype=torch.bool),
        "robot_obs": torch.randn(2, 4, 15),
    }
    loss, _ = policy(batch)
    loss.backward()
    assert loss.item() > 0 and not [name for name, p in policy.named_parameters() if p.grad is None]
    if policy.head.frames > 1:  # the action at the last observation step alone is taught
        again, _ = policy({**batch, "actions": torch.cat((0 * batch["actions"][:, :3], batch["actions"][:, 3:]), 1)})
        torch.testing.assert_close(loss, again)


def test_old_frames_are_not_encoded_again(policy, monkeypatch):
    encoded, resampled = [], []
    encode, resample = policy.vlm.encode_vision, policy.vlm.resample
    monkeypatch.setattr(policy.vlm, "encode_vision", lambda x: encoded.append(len(x)) or encode(x))
    monkeypatch.setattr(policy.vlm, "resample", lambda x: resampled.append(len(x)) or resample(x))
    for t in range(6):
        policy.act(make_observation(t, n=2))
    assert encoded == [2] * 6
    if policy.head.position is None:
        assert resampled == [2] * 6
    else:  # the place of a frame is marked before it is resampled
        assert resampled == [2, 4, 6, 8, 8, 8]
