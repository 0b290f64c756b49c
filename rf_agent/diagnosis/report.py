"""A diagnosis in words and tables for the console, and in numbers for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rf_agent.diagnosis.images import Format
from rf_agent.diagnosis.plots import entry_name, plot_actions, plot_observations
from rf_agent.diagnosis.run import Diagnosis
from rf_agent.files import write_json
from rf_agent.versions import versions

MOST_STATES = 4
"""Entries of the state that are printed; the file has all."""
SECTIONS = ("replay", "actions", "observations", "language", "checkpoint")


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print all sections, and the likeliest causes at the end."""
    writers = {
        "replay": _replay,
        "actions": _actions,
        "observations": _observations,
        "language": _language,
        "checkpoint": _checkpoint,
    }
    tasks = len({episode.task for episode in diagnosis.episodes})
    steps = sum(len(episode.actions) for episode in diagnosis.episodes)
    counted = f"{len(diagnosis.episodes)} demonstrations of {tasks} tasks, {steps} steps"
    console.print(f"{diagnosis.policy} on {diagnosis.demos} in {diagnosis.env}: {counted}", markup=False)
    for name in SECTIONS:
        console.print(f"\n[bold]{name.capitalize()}[/bold]")
        for line in writers[name](diagnosis):
            console.print(line, markup=False) if isinstance(line, str) else console.print(line)
        for reason in diagnosis.left_out.get(name, []):
            console.print(f"Not checked: {reason}.", markup=False)
    console.print("\n[bold]Likeliest causes[/bold]")
    if not diagnosis.causes:
        console.print("Nothing was found that would keep this policy from acting as in the demonstrations.")
    for number, cause in enumerate(diagnosis.causes, 1):
        where = f" (in the {cause.where})" if cause.where else ""
        console.print(f"[bold]{number}. {escape(cause.title)}{where}[/bold], likelihood {cause.likelihood:.2f}")
        for text in cause.evidence:
            console.print(f"   - {text}.", markup=False)
        console.print(f"   What to do: {cause.remedy}.", markup=False)


def _replay(diagnosis: Diagnosis) -> Iterator[Any]:
    found = diagnosis.facts.replay
    if found is None:
        return
    count = len(found.replays)
    unjudged = "" if found.judged == count else f"; of {count - found.judged} the environment does not say"
    yield f"Carried out again, the recorded actions succeed in {found.successes} of {found.judged} episodes{unjudged}."
    told = [replay for replay in found.replays if replay.deviation is not None]
    if told:
        same = sum(replay.same_start is True for replay in told)
        tracked = sum(replay.tracked for replay in told)
        steps = sum(replay.steps for replay in told)
        yield (
            f"{same} of {len(told)} begin in the recorded state of the robot; it is as it was recorded at {tracked} of "
            f"{steps} steps."
        )
    elif not found.left_out:
        yield "The data or the environment have no state of the robot, so success alone tells how replays went."
    if found.ratio is not None:
        listed = ", ".join(map(str, found.reversed))
        other = f"; entry {listed} moves it the other way" if listed else ""
        yield f"The same actions move the robot {1 / found.ratio:.2f} times as far as in the data{other}."
    if found.plain is None:
        return
    table = Table("actions", "succeed", "difference of states", title="What if the actions are changed?")
    for trial in (found.plain, *found.trials):
        moved = "" if trial.deviation is None else f"{100 * trial.deviation:.1f} % of their range"
        table.add_row(trial.label, f"{trial.successes} of {trial.episodes}", moved)
    yield table


def _actions(diagnosis: Diagnosis) -> Iterator[Any]:
    facts = diagnosis.facts
    if facts.actions is None:
        return
    gripper = diagnosis.layout.gripper
    table = Table("entry", "policy", "constant", "copy-last", "correlation", "recorded / policy")
    for column in table.columns[1:]:
        column.justify = "right"
    dim = len(facts.actions.entries)
    for entry in facts.actions.entries:
        numbers = (entry.error, entry.constant, entry.copy_last, entry.correlation, entry.slope)
        name = entry_name(entry.index, dim, gripper) + (" (share wrong)" if entry.is_gripper else "")
        table.add_row(name, *(f"{number:.3f}" for number in numbers))
    yield "Mean absolute error at every recorded step, when the policy is shown what was recorded:"
    yield table
    yield (
        "constant: the best action that never changes. copy-last: the last action before each observation again, "
        "which a policy does not see."
    )
    error = facts.actions.relative_error
    if error is not None:
        yield f"Its error is {error:.2f} of the constant action's (0 is perfect, 1 knows nothing)."
    if facts.environment_error is not None:
        yield (
            f"On images of the same steps it is {facts.environment_error:.2f} with the environment's and "
            f"{facts.recorded_error:.2f} with the data's."
        )
    if facts.refused:
        yield f"It refuses the environment's images: {facts.refused}"
    found = facts.hypotheses
    if found is None or not found.outcomes:
        yield "No correction of its observations or its configuration was tried, as nothing calls for one."
        return
    best = sorted(found.outcomes, key=lambda outcome: outcome.error)[:3]
    listed = "; ".join(f"{outcome.error:.2f} with {outcome.hypothesis.label}" for outcome in best)
    tried = f"the first {found.steps} steps, {len(found.outcomes)} hypotheses"
    yield f"What if ({tried})? {found.plain:.2f} as it is; {listed}."


def _observations(diagnosis: Diagnosis) -> Iterator[Any]:
    found = diagnosis.facts.observations
    if found is None:
        return
    for camera in found.cameras:
        yield f"{camera.camera}: {_format(camera.data)} in the data, {_format(camera.environment)} in the environment."
        if camera.data.lost or camera.environment.lost:
            continue
        same = "at the same steps" if camera.paired else "on average over different states"
        bright = f"brightness {camera.brightness[0]:.0f} and {camera.brightness[1]:.0f} of 255"
        yield f"  Apart by {camera.difference:.1f} grey levels {same}; colours by {camera.histogram:.1f}; {bright}."
        if camera.correction is not None and (described := camera.correction.described(camera.camera)):
            yield f"  By {camera.corrected:.1f}, if the environment's image {described}."
    if len(found.states) > MOST_STATES:
        yield f"{len(found.states)} entries of the robot's state leave the range of the data, such as these:"
    for state in found.states[:MOST_STATES]:
        yield (
            f"Entry {state.entry} of the robot's state goes from {state.environment[0]:.3g} to "
            f"{state.environment[1]:.3g} in the environment, from {state.data[0]:.3g} to {state.data[1]:.3g} in the "
            "data."
        )
    if found.cameras and not found.states and any(replay.state is not None for replay in _replays(diagnosis)):
        yield "The robot's state stays in the range of the data."
    for key, (data, environment) in diagnosis.facts.described.items():
        if data != environment:
            yield f"The data say {key} {data}, the environment {environment}."


def _replays(diagnosis: Diagnosis) -> list[Any]:
    return [] if diagnosis.facts.replay is None else diagnosis.facts.replay.replays


def _format(form: Format) -> str:
    size = "x".join(map(str, form.shape[:2]))
    return f"{size} {form.problem or form.dtype}"


def _language(diagnosis: Diagnosis) -> Iterator[Any]:
    found = diagnosis.facts.language
    if found is None:
        return
    if found.loss is not None and not math.isnan(found.loss):
        yield (
            f"The language model's loss on {found.texts} instructions of the data is {found.loss:.2f} a token; one "
            f"that knows nothing has {found.uniform:.2f}. The tokenizer makes {found.pieces:.1f} tokens of a word."
        )
    if found.exchanged_error is not None:
        yield (
            f"With instructions of other tasks the policy's error is {found.exchanged_error:.2f}, with the right ones "
            f"{found.error:.2f}."
        )
    if found.environment_error is not None:
        yield f"In the environment's words it is {found.environment_error:.2f}."
    if found.new_words:
        words = sorted({word for new in found.new_words.values() for word in new})
        more = f" and {len(words) - 12} more" if len(words) > 12 else ""
        yield f"Words of the environment that no instruction of the data has: {', '.join(words[:12])}{more}."


def _checkpoint(diagnosis: Diagnosis) -> Iterator[Any]:
    found = diagnosis.facts.checkpoint
    if found is None:
        return
    if found.unreadable:
        yield f"It cannot be loaded: {found.unreadable}."
    if found.family:
        agrees = "" if found.mismatches else "; image normalisation, image size, lm_feature, window and cameras agree"
        yield f"Family by vision tower and language model: {found.family}{agrees}."
    for mismatch in found.mismatches:
        yield f"{mismatch.key} is {mismatch.own}, the family's is {mismatch.expected}."
    if found.gates is not None:
        yield f"Its cross-attention is open by {found.gates:.2f} at most (0 is closed, 1 is open)."
    known = diagnosis.facts.known_tasks
    if known is not None:
        yield f"It was trained on {known[0]} of the {known[1]} tasks of the data."


def write(diagnosis: Diagnosis, directory: Path) -> list[Path]:
    """Write `diagnosis.json`, `actions.png` and `observations.png`; what there is nothing of is left out.

    Returns:
        The files.
    """
    facts = diagnosis.facts
    written = [directory / "diagnosis.json"]
    write_json(written[0], as_json(diagnosis))
    if facts.actions is not None and facts.actions.entries:
        path = directory / "actions.png"
        gripper = diagnosis.layout.gripper
        written.append(plot_actions(path, diagnosis.episodes, facts.actions.predicted, facts.actions.entries, gripper))
    if facts.observations is not None and facts.observations.cameras:
        written.append(plot_observations(directory / "observations.png", facts.observations.cameras))
    return written


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """All numbers, and the causes in order."""
    facts = diagnosis.facts
    content: dict[str, Any] = {
        "policy": diagnosis.policy,
        "demos": diagnosis.demos,
        "env": diagnosis.env,
        "episodes": [{"name": e.name, "task": e.task, "steps": len(e.actions)} for e in diagnosis.episodes],
        "causes": [asdict(cause) for cause in diagnosis.causes],
    }
    if facts.replay is not None:
        keys = ("name", "task", "steps", "success", "tracked", "same_start", "instruction")
        trials = [] if facts.replay.plain is None else [facts.replay.plain, *facts.replay.trials]
        content["replay"] = {
            "replays": [{key: getattr(replay, key) for key in keys} for replay in facts.replay.replays],
            "trials": [asdict(trial) for trial in trials],
            "ratios": facts.replay.ratios,
        }
    if facts.actions is not None:
        content["actions"] = {
            "relative_error": facts.actions.relative_error,
            "gripper_error": facts.actions.gripper_error,
            "scale": facts.actions.scale,
            "steps": facts.actions.steps,
            "entries": [asdict(entry) for entry in facts.actions.entries],
            "environment_error": facts.environment_error,
            "recorded_error": facts.recorded_error,
            "refused": facts.refused,
        }
    if facts.hypotheses is not None:
        outcomes = [
            {"kind": outcome.hypothesis.kind, "label": outcome.hypothesis.label, "error": outcome.error}
            for outcome in facts.hypotheses.outcomes
        ]
        content["hypotheses"] = {"plain": facts.hypotheses.plain, "steps": facts.hypotheses.steps, "outcomes": outcomes}
    if facts.observations is not None:
        cameras = []
        for camera in facts.observations.cameras:
            values = asdict(camera)
            del values["example"]
            cameras.append(values | {"explained": camera.explained, "same_scene": camera.same_scene})
        states = [asdict(state) for state in facts.observations.states]
        content["observations"] = {"cameras": cameras, "states": states}
    if facts.language is not None:
        content["language"] = asdict(facts.language)
    if facts.checkpoint is not None:
        content["checkpoint"] = asdict(facts.checkpoint)
    content |= {
        "known_tasks": facts.known_tasks,
        "described": facts.described,
        "data_problems": facts.data_problems,
        "left_out": diagnosis.left_out,
        "versions": versions(),
    }
    return _plain(content)


def _plain(value: Any) -> Any:
    """Numbers and lists that JSON knows; what is no number becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
