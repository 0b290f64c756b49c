"""Compiled policies act as those that are not, and do so too where nothing can be compiled."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from policy_cases import CORPUS, make_observation, make_policy

from rf_agent.acting.compiled import BUCKET, CompiledStep, bucketed, eager_step
from rf_agent.baselines.voltron import VoltronPolicy
from rf_agent.model import TextInputs
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset


def acted(policy, n=2, steps=5):
    policy.reset()
    return np.array([policy.predict_action_chunk(make_observation(t, n, list(CORPUS[:n]))) for t in range(steps)])


@pytest.fixture
def counted():
    """A back end of `torch.compile` that counts the graphs it is given, and the calls of them."""
    graphs = []

    def backend(graph, inputs):
        calls = []
        graphs.append(calls)
        return lambda *given: calls.append(1) or graph(*given)

    torch._dynamo.reset()
    return graphs, backend


@pytest.mark.parametrize("head", ["lstm", "gpt"])
def test_compiled_policies_act_the_same_in_one_graph(counted, head):
    graphs, backend = counted
    policy = make_policy(0, f"head.type={head}", "head.heads=2", "language.lm_feature=last_block_input")
    expected = acted(policy)
    policy.compile_acting(backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Guards may run slower")  # torch says this of Python 3.13.0
        np.testing.assert_allclose(acted(policy), expected, atol=1e-6)
    assert [len(calls) for calls in graphs] == [5]


def test_texts_of_similar_length_share_a_graph(counted):
    graphs, backend = counted
    policy = make_policy()
    policy.compile_acting(backend=backend)
    lengths = {policy.tokenize([text])[0].shape[1] for text in CORPUS}
    for text in CORPUS:
        policy.predict_action_chunk(make_observation(0, instruction=text))
    assert len(lengths) > 1 and max(lengths) <= BUCKET and len(graphs) == 1


def test_padding_to_a_bucket():
    text = bucketed(
        TextInputs(torch.ones(2, BUCKET + 1, dtype=torch.long), torch.ones(2, BUCKET + 1, dtype=torch.bool))
    )
    assert text.tokens.shape == text.mask.shape == (2, 2 * BUCKET)
    assert text.mask.sum() == 2 * (BUCKET + 1) and not text.tokens[:, BUCKET + 1 :].any()
    assert bucketed(text).tokens.shape == (2, 2 * BUCKET)


def test_texts_whose_padding_counts_are_not_padded_more(counted):
    """Published Voltrons attend to padding: their texts have one length, and keep it."""
    graphs, backend = counted
    config = preset("voltron-tiny").beginning_from(preset("roboflamingo-test"))
    config = config.changed(["encoder.pad_text=true", "language.max_tokens=20"])
    policy = VoltronPolicy.from_config(config, list(CORPUS), seed=0).eval()
    expected = acted(policy)
    policy.compile_acting(backend=backend)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Guards may run slower")
        np.testing.assert_allclose(acted(policy), expected, atol=1e-6)
    assert sum(map(len, graphs)) > 0


def test_without_a_compiler_there_is_a_warning_and_the_same_actions():
    policy = make_policy()
    expected = acted(policy)
    attempts = []

    def backend(graph, inputs):
        attempts.append(1)
        raise RuntimeError("no C++ compiler\nand more")

    torch._dynamo.reset()
    policy.compile_acting(backend=backend)
    with pytest.warns(UserWarning, match="could not be compiled.*"):
        first = acted(policy, steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Guards may run slower")  # torch says this of Python 3.13.0
        np.testing.assert_array_equal(acted(policy), expected)
    np.testing.assert_array_equal(first, expected[:1])
    assert len(attempts) == 1


def test_errors_of_a_call_are_not_taken_for_the_compilers():
    policy = make_policy()
    policy.compile_acting(backend="eager")
    broken = make_observation(0)
    with pytest.raises(ValueError, match="uint8"):
        policy.act({**broken, "rgb_static": broken["rgb_static"].astype(np.float32)})


def test_compiling_is_asked_for_when_loading(tmp_path):
    directory = make_policy().save_pretrained(tmp_path / "policy")
    assert RoboFlamingoPolicy.from_pretrained(directory, "cpu")._step is eager_step
    policy = RoboFlamingoPolicy.from_pretrained(directory, "cpu", compile=True)
    assert isinstance(policy._step, CompiledStep)


def test_copies_of_a_compiled_policy_are_their_own(counted):
    graphs, backend = counted
    policy = make_policy()
    policy.compile_acting(backend="eager")
    expected = acted(policy, steps=1)
    pickle.dumps(policy._step)
    other = copy.deepcopy(policy)
    with torch.no_grad():
        other.head.actions.mlp[-1].bias.add_(0.5)
    assert np.abs(acted(other, steps=1) - expected)[..., :6].max() > 0.1
    np.testing.assert_array_equal(acted(policy, steps=1), expected)


def test_more_numbers_of_environments_are_compiled_than_torch_usually_allows(counted):
    graphs, backend = counted
    policy = make_policy()
    policy.compile_acting(backend=backend)
    for n in range(1, 11):
        policy.reset()
        policy.predict_action_chunk(make_observation(0, n, [CORPUS[0]] * n))
    assert [len(calls) for calls in graphs] == [1] * 10
