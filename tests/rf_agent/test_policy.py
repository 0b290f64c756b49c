import json
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from policy_cases import CORPUS, as_bytes, make_observation, make_policy, row

from rf_agent import preprocess
from rf_agent.acting.compiled import bucketed
from rf_agent.config import ConfigError
from rf_agent.instructions import instructions
from rf_agent.nn.language import longest_text
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.policy_model import TextInputs
from rf_agent.presets import preset


@pytest.fixture
def policy():
    return make_policy()


def test_act_gives_actions_in_the_box(policy):
    action = policy.act(make_observation(0))
    assert action.shape == (7,) and action.dtype == np.float32
    assert np.abs(action).max() <= 1 and abs(action[6]) == 1
    policy.reset()
    assert policy.act(make_observation(0, n=3)).shape == (3, 7)


def test_batch_equals_each_alone(policy):
    """Different instructions (thus padding), and an environment that restarts in between."""
    batched, alone = [], [[] for _ in range(3)]
    state, states = None, [None] * 3
    for t in range(9):
        starts = np.array([t == 0, t in (0, 3), t == 0])
        observation = make_observation(t, n=3, instruction=list(CORPUS))
        actions, state = policy.predict(observation, state, starts)
        batched.append(actions)
        for i in range(3):
            action, states[i] = policy.predict(row(observation, i), states[i], starts[i : i + 1])
            alone[i].append(action)
    np.testing.assert_allclose(np.array(batched), np.stack(alone, axis=1), atol=1e-5)


def test_images_are_only_touched_at_an_observation_step(policy, monkeypatch):
    resized = []
    resize = preprocess.resize
    monkeypatch.setattr(preprocess, "resize", lambda images, *to: resized.append(len(images)) or resize(images, *to))
    for t in range(4):  # E = 2
        policy.act(make_observation(t, n=3))
    assert resized == [3, 3, 3, 3]  # two views, two observation steps
    policy.reset([1])
    policy.act(make_observation(4, n=3))
    resized.clear()
    policy.reset([1])
    policy.act(make_observation(5, n=3))
    assert resized == [1, 1]  # the others execute the rest of their chunks


@pytest.mark.parametrize("given", [[2], np.array([2]), 2, np.array([False, False, True]), [False, False, True]])
def test_environments_are_reset_by_number_and_by_mask(policy, given):
    for t in range(4):
        policy.act(make_observation(t, n=3))
    before = policy._state.length.tolist()
    policy.reset(given)
    assert policy._state.length.tolist() == [*before[:2], 0] and before[0] > 0


def test_executed_actions_are_those_of_the_chunk(policy):
    chunk = policy.predict_action_chunk(make_observation(0))
    assert chunk.shape == (1, 3, 7) and set(np.abs(chunk[..., 6]).ravel()) == {1.0}
    policy.reset()
    actions = [policy.act(make_observation(t)) for t in range(2)]
    np.testing.assert_array_equal(actions, chunk[0, :2])


def test_chunks_continue_the_history(policy):
    acted = [policy.act(make_observation(t // 2)) for t in range(12)]
    policy.reset()
    chunks = [policy.predict_action_chunk(make_observation(t))[0, :2] for t in range(6)]
    np.testing.assert_allclose(acted, np.concatenate(chunks), atol=1e-6)


def test_stepping_equals_the_training_window(policy):
    observations = [make_observation(t) for t in range(4)]
    chunks = np.stack([policy.predict_action_chunk(o)[0] for o in observations])
    pixels = torch.stack(
        [
            preprocess.pixels({k: o[k][None] for k in policy.config.views}, policy.config.views, policy.config.image)
            for o in observations
        ],
        dim=1,
    )
    with torch.no_grad():
        out = policy.window(pixels, *policy.tokenize([CORPUS[0]]))
    assert out.pose.shape == (1, 4, 3, 6) and out.gripper_logits.shape == (1, 4, 3)
    np.testing.assert_allclose(out.pose[0].numpy(), chunks[..., :6], atol=1e-5)
    np.testing.assert_array_equal(out.gripper_logits[0].numpy() > 0, chunks[..., 6] > 0)


def test_history_counts_and_ends(policy):
    def second_step(first):
        policy.reset()
        policy.predict_action_chunk(make_observation(first))
        return policy.predict_action_chunk(make_observation(1))

    assert not np.allclose(second_step(0), second_step(7), atol=1e-6)
    policy.reset()
    for t in range(6):  # W = 4: the first two observation steps are forgotten
        last = policy.predict_action_chunk(make_observation(t))
    policy.reset()
    for t in range(2, 6):
        again = policy.predict_action_chunk(make_observation(t))
    np.testing.assert_allclose(last, again, atol=1e-6)


@pytest.mark.parametrize("how", ["reset", "reset([0])", "instruction", "episode_start"])
def test_history_restarts(policy, how):
    new = CORPUS[1] if how == "instruction" else CORPUS[0]
    fresh, _ = policy.predict(make_observation(9, n=1, instruction=new))
    state = None
    for t in range(3):
        _, state = policy.predict(make_observation(t, n=1), state)
        policy.act(make_observation(t, n=1))
    if how == "episode_start":
        action, _ = policy.predict(make_observation(9, n=1), state, np.array([True]))
    else:
        if how == "reset":
            policy.reset()
        elif how == "reset([0])":
            policy.reset([0])
        action = policy.act(make_observation(9, n=1, instruction=new))
    np.testing.assert_allclose(action, fresh, atol=1e-6)


def test_predict_leaves_given_states_alone_and_keeps_none(policy):
    _, state = policy.predict(make_observation(0, n=2))
    copies = [np.copy(part) for part in state]
    one, _ = policy.predict(make_observation(1, n=2), state)
    policy.predict(make_observation(2, n=2), state, np.array([True, True]))
    two, _ = policy.predict(make_observation(1, n=2), state)
    np.testing.assert_array_equal(one, two)
    for part, copy in zip(state, copies, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_every_form_of_instruction_gives_the_same_action(policy):
    text = CORPUS[2]
    actions = []
    for value in (text, [text, text], np.array([text, text]), as_bytes(text), np.stack([as_bytes(text)] * 2)):
        policy.reset()
        actions.append(policy.act(make_observation(0, n=2, instruction=value)))
    assert all(np.array_equal(actions[0], action) for action in actions)


def test_images_and_words_matter(policy):
    def chunk(seed, text):
        policy.reset()
        return policy.predict_action_chunk(make_observation(seed, instruction=text))

    base = chunk(0, CORPUS[0])
    assert not np.allclose(base, chunk(1, CORPUS[0]), atol=1e-6)
    assert not np.allclose(base, chunk(0, CORPUS[0].replace("red", "blue")), atol=1e-6)


def test_acting_does_not_change_training_modes(policy):
    policy.train()
    policy.vlm.vision_encoder.eval()
    policy.act(make_observation(0))
    assert policy.training and policy.head.training and not policy.vlm.vision_encoder.training


def test_loss_learns_and_reaches_every_part(policy):
    torch.manual_seed(0)
    tokens, mask = policy.tokenize(CORPUS[:2])
    batch = {
        "pixels": torch.randn(2, 4, 2, 3, 32, 32),
        "tokens": tokens,
        "token_mask": mask,
        "actions": torch.rand(2, 4, 3, 7) * 2 - 1,
        "mask": torch.ones(2, 4, dtype=torch.bool),
    }
    loss, metrics = policy.train()(batch)
    loss.backward()
    without = [name for name, p in policy.named_parameters() if p.grad is None]
    assert not without and loss.item() > 0 and metrics["pose_loss"] > 0
    with torch.no_grad():
        tokens = policy.encode_vision(batch.pop("pixels").flatten(0, 1)).unflatten(0, (2, 4))
    again, _ = policy({**batch, "vision_tokens": tokens})
    torch.testing.assert_close(again, loss)


def test_trainable_groups(policy):
    assert policy.set_trainable() == ["resampler", "cross-attention", "embeddings", "head"]
    names = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert "vlm.lang_encoder.model.embed_tokens.weight" in names
    assert not any(name.startswith(("vlm.vision_encoder", "vlm.lang_encoder.model.layers")) for name in names)
    total = policy.trainable_summary().splitlines()[-1].split()
    assert int(total[1].replace(",", "")) == sum(p.numel() for p in policy.parameters())
    policy.set_trainable(train_vision=True, train_language=True)
    assert all(p.requires_grad for p in policy.parameters())


def test_instructions_are_taken_as_the_environments_give_them_in_any_container(policy):
    rows = np.stack([np.frombuffer(text.ljust(256, b"\0"), np.uint8) for text in (b"open the drawer", b"close it")])
    expected = ["open the drawer", "close it"]
    for given in (rows, torch.from_numpy(rows.copy()), tuple(rows), list(rows), expected):
        assert instructions(given, 2) == expected
    assert instructions(torch.from_numpy(rows[0].copy()), 2) == expected[:1] * 2


def test_a_language_model_without_a_size_of_its_vocabulary_is_explained():
    model = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = preset("roboflamingo-test").changed([f"language.model={json.dumps(model)}"])
    with pytest.raises(ConfigError, match="language.model has no 'vocab_size'; give the most tokens"):
        RoboFlamingoPolicy.from_config(config, ["open the drawer"])


def test_a_language_model_that_reads_both_ways_is_refused():
    """The padding of a longer text in the batch would change what a shorter one means."""
    sizes = {"vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    for kind, reads in (("bert", {}), ("xlnet", {"d_model": 16, "n_layer": 2, "n_head": 2})):
        model = {"model_type": kind, **(reads or sizes), "vocab_size": 320}
        config = preset("roboflamingo-test").changed([f"language.model={json.dumps(model)}"])
        with pytest.raises(ConfigError, match=f"model_type is '{kind}', which reads a text in both directions"):
            RoboFlamingoPolicy.from_config(config, ["open the drawer"])
    model = {"model_type": "bert", **sizes, "intermediate_size": 16, "is_decoder": True}
    config = preset("roboflamingo-test").changed([f"language.model={json.dumps(model)}"])
    RoboFlamingoPolicy.from_config(config, ["open the drawer"])


@pytest.mark.parametrize("compiled", [False, True])
def test_no_text_is_longer_than_the_language_model_reads(compiled):
    model = {"model_type": "gpt2", "vocab_size": 320, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20}
    config = preset("roboflamingo-test").changed([f"language.model={json.dumps(model)}"])
    policy = RoboFlamingoPolicy.from_config(config, ["open the drawer"], seed=0).eval()
    if compiled:
        policy.compile_acting(backend="eager")
    with pytest.warns(UserWarning, match="tokens, of which the policy reads the first 20"):
        action = policy.act(make_observation(0, instruction="please be so kind as to open the drawer for me now"))
    assert action.shape == (7,) and np.isfinite(action).all()
    unlimited = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=-1))  # XLNet's
    assert longest_text(unlimited) is None and longest_text(policy.language_model) == 20
    assert bucketed(TextInputs(torch.zeros(1, 18), torch.ones(1, 18)), 20).tokens.shape == (1, 20)
    assert bucketed(TextInputs(torch.zeros(1, 18), torch.ones(1, 18))).tokens.shape == (1, 32)


def test_weights_are_those_of_the_seed_or_drawn_anew():
    def latents(seed):
        return RoboFlamingoPolicy.from_preset("roboflamingo-test", ["go"], seed=seed).vlm.perceiver.latents

    before = torch.get_rng_state()
    assert torch.equal(latents(0), latents(0)) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(latents(None), latents(None))


def test_a_configuration_that_was_changed_in_place_is_checked_again(tmp_path):
    policy = make_policy()
    policy.config.head.n_action_steps = 5
    with pytest.raises(ConfigError, match="head.n_action_steps is 5"):
        policy.save_pretrained(tmp_path / "policy")
    with pytest.raises(ConfigError, match="head.n_action_steps is 5"):
        RoboFlamingoPolicy(policy.config, policy.tokenizer)
    assert not (tmp_path / "policy").exists()


def test_a_language_model_of_two_widths_is_refused():
    model = {"model_type": "opt", "vocab_size": 320, "word_embed_proj_dim": 8, "hidden_size": 16, "ffn_dim": 16}
    model |= {"num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 1}
    config = preset("roboflamingo-test").changed([f"language.model={json.dumps(model)}"])
    with pytest.raises(ConfigError, match="embeds words in 8 numbers, but its layers have 16"):
        RoboFlamingoPolicy.from_config(config, ["open the drawer"])


def test_wrong_calls_are_explained(policy):
    policy.act(make_observation(0, n=2))
    with pytest.raises(ValueError, match="3 observations.*2 environments.*reset"):
        policy.act(make_observation(0, n=3))
    with pytest.raises(ValueError, match=r"reset\(\[5\]\)"):
        policy.reset([5])
    with pytest.raises(ValueError, match=r"a mask of shape \(3,\), but the policy acts in 2"):
        policy.reset(np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"reset\(\[0.5\]\) was asked: give the numbers"):
        policy.reset([0.5])
    with pytest.raises(ValueError, match="episode_start has 3 entries, but there are 2 environments"):
        policy.predict(make_observation(0, n=2), policy.predict(make_observation(0, n=2))[1], np.zeros(3, bool))
    with pytest.raises(ValueError, match="episode_start has 7 entries, but there are 2 environments"):
        policy.predict(make_observation(0, n=2), None, np.ones(7, bool))
    for wrong in (np.zeros(256, np.int64), [0] * 256):
        with pytest.raises(ValueError, match="256 instructions were given as numbers of type int64"):
            policy.act(make_observation(0, n=2) | {"instruction": wrong})
    with pytest.raises(ValueError, match="the observation is of type tuple; give a dictionary"):
        policy.act((make_observation(0), {}))
    with pytest.raises(ValueError, match=r"camera images of shapes .*\(\)"):
        policy.act(make_observation(0) | {policy.config.views[0]: None})
    with pytest.raises(ValueError, match="instruction"):
        policy.act({k: v for k, v in make_observation(0).items() if k != "instruction"})


def test_policy_needs_no_simulator_and_package_is_light():
    script = (
        "import sys, rf_agent; assert 'torch' not in sys.modules;"
        "sys.modules['gymnasium'] = sys.modules['pybullet'] = None;"
        "from rf_agent import RoboFlamingoPolicy; RoboFlamingoPolicy.from_preset('roboflamingo-test');"
        "import rf_agent.cli; from rf_agent.training import pretrain, trainer;"
        "[rf_agent.cli.command_module(name) for name in rf_agent.cli.COMMANDS];"
        "assert 'rf_envs' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600)


def test_many_instructions_do_not_push_out_those_at_hand():
    policy = make_policy()
    wanted = policy.tokenize(["push the red block", "open the drawer"])[0]
    policy._encoded |= {str(number): [0] for number in range(10_000)}
    assert torch.equal(policy.tokenize(["push the red block", "open the drawer"])[0], wanted)


def test_states_of_another_execution_are_refused():
    policy, observation = make_policy(), make_observation(0, n=2)
    _, state = policy.predict(observation)
    twin = type(policy)(policy.config, policy.tokenizer)
    twin.set_execution(n_action_steps=3)
    assert policy.config.head.n_action_steps == 2  # the twin's change is its own
    with pytest.raises(ValueError, match="observes every 2 steps, and this one observes every 3; pass state=None"):
        twin.predict(observation, state)


def test_states_of_another_policy_are_refused():
    policy, observation = make_policy(), make_observation(0, n=2)
    _, state = policy.predict(observation)
    with pytest.raises(ValueError, match=r"its history has shape \(4, .*\), and this one's \(3, .*\); pass state=None"):
        make_policy(0, "head.window=3").predict(observation, state)
    averaging = make_policy(0, "head.n_action_steps=1")
    _, state = averaging.predict(observation)
    averaging.set_execution(n_action_steps=1, ensemble=0.01)
    with pytest.raises(ValueError, match="its average has shape 0, and this one's 3; pass state=None"):
        averaging.predict(observation, state)


def test_actions_of_another_shape_are_no_demonstration():
    policy = make_policy(0, "action.gripper=null", "action.dim=6")
    tokens, mask = policy.tokenize(list(CORPUS[:2]))
    batch = {
        "pixels": torch.randn(2, 4, 2, 3, 32, 32),
        "tokens": tokens,
        "token_mask": mask,
        "actions": torch.zeros(2, 4, 3, 6),
        "mask": torch.ones(2, 4, dtype=torch.bool),
    }
    policy(batch)
    for shape in ((2, 4, 6), (2, 4, 1, 6), (2, 4, 3, 1)):
        with pytest.raises(ValueError, match=r"actions have shape .*: give \(B, T, K, D\) = \(2, 4, 3, 6\)"):
            policy(batch | {"actions": torch.zeros(shape)})


@pytest.mark.parametrize(("shape", "value"), [((2, 7), 0.0), ((1, 15), 0.0), ((2, 15), np.nan)])
def test_proprioception_needs_the_whole_state(shape, value):
    policy = make_policy(0, "head.proprioception=true")
    with pytest.raises(ValueError, match="robot_obs has"):
        policy.act({**make_observation(0, n=2), "robot_obs": np.full(shape, value)})


def test_words_beyond_what_the_policy_reads_are_said():
    policy = make_policy(0, "language.max_tokens=12")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.tokenize(["go left"])
    with pytest.warns(
        UserWarning, match=r"has \d+ tokens, of which the policy reads the first 12: say it in fewer words"
    ):
        tokens, _ = policy.tokenize(["please be so kind as to open the drawer for me now"])
    assert tokens.shape == (1, 12)
