"""A checkpoint's configuration beside its family's: what published and bundled policies of the same parts have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rf_agent.config import RoboFlamingoConfig
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import DEFAULT_PRESET, PRESETS

COMPARED = {
    "image_normalisation": ("image.mean", "image.std"),
    "image_size": ("image.size", "image.resample"),
    "lm_feature": ("language.lm_feature",),
    "window": ("head.window",),
    "cameras_swapped": ("views",),
}
"""What a family fixes, by the cause that another value points to."""


@dataclass(frozen=True)
class Mismatch:
    """A value that is not the family's."""

    kind: str
    key: str
    own: Any
    expected: Any


@dataclass
class CheckpointReport:
    """What was found."""

    family: str = ""
    """Name of the preset with the same vision tower and language model; empty if there is none."""
    nearest: str = ""
    """Without a family: the preset with the same vision tower or the same kind of language model."""
    language_mismatch: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Without a family: own and expected values of the language model, where the vision tower is that of a preset."""
    mismatches: list[Mismatch] = field(default_factory=list)
    trained: bool = True
    gates: float | None = None
    """Largest opening of the gates of the cross-attention; at 0 the language model sees no image."""
    trained_window: int | None = None
    """The window that the run beside the checkpoint says, if there is one."""
    unreadable: str = ""
    """Why the policy could not be loaded."""


def check_config(config: RoboFlamingoConfig, directory: Path) -> CheckpointReport:
    """Compare a configuration with its family, and with the run that it comes from.

    Args:
        config: of the checkpoint.
        directory: of the checkpoint.
    """
    report = CheckpointReport(trained=config.trained, trained_window=_window_of_run(directory))
    report.family = next((name for name in PRESETS if _same_parts(config, PRESETS[name]())), "")
    if not report.family:
        _without_family(report, config)
        return report
    family = PRESETS[report.family]()
    chosen = _chosen(directory, config)
    for kind, keys in COMPARED.items():
        for key in keys:
            own, expected = _value(config, key), _value(family, key)
            if kind == "cameras_swapped" and (set(own) != set(expected)):
                continue  # another robot
            if own != expected and key not in chosen:
                report.mismatches.append(Mismatch(kind, key, own, expected))
    return report


def open_gates(policy: RoboFlamingoPolicy) -> float | None:
    """Largest opening, 0 to 1, of the gates of the cross-attention."""
    layers = policy.vlm.gated_cross_attn_layers
    gates = [parameter for name, parameter in layers.named_parameters() if "gate" in name and parameter.numel() == 1]
    return max((abs(float(gate.detach().float().tanh())) for gate in gates), default=None)


def concerns_language(message: str) -> bool:
    """Whether the tensors or sizes that an error of loading names are mostly of the language model."""
    language = sum(message.count(part) for part in ("lang_encoder", "gated_cross_attn", "vocab_size"))
    other = sum(message.count(part) for part in ("vision_encoder", "perceiver", "head."))
    return language > other


def shortened_error(message: str, most: int = 3) -> str:
    """An error of loading with the first few of the tensors that it names."""
    message = " ".join(message.split()).rstrip(".")
    begin, separator, rest = message.partition(": ")
    tensors = re.findall(r"(?:vlm|head)\.[\w.]+(?: \([\d, ]*\) instead of \([\d, ]*\))?", rest)
    if len(tensors) <= most:
        return message
    return f"{begin}{separator}{', '.join(tensors[:most])} and others ({len(tensors)} in all)"


def _same_parts(config: RoboFlamingoConfig, preset: RoboFlamingoConfig) -> bool:
    return _includes(config.vision.model, preset.vision.model) and _includes(
        config.language.model, preset.language.model
    )


def _includes(own: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether all that a preset says of a model is so; a checkpoint may say more."""
    return all(own.get(key) == value for key, value in expected.items())


def _without_family(report: CheckpointReport, config: RoboFlamingoConfig) -> None:
    similar = [
        (name, preset)
        for name, preset in ((name, make()) for name, make in PRESETS.items())
        if _includes(config.vision.model, preset.vision.model)
    ]
    if not similar:
        return
    kind = config.language.model.get("model_type")
    similar.sort(key=lambda item: item[1].language.model["model_type"] != kind)
    report.nearest, nearest = similar[0]
    expected = nearest.language.model
    report.language_mismatch = {
        key: (config.language.model.get(key), value)
        for key, value in expected.items()
        if config.language.model.get(key) != value
    }


def _value(config: RoboFlamingoConfig, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _chosen(directory: Path, config: RoboFlamingoConfig) -> set[str]:
    """Keys of the configuration that the run beside a checkpoint was told to change, to what they are."""
    try:
        overrides = _settings(directory)["override"]
        changes = {str(change).partition("=")[0]: str(change) for change in overrides}  # the last one of a key counts
        return {key for key, change in changes.items() if config.changed([change]) == config}
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return set()


def _settings(directory: Path) -> dict[str, Any]:
    """Those of the last start of the run beside a checkpoint; most checkpoints were moved from where they were trained.

    Raises:
        OSError, ValueError, KeyError, IndexError, TypeError: there is none, or it is damaged.
    """
    starts = json.loads((directory.resolve().parent / "run.json").read_text(encoding="utf-8"))
    return dict(starts[-1]["settings"])


def _window_of_run(directory: Path) -> int | None:
    """The window with which the run beside a checkpoint trained, by its settings."""
    try:
        settings = _settings(directory)
        changes: Iterable[str] = settings["override"]
        window = next((int(c.partition("=")[2]) for c in reversed(list(changes)) if c.startswith("head.window=")), None)
        if window is not None or settings.get("init"):  # a policy that training began with has its own
            return window
        return PRESETS[settings["preset"] or DEFAULT_PRESET]().head.window
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
