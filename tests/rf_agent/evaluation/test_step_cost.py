"""The cost of a control step, by part."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from rf_agent.acting.compiled import eager_step
from rf_agent.errors import UserError
from rf_agent.evaluation.step_cost import (
    FlopCount,
    build,
    measure,
    observation,
    random_policy,
    tables,
)
from rf_agent.memory import peak_memory, reset_peak

NAMES = ["vision tower", "resampler", "cross-attention", "language model", "head", "images and text", "in all"]
MEMORY = Path("/proc/meminfo")


def free_memory():
    """Bytes that programs may still take, on Linux."""
    (line,) = (line for line in MEMORY.read_text().splitlines() if line.startswith("MemAvailable"))
    return 1024 * int(line.split()[1])


def test_flops_of_known_layers():
    """Two for every multiplication and addition, with and without inference mode."""
    convolution, linear = nn.Conv2d(3, 8, 2, stride=2), nn.Linear(8, 5)
    with torch.inference_mode(), FlopCount() as count, sdpa_kernel(SDPBackend.MATH):
        tokens = convolution(torch.randn(2, 3, 4, 4)).flatten(2).transpose(1, 2)  # (2, 4, 8)
        assert count.total == 2 * 2 * 4 * 8 * 3 * 2 * 2
        linear(tokens)
        assert count.total == 2 * 2 * 4 * 8 * (12 + 5)
        q = torch.randn(2, 3, 4, 6)
        F.scaled_dot_product_attention(q, q, q)
        assert count.total == 2 * 2 * 4 * 8 * (12 + 5) + 2 * 2 * (2 * 3 * 4 * 4 * 6)


@pytest.fixture(scope="module")
def policy():
    return random_policy("roboflamingo-test", torch.float32)


@pytest.fixture(scope="module")
def cost(policy):
    return measure(policy, (1, 3), repeats=2)


def test_parts_make_up_the_whole(cost, policy):
    assert [part.name for part in cost.parts] == NAMES
    *parts, whole = cost.parts
    assert sum(part.flops for part in parts) == whole.flops > 0
    assert all(part.milliseconds > 0 for part in parts)
    assert sum(part.parameters for part in parts) == whole.parameters == sum(p.numel() for p in policy.parameters())
    assert whole.weight_bytes == 4 * whole.parameters
    assert all(part.milliseconds < whole.milliseconds for part in parts)


def test_flops_of_the_head_and_cross_attention(cost, policy):
    flops = {part.name: part.flops for part in cost.parts}
    head = policy.config.head
    chains, hidden, d = head.window, head.hidden, policy.vlm.dim
    lstm = 2 * 4 * hidden * (d + chains * hidden)  # a step is read once, its chains each have their own state
    mlps = 2 * (2 * hidden * head.mlp[0] + head.mlp[0] * 7 * head.chunk_size)
    assert flops["head"] == lstm + mlps
    language, tokens = policy.config.language, cost.text_tokens
    media, inner = 2 * policy.config.resampler.latents, language.heads * language.head_dim
    products = 2 * tokens * d * inner + 2 * media * policy.vlm.vision_encoder.dim * inner  # q and out, k and v
    products += 2 * tokens * media * inner + 2 * tokens * d * d * language.ff_mult
    assert flops["cross-attention"] == 2 * products * len(policy.vlm.gated_cross_attn_layers)
    assert flops["images and text"] == 0


def test_several_environments_and_what_is_left_behind(cost, policy):
    assert [step.environments for step in cost.steps] == [1, 3]
    assert all(step.low <= step.milliseconds <= step.high for step in cost.steps)
    assert policy._step is eager_step and policy._state is None
    assert not any(module._forward_hooks for module in policy.modules())


def test_a_last_block_that_is_left_out_is_not_counted():
    full, less = (random_policy("mid", torch.bfloat16) for _ in range(2))
    full.vlm.exits_early = False
    (more,), (fewer,) = (measure(p, (1,), repeats=1).parts[3:4] for p in (full, less))
    assert more.flops / fewer.flops == pytest.approx(8 / 7, rel=0.01)


def test_random_policies_are_repeatable_and_act():
    one, two, other = (random_policy("roboflamingo-test", torch.bfloat16, seed=seed) for seed in (0, 0, 1))
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) and a.dtype == torch.bfloat16 for a, b in pairs)
    assert not torch.equal(one.vlm.perceiver.latents, other.vlm.perceiver.latents)
    actions = one.act(observation(one, 2))
    assert actions.shape == (2, 7) and abs(actions).max() <= 1


def test_trained_policies_of_the_package():
    trained = build("roboflamingo-tiny", False, torch.float32)
    assert trained.config.tasks
    with pytest.raises(UserError, match="no trained 'mid' comes with this installation: add --random-weights"):
        build("mid", False, torch.float32)
    with pytest.raises(UserError, match="no preset 'huge'"):
        build("huge", True, torch.float32)


def test_tables_show_every_figure(cost):
    by_part, by_count = tables("title", cost)
    assert by_part.row_count == len(NAMES) and by_count.row_count == 2


def test_memory_is_that_of_the_process():
    before = reset_peak(torch.device("cpu"))
    held = torch.ones(200_000_000)  # more than the process keeps of what it has freed
    assert before > 50e6 and peak_memory(held.device) >= 800e6


def test_the_command_needs_no_simulator(tmp_path):
    output = tmp_path / "cost.json"
    script = (
        "import sys; sys.modules['gymnasium'] = sys.modules['pybullet'] = None;"
        "from rf_agent.cli import main;"
        "main('benchmark --preset roboflamingo-test --random-weights --dtype float32 bfloat16 --environments 1 2"
        f" --repeats 1 --threads 1 --device cpu --output {output}'.split())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in NAMES) and "most memory held" in done.stdout
    costs = json.loads(output.read_text())["costs"]
    assert [cost["dtype"] for cost in costs] == ["float32", "bfloat16"]
    assert [step["environments"] for step in costs[0]["steps"]] == [1, 2]
    assert costs[0]["parts"][-1]["weight_bytes"] == 2 * costs[1]["parts"][-1]["weight_bytes"]


@pytest.mark.slow
def test_the_papers_policy_of_full_size_fits_and_acts():
    """M-3B-IFT in bfloat16: under 7 GB, built without a download."""
    if not MEMORY.exists() or free_memory() < 8e9:
        pytest.skip("needs 8 GB of free memory")
    script = (
        "import torch; from rf_agent.evaluation.step_cost import *;"
        "p = random_policy('M-3B-IFT'); a = p.act(observation(p, 1));"
        "assert a.shape == (1, 7) and abs(a).max() <= 1; print(peak_memory(p.device))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert 5.2e9 < int(done.stdout) < 7e9
