"""The policy acts in LeRobot as it does outside, to the bit."""

from __future__ import annotations

import light_table
import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.envs import preprocess_observation
from lerobot.policies import make_pre_post_processors

from lerobot_policy_roboflamingo.modeling_roboflamingo import RoboFlamingoPolicy
from rf_agent.errors import ConfigError, UserError
from rf_agent.policy import RoboFlamingoPolicy as Agent
from rf_envs import LeRobotObservation

CAMERAS = ("rgb_static", "rgb_gripper")


@pytest.fixture
def policy(lerobot_folder):
    return RoboFlamingoPolicy.from_pretrained(lerobot_folder)


@pytest.fixture
def agent(agent_folder):
    return Agent.from_pretrained(agent_folder, "cpu")


class Episode:
    """Some environments that LeRobot and the agent look at in their own ways."""

    def __init__(self, seeds, **options):
        self.envs = [light_table.LightTable(**options) for _ in seeds]
        self.observed = [env.reset(seed=seed)[0] for env, seed in zip(self.envs, seeds, strict=True)]

    def step(self, actions):
        self.observed = [env.step(action)[0] for env, action in zip(self.envs, actions, strict=True)]

    @property
    def tasks(self):
        return [env.task_description for env in self.envs]

    def for_agent(self):
        return {key: np.stack([seen[key] for seen in self.observed]) for key in self.observed[0]}

    def for_lerobot(self):
        """As `lerobot-eval` makes it of a vector environment."""
        arrange = LeRobotObservation(self.envs[0], CAMERAS).observation
        each = [arrange(seen) for seen in self.observed]
        pixels = {camera: np.stack([seen["pixels"][camera] for seen in each]) for camera in CAMERAS}
        batch = preprocess_observation({"pixels": pixels, "agent_pos": np.stack([seen["agent_pos"] for seen in each])})
        return batch | {"task": self.tasks}


def pipelines(folder):
    config = PreTrainedConfig.from_pretrained(folder)
    return make_pre_post_processors(config, pretrained_path=str(folder))


def test_actions_are_those_of_the_agent_over_several_episodes(policy, agent, lerobot_folder):
    before, after = pipelines(lerobot_folder)
    for seeds in ((0, 1), (2, 3)):
        policy.reset()
        agent.reset()
        # The task changes after 5 steps, while a chunk of 2 is being carried out.
        episode = Episode(seeds, length=5, subtasks=3)
        for _ in range(14):
            with torch.inference_mode():
                actions = after(policy.select_action(before(episode.for_lerobot())))
            assert actions.shape == (2, 7) and actions.dtype == torch.float32
            assert np.array_equal(actions.numpy(), agent.act(episode.for_agent()))
            episode.step(actions.numpy())


def test_the_saved_processors_change_nothing_but_the_size(policy, lerobot_folder):
    before, _ = pipelines(lerobot_folder)
    batch = Episode((0, 1)).for_lerobot()
    small = before(dict(batch))
    assert small["observation.images.rgb_static"].shape == (2, 3, 32, 32)
    assert small["observation.images.rgb_gripper"].dtype == torch.uint8
    with_step = policy.select_action(small)
    policy.reset()
    assert torch.equal(with_step, policy.select_action(batch))


def test_history_counts_until_reset(policy):
    first, second = (Episode((seed,), tasks=["go_left"]).for_lerobot() for seed in (0, 1))
    policy.predict_action_chunk(first)
    remembering = policy.predict_action_chunk(second)
    policy.reset()
    alone = policy.predict_action_chunk(second)
    assert alone.shape == (1, 3, 7)
    assert not torch.allclose(remembering, alone)


def test_history_restarts_for_the_environment_whose_task_changes_alone(policy):
    earlier, now = Episode((0, 1)), Episode((2, 3))
    policy.predict_action_chunk(earlier.for_lerobot() | {"task": ["go to the left", "go to the left"]})
    kept_and_changed = policy.predict_action_chunk(now.for_lerobot() | {"task": ["go to the left", "go to the right"]})
    policy.reset()
    without = policy.predict_action_chunk(now.for_lerobot() | {"task": ["go to the left", "go to the right"]})
    assert not torch.allclose(kept_and_changed[0], without[0])
    assert torch.allclose(kept_and_changed[1], without[1], atol=1e-6)


def test_environments_of_a_batch_do_not_mix(policy):
    together = policy.predict_action_chunk(Episode((0, 1, 2)).for_lerobot())
    for row in range(3):
        policy.reset()
        alone = policy.predict_action_chunk(Episode((row,)).for_lerobot())
        assert torch.allclose(together[row], alone[0], atol=1e-6)


def test_another_number_of_environments_needs_a_reset(policy):
    policy.select_action(Episode((0, 1)).for_lerobot())
    with pytest.raises(ValueError, match="3 observations were given, but the history is of 2 environments"):
        policy.select_action(Episode((0, 1, 2)).for_lerobot())


def test_the_state_is_read_where_the_head_reads_it(tmp_path):
    from lerobot_policy_roboflamingo.convert import to_lerobot

    agent = Agent.from_preset("roboflamingo-test", ["go to the left"], 1, ["head.proprioception=true"])
    policy = RoboFlamingoPolicy.from_pretrained(to_lerobot(agent.save_pretrained(tmp_path / "a"), tmp_path / "b"))
    episode = Episode((0, 1))
    batch = episode.for_lerobot()
    assert np.array_equal(policy.select_action(batch).numpy(), agent.eval().act(episode.for_agent()))
    del batch["observation.state"]
    with pytest.raises(ValueError, match="no 'observation.state', but the head reads it"):
        policy.select_action(batch)


def test_a_state_that_may_be_missing_is_read_where_it_is_given(tmp_path):
    from lerobot_policy_roboflamingo.convert import to_lerobot

    changes = ["head.proprioception=true", "head.state_dropout=0.1"]
    agent = Agent.from_preset("roboflamingo-test", ["go to the left"], 1, changes).eval()
    policy = RoboFlamingoPolicy.from_pretrained(to_lerobot(agent.save_pretrained(tmp_path / "a"), tmp_path / "b"))
    episode = Episode((0, 1))
    batch, given = episode.for_lerobot(), episode.for_agent()
    with_state = agent.act(given)
    assert np.array_equal(policy.select_action(batch).numpy(), with_state)
    for one in (agent, policy):
        one.reset()
    del batch["observation.state"], given["robot_obs"]
    without = agent.act(given)
    assert np.array_equal(policy.select_action(batch).numpy(), without) and not np.array_equal(without, with_state)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("task", "the batch has no 'task', but the policy follows instructions"),
        ("observation.images.rgb_gripper", "no image of the camera 'rgb_gripper' .*rgb_static.*--rename_map"),
    ],
)
def test_what_is_missing_in_a_batch_is_named(policy, key, text):
    batch = Episode((0,)).for_lerobot()
    del batch[key]
    with pytest.raises(ValueError, match=text):
        policy.select_action(batch)


def test_an_empty_task_is_refused(policy):
    with pytest.raises(ValueError, match="the instruction is empty"):
        policy.select_action(Episode((0,)).for_lerobot() | {"task": [""]})


def test_how_chunks_are_carried_out_can_be_chosen(agent, lerobot_folder):
    for option in ("--n_action_steps=1", '--override=["head.n_action_steps=1"]'):
        config = PreTrainedConfig.from_pretrained(lerobot_folder, cli_overrides=[option])
        policy = RoboFlamingoPolicy.from_pretrained(lerobot_folder, config=config)
        assert (config.n_action_steps, config.chunk_size, policy.agent.config.head.n_action_steps) == (1, 3, 1)
        agent.set_execution(n_action_steps=1)
        episode = Episode((0,))
        for _ in range(3):
            actions = policy.select_action(episode.for_lerobot()).numpy()
            assert np.array_equal(actions, agent.act(episode.for_agent()))
            episode.step(actions)


def test_more_steps_than_a_chunk_has_are_refused(lerobot_folder):
    with pytest.raises(UserError, match="head.n_action_steps is 4, but it must lie between 1 and head.chunk_size"):
        PreTrainedConfig.from_pretrained(lerobot_folder, cli_overrides=["--n_action_steps=4"])


def test_an_environment_with_other_actions_is_refused(lerobot_folder):
    from lerobot.configs import FeatureType, PolicyFeature

    config = PreTrainedConfig.from_pretrained(lerobot_folder)
    config.output_features = {"action": PolicyFeature(FeatureType.ACTION, (4,))}  # as LeRobot sets it
    with pytest.raises(ConfigError, match=r"the policy acts with \(7,\), but the actions .* have shape \(4,\)"):
        RoboFlamingoPolicy.from_pretrained(lerobot_folder, config=config)
