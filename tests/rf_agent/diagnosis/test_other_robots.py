"""Robots unlike CALVIN's, and what cannot be compared."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import fake_env  # noqa: F401 (registers environments)
import numpy as np
import pytest
from pointer_env import OnlyOne, demonstrate
from rich.console import Console

from rf_agent.demos import write_demonstrations
from rf_agent.demos.pack import pack
from rf_agent.diagnosis.gains import unit_ratios
from rf_agent.diagnosis.report import show
from rf_agent.diagnosis.run import diagnose
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.training.robot import fitted, open_all


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pointer") / "demos.hdf5"
    return write_demonstrations(path, [demonstrate(seed) for seed in range(4)], fps=10)


@pytest.fixture(scope="module")
def blind(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pointer") / "demos.hdf5"
    return write_demonstrations(path, [demonstrate(seed, state=False) for seed in range(4)], fps=10)


def shown(found) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    show(found, console)
    return console.export_text()


def kinds(policy: str | Path, demos: Path, env: str) -> list[str]:
    return [cause.kind for cause in diagnose(str(policy), demos, env).causes]


def test_a_robot_without_gripper_is_replayed(file):
    found = diagnose("random", file, "pointer/Plain-v0")
    assert found.causes == [] and found.facts.replay.successes == 4 and found.facts.replay.reproduced
    assert "no network" in found.left_out["actions"][0]


def test_where_nobody_says_what_is_a_success_the_states_tell(file):
    found = diagnose("random", file, "pointer/Silent-v0")
    assert found.causes == [] and found.facts.replay.judged == 0 and found.facts.replay.reproduced
    assert all(replay.success is None and replay.tracked == replay.steps for replay in found.facts.replay.replays)
    assert "succeed in 0 of 0 episodes; of 4 the environment does not say" in " ".join(shown(found).split())


def test_packed_images_differ_as_those_of_videos_do(file, tmp_path):
    path = pack([file], tmp_path / "packed.hdf5", quality=30)  # differs by 4 grey levels: above TOLERANCE
    found = diagnose("random", path, "pointer/Plain-v0")
    assert found.causes == [] and found.facts.replay.reproduced


@pytest.mark.parametrize(
    ("env", "kind"),
    [("Mirrored", "view_mirrored"), ("Normalised", "action_scale"), ("Reversed", "action_axis")],
)
def test_faults_of_another_robot_are_named(file, env, kind):
    assert kinds("random", file, f"pointer/{env}-v0")[0] == kind


def test_one_simulator_of_a_process_is_enough(file):
    assert kinds("random", file, "pointer_env:rf/OnlyOne-v0")[0] == "action_axis"
    assert OnlyOne.open is None


@pytest.mark.parametrize(("env", "entries"), [("Reversed", "0"), ("Turned", "0, 1")])
def test_reversed_axes_are_named_where_nobody_says_how_episodes_began(tmp_path, env, entries):
    demos = [demonstrate(seed) for seed in range(4)]
    for demo in demos:
        demo.attributes = {}
    found = diagnose("random", write_demonstrations(tmp_path / "d.hdf5", demos, fps=10), f"pointer/{env}-v0")
    assert [cause.kind for cause in found.causes] == ["action_axis"]
    said = f"entry {entries} of the actions moves the robot the other way in the environment than in the data"
    assert found.causes[0].evidence == [said]
    assert f"1.00 times as far as in the data; entry {entries} moves it the other way" in " ".join(shown(found).split())


def test_an_entry_that_moves_nothing_in_the_environment_is_not_reversed():
    """Its ratio would be one of noise."""
    rng, episodes, states = np.random.default_rng(0), [], []
    for _ in range(4):
        actions = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
        moved = np.concatenate([np.zeros((1, 2)), 0.1 * actions[:-1].cumsum(axis=0)])
        episodes.append(SimpleNamespace(executed=actions, state=moved.astype(np.float32)))
        jitter = np.column_stack([moved[:, 0], 1e-4 * rng.normal(size=40)])
        states.append(jitter.astype(np.float32))
    ratios = unit_ratios(episodes, states, None)
    assert ratios[0] == pytest.approx(1.0, abs=1e-3) and np.isnan(ratios[1])


def test_without_a_state_success_and_images_tell(blind):
    assert kinds("random", blind, "pointer/Blind-v0") == []
    assert kinds("random", blind, "pointer/Mirrored-v0")[0] == "view_mirrored"
    found = diagnose("random", blind, "pointer/Normalised-v0")
    assert found.facts.replay.reproduced is None and found.causes[0].kind == "action_scale"


@pytest.fixture(scope="module")
def policy(tmp_path_factory, file) -> Path:
    """One that nobody has trained."""
    shape = preset("roboflamingo-test").changed(["head.n_action_steps=1"])
    config = fitted(shape, open_all([file]), trained=False)
    made = RoboFlamingoPolicy.from_config(config, ["go to the right"], seed=0)
    return made.save_pretrained(tmp_path_factory.mktemp("pointer") / "policy")


def test_an_untrained_policy_of_another_robot(file, policy):
    found = diagnose(str(policy), file, "pointer/Plain-v0")
    assert [cause.kind for cause in found.causes] == ["untrained"]
    assert "one task alone" in found.left_out["language"][0]
    assert len(found.facts.actions.entries) == 2 and found.facts.actions.gripper_error is None
    text = shown(found)
    assert "entry 0" in text and "Untrained policy" in text and "{" not in text


@pytest.mark.parametrize("dropout", [0, 0.1])
def test_a_policy_that_may_do_without_the_state_is_asked_without(file, blind, tmp_path, dropout):
    changes = ["head.n_action_steps=1", "head.proprioception=true", f"head.state_dropout={dropout}"]
    config = fitted(preset("roboflamingo-test").changed(changes), open_all([file]), trained=False)
    made = RoboFlamingoPolicy.from_config(config, ["go to the right"], seed=0).save_pretrained(tmp_path / "policy")
    seen = diagnose(str(made), file, "pointer/Plain-v0")
    assert seen.left_out["actions"] == [] and seen.facts.actions is not None
    found = diagnose(str(made), blind, "pointer/Blind-v0")
    if dropout:
        assert found.facts.actions is not None and "gives no 'state'" in found.left_out["actions"][0]
    else:
        assert found.facts.actions is None and "which the data do not hold" in found.left_out["actions"][0]


def test_a_policy_that_observes_more_often_than_frames_were_stored(tmp_path, policy):
    demo = demonstrate(0)
    demo.images = {"top": demo.images["top"][::3]}
    from dataclasses import replace

    from rf_agent.demos.demonstration import layout_of
    from rf_agent.demos.store import append_demos, create_store

    layout = replace(layout_of([demonstrate(0)], 10, None, "state"), frame_stride=3)
    create_store(tmp_path / "sparse.hdf5", layout, {})
    append_demos(tmp_path / "sparse.hdf5", [demo], layout)
    found = diagnose(str(policy), tmp_path / "sparse.hdf5", "pointer/Plain-v0")
    assert "observes every 1 steps, but the data hold an image at every 3" in found.left_out["actions"][0]
    assert found.facts.replay.successes == 1


def test_what_does_not_fit_together_is_refused_in_one_sentence(file, policy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.hdf5 does not exist"):
        diagnose("random", tmp_path / "nothing.hdf5", "pointer/Plain-v0")
    with pytest.raises(ValueError, match="cannot make the environment 'pointer/Nowhere-v0'"):
        diagnose("random", file, "pointer/Nowhere-v0")
    with pytest.raises(UserError, match=r"actions of 2 entries, but fake/Task-v0 takes actions of shape \(7,\)"):
        diagnose("random", file, "fake/Task-v0")
    with pytest.raises(UserError, match="there is no policy 'nobody'.*'expert', 'random' and module:factory"):
        diagnose("nobody", file, "pointer/Plain-v0")
    with pytest.raises(UserError, match="acts with 7 numbers, but .* has actions of 2"):
        diagnose("roboflamingo-tiny", file, "pointer/Plain-v0")
    with pytest.raises(UserError, match="--episodes is 0"):
        diagnose("random", file, "pointer/Plain-v0", episodes=0)
    other = demonstrate(0)
    other.images = {"side": other.images["top"]}
    seen = write_demonstrations(tmp_path / "side.hdf5", [other], fps=10)
    with pytest.raises(UserError, match=r"sees the camera 'top', which .*side\.hdf5 does not have \(it has side\)"):
        diagnose(str(policy), seen, "pointer/Plain-v0")


def test_nothing_is_compared_where_the_environment_is_left_out(file):
    found = diagnose("random", file, "pointer/Plain-v0", replay=False)
    assert found.facts.replay is None and found.facts.observations is None
    assert found.left_out["replay"] == ["left out by --no-replay"]


def test_the_choice_of_demonstrations_depends_on_the_seed_alone(file):
    names = [[e.name for e in diagnose("random", file, "pointer/Plain-v0", episodes=2).episodes] for _ in range(2)]
    assert names[0] == names[1] and len(names[0]) == 2
    assert np.unique(names[0]).size == 2
