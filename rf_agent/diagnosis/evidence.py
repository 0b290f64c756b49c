"""What the findings of a diagnosis say about causes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rf_agent.diagnosis.actions import ActionReport
from rf_agent.diagnosis.causes import Evidence
from rf_agent.diagnosis.checkpoint_checks import CheckpointReport, concerns_language
from rf_agent.diagnosis.facts import EXPLAINING, Facts
from rf_agent.diagnosis.hypotheses import HypothesisReport
from rf_agent.diagnosis.images import BLACK, Format
from rf_agent.diagnosis.language import LanguageReport
from rf_agent.diagnosis.observations import CameraReport, ObservationReport
from rf_agent.diagnosis.replay import ReplayReport, Trial

HELPS = 0.85
"""A correction is evidence if the error falls to this share, or below."""


def evidence(facts: Facts) -> Iterator[Evidence]:
    """Everything that points to a cause."""
    for camera, form in facts.formats.items():
        yield from _scaled(camera, form, "data")
    if facts.observations is not None:
        yield from _observations(facts, facts.observations)
    if facts.replay is not None:
        yield from _replay(facts, facts.replay)
    if facts.actions is not None:
        yield from _actions(facts, facts.actions)
    if facts.hypotheses is not None and not facts.untrained and not facts.strange_tasks:
        yield from _hypotheses(facts, facts.hypotheses)
    if facts.checkpoint is not None:
        yield from _checkpoint(facts, facts.checkpoint)
    if facts.language is not None and not facts.untrained and not facts.strange_tasks:
        yield from _language(facts, facts.language)
    yield from _described(facts)
    if facts.data_problems:
        count = len(facts.data_problems)
        text = f"{count} problems, such as {facts.data_problems[0]}" if count > 1 else facts.data_problems[0]
        yield Evidence("bad_data", 0.35, text, "data")
    if facts.known_tasks is not None and facts.strange_tasks:
        text = f"none of the {facts.known_tasks[1]} tasks of the data is one of those the policy was trained on"
        yield Evidence("unknown_tasks", 0.7, text)


def _observations(facts: Facts, found: ObservationReport) -> Iterator[Evidence]:
    for camera in found.cameras:
        yield from _scaled(camera.camera, camera.environment, "environment")
        if camera.data.lost or camera.environment.lost:
            continue
        yield from _corrected(facts, camera)
        if camera.differs:
            yield from _unexplained_difference(facts, camera)


def _scaled(camera: str, form: Format, where: str) -> Iterator[Evidence]:
    if form.problem == BLACK:
        yield Evidence("black", 0.95, f"{camera} of the {where} holds nothing but zeros", where)
    elif form.problem:
        text = f"{camera} of the {where} holds {form.problem}, where policies read uint8 from 0 to 255"
        yield Evidence("images_scaled", 0.95 if form.scaled else 0.8, text, where)


def _corrected(facts: Facts, camera: CameraReport) -> Iterator[Evidence]:
    correction = camera.correction
    if correction is None or not correction.complexity(camera.camera):
        return
    kinds = [
        ("cameras_swapped", correction.source != camera.camera),
        ("view_mirrored", bool(correction.geometry)),
        ("channels_reversed", correction.reversed_channels),
    ]
    likelihood = (0.95 if camera.paired else 0.7) * camera.explained
    text = (
        f"{camera.camera} of the environment {correction.described(camera.camera)}, as the data see it: undone, the "
        f"mean difference falls from {camera.difference:.1f} to {camera.corrected:.1f} grey levels"
    )
    for kind, holds in kinds:
        if holds:
            yield Evidence(kind, likelihood, f"{text}{_why(facts)}", facts.odd_side)


def _why(facts: Facts) -> str:
    """How much the difference matters to the policy."""
    if facts.environment_error is None or facts.recorded_error is None:
        return ""
    return (
        f"; the policy's relative error is {facts.recorded_error:.2f} on the data's images and "
        f"{facts.environment_error:.2f} on the environment's"
    )


def _unexplained_difference(facts: Facts, camera: CameraReport) -> Iterator[Evidence]:
    if camera.corrected <= camera.tolerance or camera.explained > 0.65:
        return
    tinted = camera.histogram > camera.histogram_tolerance or camera.matched < 0.7 * camera.corrected
    replays = facts.replay
    succeeds = replays is not None and replays.successes * 2 > replays.judged
    other_scene = facts.other("scene")
    alike = camera.same_scene if succeeds else camera.edges > 0.8 or camera.matched < 0.4 * camera.corrected
    share = min(1.0, camera.corrected / 30)
    if alike and not other_scene and (tinted or (camera.paired and succeeds)):
        text = (
            f"{camera.camera} shows the same in other colours or sharpness: edges correlate with {camera.edges:.2f}, "
            f"but grey levels differ by {camera.difference:.1f} ({camera.matched:.1f} once tones are matched)"
        )
        likelihood = (0.5 + 0.4 * share) * (1.0 if camera.paired else 0.6) * (1.0 if facts.matters else 0.7)
        yield Evidence("renderer", likelihood, f"{text}{_why(facts)}", facts.odd_side)
    elif camera.paired and not other_scene:
        text = (
            f"{camera.camera} differs by {camera.difference:.1f} grey levels, and its edges correlate with only "
            f"{camera.edges:.2f} however it is turned"
        )
        yield Evidence("camera_moved", 0.4 + 0.4 * share, f"{text}{_why(facts)}", facts.odd_side)


def _replay(facts: Facts, found: ReplayReport) -> Iterator[Evidence]:
    ratio = found.ratio
    if found.left_out and found.reversed:
        listed = ", ".join(map(str, found.reversed))
        text = f"entry {listed} of the actions moves the robot the other way in the environment than in the data"
        yield Evidence("action_axis", 0.7, text)
    if ratio is not None and found.left_out and not 0.6 < ratio < 1.7:
        text = f"actions move the robot {1 / ratio:.3g} times as far in the environment as in the data"
        yield Evidence("action_scale", 0.7, text, _odd_scale(facts))
    plain = found.plain
    if plain is None or not found.trials:
        return
    best = max(found.trials, key=lambda trial: trial.explains(plain))
    explains = best.explains(plain)
    if explains >= 0.6:
        side = _odd_actions(facts, best)
        text = (
            f"with the actions changed ({best.label}), the environment does again what was recorded: {_outcome(best)}, "
            f"instead of {_outcome(plain)} as they are"
        )
        yield Evidence(best.kind, 0.95 * explains, text, side)
    elif found.successes * 2 < found.judged:  # all of them: `plain` is of those alone that went wrong
        said = f"{found.successes} of {found.judged} replays succeed, with no change of the actions that would help"
        yield Evidence("replay_fails", 0.45, said)


def _outcome(trial: Trial) -> str:
    moved = "" if trial.deviation is None else f", states differ by {100 * trial.deviation:.1f} % of their range"
    return f"{trial.successes} of {trial.episodes} episodes succeed{moved}"


def _odd_actions(facts: Facts, best: Trial) -> str:
    """Whose actions are odd, where data and environment differ: those that the policy does not share."""
    found = facts.actions
    if found is None:
        return ""
    if best.kind == "gripper_sign":
        wrong = found.gripper_error
        return "" if wrong is None else "data" if wrong > 0.5 else "environment"
    return _odd_scale(facts)


def _odd_scale(facts: Facts) -> str:
    if facts.actions is None or facts.actions.scale is None:
        return ""
    return "data" if facts.scale_is_off else "environment"


def _actions(facts: Facts, found: ActionReport) -> Iterator[Evidence]:
    wrong = found.gripper_error
    if wrong is not None and wrong > 0.6 and not facts.untrained and not facts.strange_tasks:
        text = f"the policy's gripper is on the other side than the recorded one at {100 * wrong:.0f} % of the steps"
        yield Evidence("gripper_sign", min(0.9, wrong), text, "data")
    scale = found.scale
    if scale is not None and facts.scale_is_off:
        together = np.mean([abs(e.correlation) for e in found.entries if not e.is_gripper and abs(e.correlation) > 0.5])
        slopes = ", ".join(f"{e.slope:.3g}" for e in found.entries if not e.is_gripper)
        text = (
            f"recorded actions follow the policy's (correlation {together:.2f}), but are {scale:.3g} times as large "
            f"(by entry: {slopes})"
        )
        yield Evidence("action_scale", 0.9, text, "data")
    if facts.knows_little:
        text = f"on the data's own observations its error is {found.relative_error:.2f} of a constant action's"
        yield Evidence("unexplained", 0.35 * (1 - facts.explained), text)
        text += ", and nothing that can be checked tells trained language models of one shape apart (M-3B, M-3B-IFT)"
        yield Evidence("language_model", 0.31 * (1 - facts.explained), text, "policy")


def _hypotheses(facts: Facts, found: HypothesisReport) -> Iterator[Evidence]:
    if found.plain <= 0 or facts.scale_is_off:
        return
    for kind in (*EXPLAINING, "window"):
        best = found.best(kind)
        if best is None or best.error > HELPS * found.plain or found.plain - best.error < 0.05:
            continue
        where = "data" if facts.odd_side == "data" else "policy"
        text = (
            f"with {best.hypothesis.label}, the policy's relative error on the data falls from {found.plain:.2f} to "
            f"{best.error:.2f}"
        )
        # of several that help, the one that helps most
        rank = 1 - best.error / found.plain
        yield Evidence(kind, 0.9 * min(1.0, 0.4 + rank) * _of_best(found, best.error), text, where)


def _of_best(found: HypothesisReport, error: float) -> float:
    """1 for the hypothesis that helps most, less for those that help less."""
    best = min(outcome.error for outcome in found.outcomes)
    return (found.plain - error) / (found.plain - best) if found.plain > best else 0.0


def _checkpoint(facts: Facts, found: CheckpointReport) -> Iterator[Evidence]:
    if found.unreadable:
        kind = "language_model" if concerns_language(found.unreadable) else "damaged"
        yield Evidence(kind, 0.95, f"the policy cannot be loaded: {found.unreadable}", "policy")
        return
    if not found.trained:
        yield Evidence("untrained", 0.9, "its configuration says that it has not learned to act", "policy")
    if found.gates is not None and found.gates < 1e-4:
        text = "all gates of its cross-attention are closed, so that it sees no image"
        yield Evidence("untrained", 0.9, text, "policy")
    likelihoods = {
        "image_normalisation": 0.6,
        "image_size": 0.4,
        "lm_feature": 0.6,
        "window": 0.5,
        "cameras_swapped": 0.2,
    }
    for mismatch in found.mismatches:
        if mismatch.kind == "window" and (found.trained_window == mismatch.own or not found.trained):
            continue  # it was trained so, or is about to be
        text = f"{mismatch.key} is {_said(mismatch.own)}; the family {found.family} has {_said(mismatch.expected)}"
        if mismatch.key == "image.mean" and set(mismatch.own) == {0.0}:
            text += " (mean 0 and deviation 1 give pixels in [0, 1])"
        yield Evidence(mismatch.kind, likelihoods[mismatch.kind], text, "policy")
    run = found.trained_window
    own = next((m.own for m in found.mismatches if m.kind == "window"), None)
    if run is not None and own is not None and own != run:
        yield Evidence("window", 0.8, f"the run beside the checkpoint trained with head.window {run}", "policy")
    for key, (value, expected) in list(found.language_mismatch.items())[:1]:
        text = (
            f"its vision tower is that of {found.nearest}, but language.model.{key} is {_said(value)} instead of "
            f"{_said(expected)}: its language model is none of that family"
        )
        yield Evidence("language_model", 0.4, text, "policy")


def _said(value: Any) -> str:
    return "[" + ", ".join(map(_said, value)) + "]" if isinstance(value, tuple | list) else str(value)


def _language(facts: Facts, found: LanguageReport) -> Iterator[Evidence]:
    bad, loss = facts.knows_little, found.relative_loss
    deaf = found.error is not None and found.exchanged_error is not None and found.exchanged_error < 1.1 * found.error
    left = 1 - facts.explained
    if bad and loss is not None and not np.isnan(loss) and loss > 0.88:
        text = (
            f"the language model finds the instructions as unlikely as chance would: loss {found.loss:.2f} a token, "
            f"where knowing nothing gives {found.uniform:.2f}"
        )
        yield Evidence("language_model", 0.85 * left, text, "policy")
    if bad and deaf:
        text = (
            f"other instructions change little: relative error {found.exchanged_error:.2f} with those of other tasks, "
            f"{found.error:.2f} with the right ones"
        )
        yield Evidence("language_model", 0.4 * left, text, "policy")
    if found.unknown_tokens:
        text = f"the tokenizer does not know {found.unknown_tokens} pieces of the data's instructions"
        yield Evidence("language_model", 0.4, text, "policy")
    worded = found.environment_error
    if found.error is not None and worded is not None and worded > max(1.3 * found.error, found.error + 0.1):
        text = (
            f"asked in the environment's words, the policy's relative error on the data is {worded:.2f}, with those of "
            f"the data {found.error:.2f}"
        )
        yield Evidence("wording", 0.6, text, "environment")


def _described(facts: Facts) -> Iterator[Evidence]:
    cameras = [] if facts.observations is None else facts.observations.cameras
    if cameras and all(camera.paired and not camera.differs for camera in cameras):
        return  # whatever they say, they show the same
    for kind, likelihood in (("renderer", 0.4), ("scene", 0.9), ("rate", 0.5)):
        if facts.other(kind):
            data, environment = facts.described[kind]
            yield Evidence(kind, likelihood, f"{kind}: {data} in the data, {environment} in the environment")
