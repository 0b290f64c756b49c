"""What holds for every baseline: it trains, acts, remembers and is saved as RoboFlamingo is."""

import json

import numpy as np
import pytest
import torch
from demo_files import make_store
from policy_cases import make_observation, row

import rf_agent
from rf_agent import preprocess
from rf_agent.baselines.presets import BASELINES
from rf_agent.checkpoint import CheckpointError
from rf_agent.config import ConfigError, RoboFlamingoConfig
from rf_agent.errors import UserError
from rf_agent.evaluation.step_cost import measure, random_policy
from rf_agent.policies import POLICIES, policy_class
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.training.trainer import TrainConfig, train

TINY = sorted(name for name in BASELINES if name.endswith("-tiny"))
WORDS = ["push the red block left", "open the drawer"]


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("demos") / "demos.hdf5", demos=6)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """An untrained vision-language model, as `rf-agent pretrain` leaves it."""
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", WORDS, seed=0)
    return policy.save_pretrained(tmp_path_factory.mktemp("start") / "vlm")


def small(name, seed=0, changes=()):
    """A baseline on the parts of the test policy."""
    config = preset(name).beginning_from(preset("roboflamingo-test")).changed(changes)
    return policy_class(config.type).from_config(config, WORDS, seed).eval()


def run(demos, start, name, output, **changes):
    settings = {"steps": 4, "batch_size": 3, "sequence_length": 8, "validation_fraction": 0.3, "threads": 1}
    return train(
        TrainConfig(demos=(demos,), preset=name, init=str(start), output=output, device="cpu", **settings | changes)
    )


def test_every_type_has_a_tiny_preset():
    assert {preset(name).type for name in TINY} == set(POLICIES) - {"roboflamingo"}


@pytest.mark.parametrize("name", TINY)
def test_it_trains_from_a_vision_language_model(demos, start, tmp_path, name):
    report = run(demos, start, name, tmp_path / "run")
    policy, began = rf_agent.load_policy(report.output, "cpu"), RoboFlamingoPolicy.from_pretrained(start, "cpu")
    assert policy.config.type == preset(name).type and policy.config.trained
    assert {"loss", "pose_error", "gripper_accuracy"} <= set(report.scalars)
    for own, theirs in (
        (policy.vision_encoder, began.vlm.vision_encoder),
        (policy.language_model, began.vlm.lang_encoder.model),
    ):
        assert all(torch.equal(a, b) for a, b in zip(own.parameters(), theirs.parameters(), strict=True))
    again = run(demos, report.output, None, tmp_path / "again", learning_rate=1e-12)
    for name_, tensor in rf_agent.load_policy(again.output, "cpu").state_dict().items():
        torch.testing.assert_close(tensor, policy.state_dict()[name_], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TINY)
def test_it_learns_what_it_is_shown(demos, start, tmp_path, name):
    first = run(demos, start, name, tmp_path / "first", steps=2, learning_rate=1e-12, ema_decay=0.0)
    later = run(demos, start, name, tmp_path / "later", steps=60, learning_rate=3e-3, ema_decay=0.0)
    assert later.scalars["loss"] < first.scalars["loss"]


@pytest.mark.parametrize("name", TINY)
def test_batches_act_as_each_environment_alone_and_reset_forgets(name):
    policy = small(name)
    steps = [make_observation(seed, n=3) for seed in range(7)]
    together = [policy.act(step) for step in steps]
    assert together[0].shape == (3, 7) and np.isfinite(together).all() and np.abs(together).max() <= 1
    policy.reset()
    alone = [policy.act(row(step, 1)) for step in steps]
    np.testing.assert_allclose(np.stack(together)[:, 1], np.stack(alone), atol=1e-5)
    policy.reset()
    np.testing.assert_array_equal(policy.act(row(steps[0], 1)), alone[0])


@pytest.mark.parametrize("name", TINY)
def test_the_instruction_and_the_past_matter(name):
    policy = small(name)
    with torch.no_grad():
        for parameter in policy.encoder.parameters():  # some layers begin as zero and let no instruction through
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    observation = make_observation(0)
    actions = []
    for text in WORDS:
        policy.reset()
        actions.append(policy.predict_action_chunk({**observation, "instruction": text}))
    assert not np.allclose(*actions)
    later = policy.predict_action_chunk({**make_observation(1), "instruction": WORDS[1]})
    policy.reset()
    assert not np.array_equal(later, policy.predict_action_chunk({**make_observation(1), "instruction": WORDS[1]}))


@pytest.mark.parametrize("name", TINY)
def test_one_word_more_or_less_is_no_small_matter(name):
    """A frozen causal model's hidden states are nearly the same whichever colour was said."""
    bundled = rf_agent.load_policy("roboflamingo-tiny", "cpu")
    policy = policy_class(preset(name).type).from_config(preset(name).beginning_from(bundled.config), WORDS).eval()
    policy.begin_from(bundled, "roboflamingo-tiny")
    with torch.no_grad():
        encoded = policy.sentence_encoder(
            *bundled.tokenize(["push the red block left", "push the blue block left", "push the red block right"])
        )
    red, blue, right = encoded.embedding
    assert (red - blue).norm() > 0.25 * red.norm() and (red - right).norm() > 0.25 * red.norm()
    assert encoded.tokens.shape[:2] == encoded.mask.shape


def test_checkpoints_of_before_read_what_they_learned_from(tmp_path):
    """Those that do not say how they embed a sentence take hidden states, as all did."""
    policy = small("r3m-tiny")
    assert policy.config.sentence == "words" and policy.sentence_encoder.reads_words
    folder = policy.save_pretrained(tmp_path / "policy")
    values = json.loads((folder / "config.json").read_text())
    del values["sentence"]
    (folder / "config.json").write_text(json.dumps(values))
    before = rf_agent.load_policy(folder, "cpu")
    assert not before.sentence_encoder.reads_words
    with pytest.raises(ConfigError, match="sentence is 'bytes'; choose 'hidden' or 'words'"):
        preset("r3m-tiny").changed(["sentence=bytes"])


def test_layers_that_nothing_runs_through_are_not_trained():
    policy = small("hulc-tiny")
    with pytest.raises(UserError, match="--train-language trains layers that this policy does not use"):
        policy.set_trainable("default", train_language=True)
    with pytest.raises(UserError, match="lora adapts layers that this policy does not use, as it reads the embeddings"):
        policy.set_trainable("lora")
    hidden = preset("hulc-tiny").beginning_from(preset("roboflamingo-test")).changed(["sentence=hidden"])
    other = policy_class("hulc").from_config(hidden, WORDS, 0)
    other.set_trainable("default", train_language=True)
    assert any(parameter.requires_grad for parameter in other.sentence_encoder.parameters())


@pytest.mark.parametrize("name", TINY)
def test_training_sees_the_windows_that_acting_sees(name):
    """The prediction at the last step of a window equals that of acting through it."""
    policy = small(name)
    steps = [make_observation(seed) for seed in range(3)]
    acted = [policy.predict_action_chunk(step) for step in steps]
    config = policy.config
    pixels = torch.cat(
        [
            preprocess.pixels({v: s[v][None] for v in config.views}, config.views, config.image, policy.device)
            for s in steps
        ]
    )
    state = torch.from_numpy(np.stack([step[config.state.key] for step in steps]))[None]
    with torch.no_grad():
        out = policy.window(pixels[None], *policy.tokenize([steps[0]["instruction"]]), state)
    at = config.action.gripper
    np.testing.assert_allclose(out.pose[0, -1].numpy(), np.delete(acted[-1][0], at, axis=-1), atol=1e-5)


def test_a_class_refuses_checkpoints_of_another_type(tmp_path):
    folder = small("r3m-tiny").save_pretrained(tmp_path / "r3m")
    with pytest.raises(CheckpointError, match="is a policy of type 'r3m', not 'roboflamingo': load it with"):
        RoboFlamingoPolicy.from_pretrained(folder)
    with pytest.raises(ConfigError, match="of type 'r3m', not of 'roboflamingo'"):
        RoboFlamingoConfig.load(folder / "config.json")
    with pytest.raises(ConfigError, match="of type 'dreamer', but known types are roboflamingo"):
        RoboFlamingoConfig.from_dict({"type": "dreamer"})
    assert type(rf_agent.load_policy(folder, "cpu")).__name__ == "R3MPolicy"


@pytest.mark.parametrize("which", ["default", "freeze-emb", "lora"])
def test_what_is_drawn_anew_learns_in_every_set_that_has_more_than_the_head(which):
    policy = small("rt1-tiny", changes=("sentence=hidden",))
    groups = policy.set_trainable(which)
    assert "encoder" in groups and all(parameter.requires_grad for parameter in policy.encoder.parameters())


def test_a_frozen_tower_computes_in_training_as_in_acting():
    """Statistics of a batch would change what it yields, and its own would be overwritten."""
    tower = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    changes = (f"vision.model={json.dumps(tower)}", "sentence=words")
    policy = small("r3m-tiny", changes=changes)
    before = {name: value.clone() for name, value in policy.vision_encoder.state_dict().items()}
    policy.train().set_trainable("head")
    pixels = torch.randn(4, len(policy.config.views), 3, 32, 32)
    tokens = policy.vision_encoder(pixels)
    policy.train()
    assert torch.equal(tokens, policy.vision_encoder(pixels))
    assert all(torch.equal(value, before[name]) for name, value in policy.vision_encoder.state_dict().items())
    policy.set_trainable("head", train_vision=True)
    assert policy.vision_encoder.training and not torch.equal(tokens, policy.vision_encoder(pixels))


def test_words_may_be_embedded_in_fewer_numbers_than_the_layers_have():
    model = {"model_type": "electra", "vocab_size": 320, "embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 1}
    model |= {"num_attention_heads": 2, "intermediate_size": 16, "pad_token_id": 3}
    for sentence, width in (("hidden", 16), ("words", 8)):
        policy = small("r3m-tiny", changes=(f"language.model={json.dumps(model)}", f"sentence={sentence}"))
        assert policy.sentence_encoder.dim == width and policy.act(make_observation(0)).shape == (7,)


@pytest.mark.parametrize("sentence", ["hidden", "words"])
def test_a_model_that_projects_its_hidden_states_back_to_words_can_be_read(sentence):
    model = {"model_type": "opt", "vocab_size": 320, "word_embed_proj_dim": 8, "hidden_size": 16, "ffn_dim": 16}
    model |= {"num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 1}
    policy = small("r3m-tiny", changes=(f"language.model={json.dumps(model)}", f"sentence={sentence}"))
    assert policy.sentence_encoder.dim == 8 and policy.act(make_observation(0)).shape == (7,)


def test_an_encoder_with_a_decoder_is_refused():
    model = {"model_type": "t5", "vocab_size": 320, "d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8}
    with pytest.raises(ConfigError, match="'t5', an encoder with a decoder, but the instruction is only read"):
        small("r3m-tiny", changes=(f"language.model={json.dumps(model)}", "sentence=hidden"))


def test_a_state_is_not_joined_to_all_places():
    with pytest.raises(ConfigError, match="pooling is 'flat' and head.proprioception is true"):
        small("r3m-tiny", changes=("encoder.pooling=flat", "head.proprioception=true"))


def test_sets_of_cross_attention_are_refused():
    with pytest.raises(ValueError, match="last-1 was chosen, but the model has no cross-attention layers: choose"):
        small("rt1-tiny").set_trainable("last-1")


def test_an_encoder_of_another_shape_is_refused_in_a_sentence(demos, tmp_path):
    start = small("rt1-tiny").save_pretrained(tmp_path / "rt1")
    with pytest.raises(UserError, match=r"rt1 has an encoder of another shape.*--override encoder\.width=128\)"):
        run(demos, start, "rt1-tiny", tmp_path / "run", override=("encoder.width=64",))
    assert run(demos, start, "mcil-tiny", tmp_path / "other").output.exists()  # another type takes no encoder


def test_a_language_model_that_transformers_lacks_is_refused():
    config = preset("r3m-tiny").beginning_from(preset("mid"))
    with pytest.raises(ConfigError, match="'mosaic_gpt', but a baseline embeds"):
        policy_class("r3m").from_config(config, WORDS)


@pytest.mark.parametrize("name", TINY)
def test_the_cost_of_a_step_by_part(name):
    policy = random_policy(name, torch.float32)
    *parts, whole = measure(policy, (1,), repeats=1).parts
    assert {"vision tower", "language model", "encoder", "head"} < {part.name for part in parts}
    assert sum(part.flops for part in parts) == whole.flops > 0
    assert sum(part.parameters for part in parts) == whole.parameters
