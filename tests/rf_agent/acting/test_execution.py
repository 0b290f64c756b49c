"""How chunks are carried out: E of K, repeated, averaged (paper, Fig. 3c)."""

import numpy as np
import pytest
import torch
from policy_cases import make_observation, make_policy

from rf_agent import preprocess
from rf_agent.config import ConfigError


def raw_chunks(observations):
    """Every chunk that the micro policy predicts at these steps (T, n, K, 7), with how sure it is of the gripper."""
    policy = make_policy()
    views, chunks = policy.config.views, []
    pixels = torch.stack([preprocess.pixels(o, views, policy.config.image) for o in observations], dim=1)
    texts = policy.tokenize([observations[0]["instruction"]] * len(pixels))
    for t in range(len(observations)):
        with torch.no_grad():
            out = policy.window(pixels[:, max(0, t - 3) : t + 1], *texts)  # W = 4
        sure = 2 * out.gripper_logits[:, -1].sigmoid() - 1
        chunks.append(torch.cat((out.pose[:, -1], sure[..., None]), dim=-1).numpy())
    return np.stack(chunks)


@pytest.mark.parametrize("decay", [0.0, 0.7, -0.5])
def test_ensembling_averages_what_was_predicted_for_a_step(decay):
    policy = make_policy(0, "head.n_action_steps=1", f"head.ensemble={decay}")
    observations = [make_observation(t, n=2) for t in range(6)]
    chunks = raw_chunks(observations)
    for t, observation in enumerate(observations):
        action = policy.act(observation)
        past = [chunks[s, :, t - s] for s in range(max(0, t - 2), t + 1)]  # the oldest first; K = 3
        weights = np.exp(-decay * np.arange(len(past)))
        mean = np.tensordot(weights / weights.sum(), np.stack(past), axes=1)
        np.testing.assert_allclose(action[:, :6], mean[:, :6], atol=1e-5)
        np.testing.assert_array_equal(action[:, 6], np.where(mean[:, 6] > 0, 1, -1))


@pytest.mark.parametrize("decay", [-60.0, 60.0, -1e6, 1e6])
def test_ensembling_stays_finite_however_much_it_forgets(decay):
    """The latest prediction alone is left, or the oldest."""
    policy = make_policy(0, "head.n_action_steps=1", f"head.ensemble={decay}")
    observations = [make_observation(t, n=2) for t in range(6)]
    chunks = raw_chunks(observations)
    for t, observation in enumerate(observations):
        oldest = max(0, t - 2) if decay > 0 else t
        np.testing.assert_allclose(policy.act(observation)[:, :6], chunks[oldest, :, t - oldest, :6], atol=1e-5)


def test_ensembling_starts_anew_with_an_environment():
    policy = make_policy(0, "head.n_action_steps=1", "head.ensemble=0.1")
    state = None
    for t in range(3):
        _, state = policy.predict(make_observation(t, n=2), state)
    restarted, after = policy.predict(make_observation(9, n=2), state, np.array([False, True]))
    again, _ = policy.predict(make_observation(9, n=2), state, np.array([False, True]))
    np.testing.assert_array_equal(restarted, again)  # the given state was left alone
    fresh, fresh_state = policy.predict(make_observation(9, n=2))
    np.testing.assert_allclose(restarted[1], fresh[1], atol=1e-6)
    assert not np.allclose(restarted[0], fresh[0], atol=1e-6)
    one, _ = policy.predict(make_observation(10, n=2), after)
    two, _ = policy.predict(make_observation(10, n=2), fresh_state)
    np.testing.assert_allclose(one[1], two[1], atol=1e-6)


def test_actions_are_repeated_without_looking():
    policy = make_policy()  # K = 3, E = 2
    chunks = raw_chunks([make_observation(t, n=2) for t in (0, 6)])
    policy.set_execution(n_action_steps=2, repeat=3)
    assert policy.config.head.replan_every == 6
    for t in range(12):
        action = policy.act(make_observation(t, n=2))
        np.testing.assert_allclose(action[:, :6], chunks[t // 6, :, t % 6 // 3, :6], atol=1e-6)


def test_execution_can_be_changed_and_forgets():
    policy = make_policy()
    policy.act(make_observation(0, n=2))
    policy.set_execution(n_action_steps=1, ensemble=0.01)
    assert policy.act(make_observation(0)).shape == (7,)
    for wrong, named in (({"n_action_steps": 4}, "head.n_action_steps is 4"), ({"repeat": 0}, "head.repeat is 0")):
        with pytest.raises(ConfigError, match=named):
            policy.set_execution(**wrong)
    with pytest.raises(ConfigError, match="only every 2 steps"):
        policy.set_execution(n_action_steps=2, ensemble=0.01)
    assert policy.config.head.ensemble == 0.01  # as it was


def test_the_robots_state_is_asked_for():
    policy = make_policy(0, "head.proprioception=true")
    observation = make_observation(0, n=2)
    del observation["robot_obs"]
    with pytest.raises(ValueError, match="no 'robot_obs'.*head.proprioception"):
        policy.act(observation)
