"""Folders of weights and numbers of the reference implementation, and our policy on the same weights.

`build(folder)` makes the policy of any such folder through the public conversion: case.json says what no tensor shows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.weights import Report, from_openflamingo, from_roboflamingo

ROOT = Path(__file__).parents[2]


def folders() -> list[Path]:
    """Folders at RF_FIXTURES, or in shared/fixtures beside the repository; none where there are none."""
    home = Path(os.environ.get("RF_FIXTURES") or ROOT.parent / "shared" / "fixtures")
    return sorted(path.parent for path in home.glob("*/case.json"))


def build(folder: str | Path) -> RoboFlamingoPolicy:
    """The policy of a folder."""
    return convert(folder)[0]


def convert(folder: str | Path) -> tuple[RoboFlamingoPolicy, Report]:
    """The policy of a folder, and what became of the tensors."""
    folder = Path(folder)
    case = read(folder)
    return from_roboflamingo(
        folder / "roboflamingo.pt",
        folder / "lm",
        folder / "vision.pt",
        folder / "openflamingo.pt",
        head=_head(case),
        window=case["window_size"],
        pooling="max" if case["pooling"] == "max" else "mean",
        pool_padding=case["pooling_includes_padding"],
        fusion="pre" if case["fusion_mode"] == "pre" else None,
        **_common(case),
    )


def build_openflamingo(folder: str | Path) -> RoboFlamingoPolicy:
    """OpenFlamingo alone, which sees the static view."""
    folder = Path(folder)
    files = folder / "openflamingo.pt", folder / "lm", folder / "vision.pt"
    return from_openflamingo(*files, views=("rgb_static",), **_common(read(folder)))[0]


def read(folder: Path) -> dict[str, Any]:
    """The case.json of a folder."""
    return json.loads((folder / "case.json").read_text(encoding="utf-8"))


def _head(case: dict[str, Any]) -> str | None:
    """An MLP head sees a history or not; of the others the tensors show the kind."""
    if case["decoder_type"] != "fc":
        return None
    return "fc_hist" if case["fusion_mode"] == "vit_concat" and case["window_size"] > 1 else "fc"


def _common(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "vision_head_width": case["vision"]["head_width"],
        "quick_gelu": case["vision"]["quick_gelu"],
        "lm_feature": "last_block_input" if case["lm"]["lm_feature"] == "input_of_last_block" else "final_norm",
    }
