"""Our policy against numbers of the reference implementation (see its table of cases: any of them can be read).

The folders are not part of the repository; tests/parity/test_round_trip.py needs none.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from case import build_openflamingo, convert, folders, read

from rf_agent import preprocess
from rf_agent.nn.fusion import arrange
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.tokenizer import prompt
from rf_agent.weights.language import read_language_model

FOLDERS = folders()
pytestmark = pytest.mark.skipif(not FOLDERS, reason="no folders of reference numbers (RF_FIXTURES)")
TOLERANCE = 1e-4


class Case:
    """A folder, read once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.json = folder, read(folder)
        self.policy, self.report = convert(folder)
        self.inputs, self.expected = (dict(np.load(folder / f"{name}.npz")) for name in ("inputs", "expected"))
        views = (self.inputs["px_static"], self.inputs["px_gripper"])
        self.pixels = torch.from_numpy(np.stack(views, axis=1))  # (20, 2, 3, S, S)
        self.frames = torch.from_numpy(self.inputs["window_frames"])  # (2, 12)
        self.state = torch.from_numpy(self.inputs["robot_obs"])

    def text(self, which: str = "") -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and mask: of both rows ("", padded), or of one ("_a", "_b")."""
        ids, mask = (torch.from_numpy(self.inputs[name + which]) for name in ("input_ids", "attention_mask"))
        return ids, mask.bool()

    def rows(self) -> list[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        """Frames and text of each training row alone."""
        return [(self.frames[i : i + 1], self.text(which)) for i, which in enumerate(("_a", "_b"))]

    def close(self, ours: torch.Tensor, name: str, row: int | None = None, tolerance: float = TOLERANCE) -> None:
        """Assert that `ours` is what the reference computed."""
        wanted = self.expected[name] if row is None else self.expected[name][row : row + 1]
        np.testing.assert_allclose(ours.numpy(), wanted, atol=tolerance, rtol=0, err_msg=name)


@cache
def read_case(folder: Path) -> Case:
    return Case(folder)


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def case(request):
    torch.set_num_threads(1)
    return read_case(request.param)


def test_tokens(case):
    ids, mask = case.policy.tokenize(case.json["instructions"])
    assert torch.equal(ids, case.text()[0]) and torch.equal(mask, case.text()[1])
    texts = [prompt(text, case.policy.tokenizer.eos_token) for text in case.json["instructions"]]
    assert texts == case.json["prompts"]


@torch.no_grad()
def test_vision_and_resampler(case):
    tokens = case.policy.encode_vision(case.pixels)
    latents = case.policy.vlm.resample(tokens)
    for view, name in enumerate(("static", "gripper")):
        case.close(tokens[:, view], f"vision_tokens_{name}")
        if case.json["fusion_mode"] != "pre":
            case.close(latents[:, view], f"perceiver_{name}")
    if case.json["fusion_mode"] == "pre":
        case.close(latents[:, 0], "perceiver_fused")


@torch.no_grad()
def test_features(case):
    """Hidden states of the language model and what is pooled of them, of the padded batch and of each row alone."""
    policy, (ids, mask) = case.policy, case.text()
    seen = policy.head.frames  # at one observation step

    def hidden(frames, ids, mask):  # (B, 12), (B, L) -> (B * T, L, d)
        tokens = policy.encode_vision(case.pixels[frames.flatten()])
        latents = policy.vlm.resample(tokens).unflatten(0, (-1, seen))
        repeats = len(latents) // len(ids)
        return policy.vlm.hidden(
            arrange(latents), ids.repeat_interleave(repeats, 0), mask.repeat_interleave(repeats, 0)
        )

    out = hidden(case.frames, ids, mask)
    case.close(out.unflatten(0, (2, -1)), "lm_feature_batch")
    everything = torch.ones(out.shape[:2], dtype=torch.bool)
    case.close(policy.head.pool(out, everything).unflatten(0, (2, -1)), "pooled_batch")
    for row, (frames, text) in enumerate(case.rows()):
        out = hidden(frames, *text)
        pooled = policy.head.pool(out, torch.ones(out.shape[:2], dtype=torch.bool))
        case.close(pooled.unflatten(0, (1, -1)), "pooled_rows", row)


@torch.no_grad()
def test_window(case):
    def window(frames, ids, mask):
        return case.policy.window(case.pixels[frames], ids, mask, case.state[frames])

    out = window(case.frames, *case.text())
    case.close(out.pose.flatten(2), "pose_batch")
    case.close(out.gripper_logits.sigmoid(), "gripper_batch")
    for row, (frames, text) in enumerate(case.rows()):
        out = window(frames, *text)
        case.close(out.pose.flatten(2), "pose_rows", row)
        case.close(out.gripper_logits.sigmoid(), "gripper_rows", row)


def gradients(case, frames, text, actions):
    """Loss metrics and gradients by the checkpoint's names."""
    policy = case.policy
    policy.set_trainable()
    policy.zero_grad()
    batch = {
        "pixels": case.pixels[frames],
        "tokens": text[0],
        "token_mask": text[1],
        "actions": actions.unflatten(2, (-1, 7)) if actions.dim() == 3 else actions,
        "mask": torch.ones(frames.shape, dtype=torch.bool),
        "robot_obs": case.state[frames],
    }
    loss, _ = policy(batch)
    loss.backward()
    names = {name: original for name, (_, original) in case.report.used.items()}
    found = {names[name]: p.grad for name, p in policy.named_parameters() if p.requires_grad}
    return loss.item(), {head_name(name): grad for name, grad in found.items()}


def head_name(name):
    return name.removeprefix("module.").replace("action_head.", "lm_head.", 1)


def test_losses_and_gradients(case):
    """Of the padded batch, and of each row alone: their norms, and where there is none."""
    wanted = json.loads((case.folder / "expected_grad_norms.json").read_text())
    actions = torch.from_numpy(case.inputs["actions"])
    loss, batch = gradients(case, case.frames, case.text(), actions)
    assert loss == pytest.approx(case.expected["loss_batch"][2], abs=TOLERANCE)
    rows = []
    for row, (frames, text) in enumerate(case.rows()):
        loss, grads = gradients(case, frames, text, actions[row : row + 1])
        assert loss == pytest.approx(case.expected["loss_rows"][row][2], abs=TOLERANCE)
        rows.append(grads)
    mean = {name: None if grad is None else (grad + rows[1][name]) / 2 for name, grad in rows[0].items()}
    for key, ours in (("batch", batch), ("rows_mean", mean)):
        norms = {head_name(name): norm for name, norm in wanted[key].items()}
        assert set(norms) == set(ours)
        assert {name for name, norm in norms.items() if norm is None} == {n for n, g in ours.items() if g is None}
        for name, norm in norms.items():
            if norm is not None:
                assert ours[name].norm().item() == pytest.approx(norm, abs=TOLERANCE), (key, name)


@pytest.mark.parametrize("images", ["prepared", "raw"])
@pytest.mark.parametrize("prefix", ["step", "step_b"])
def test_acting(case, images, prefix, monkeypatch):
    """The closed loop, one environment: 20 steps of the first instruction, 6 of the second."""
    policy, frame = case.policy, iter(range(20))
    if images == "prepared":
        monkeypatch.setattr(preprocess, "pixels", lambda *args, **kwargs: case.pixels[[next(frame)]])
    policy.reset()
    actions = []
    for t in range(len(case.expected[f"{prefix}_action"])):
        observation = {
            "rgb_static": case.inputs["rgb_static"][t],
            "rgb_gripper": case.inputs["rgb_gripper"][t],
            "robot_obs": case.inputs["robot_obs"][t],
            "instruction": case.json["instructions"][int(prefix == "step_b")],
        }
        actions.append(policy.act(observation))
    case.close(torch.from_numpy(np.stack(actions)), f"{prefix}_action")


@torch.no_grad()
def test_openflamingo_alone(case):
    policy = build_openflamingo(case.folder)
    ids, mask = case.text()
    media = policy.vlm.media(policy.encode_vision(case.pixels[[0, 8], :1]))
    case.close(media, "of_perceiver")
    case.close(policy.vlm.hidden(media, ids, mask), "of_lm_feature")
    logits = policy.vlm.logits(media, ids, mask)
    # of a scale near 20: float32 puts the reference itself 4e-4 from what float64 gives
    case.close(logits[..., : case.expected["of_logits"].shape[-1]], "of_logits", tolerance=5e-4)


@torch.no_grad()
def test_saved_policy_is_the_same(case, tmp_path):
    loaded = RoboFlamingoPolicy.from_pretrained(case.policy.save_pretrained(tmp_path / "policy"), device="cpu")
    assert loaded.config == case.policy.config
    inputs = case.pixels[case.frames], *case.text(), case.state[case.frames]
    for ours, again in zip(case.policy.window(*inputs), loaded.window(*inputs), strict=True):
        assert torch.equal(ours, again)
    assert torch.equal(loaded.tokenize(case.json["instructions"])[0], case.text()[0])


def test_raw_mosaic_gpt(case):
    raw = case.folder / "mosaic_gpt.pt"
    if not raw.exists():
        pytest.skip("another language model")
    tensors, again = (read_language_model(case.folder / "lm", file).source.tensors for file in (None, raw))
    assert set(tensors) == set(again) and all(torch.equal(tensors[name], again[name]) for name in tensors)
