"""Faults planted in the environment, in the data and in the checkpoint: each is named first or second."""

from __future__ import annotations

from pathlib import Path

import h5py
import planted_envs  # noqa: F401 (registers them)
import pytest
from planted_files import plant_in_checkpoint, plant_in_data

from rf_agent.demos import read_demonstrations
from rf_agent.demos.collect import CollectConfig, collect
from rf_agent.diagnosis.causes import Cause
from rf_agent.diagnosis.run import Diagnosis, diagnose
from rf_agent.errors import UserError
from rf_agent.presets import BUNDLED

pytestmark = pytest.mark.slow
POLICY, ROBUST = "roboflamingo-tiny-17", "roboflamingo-tiny"
"""One that only sees, and one that also reads the robot's pose, so that less depends on what it sees."""


def look(demos: Path, env: str = "rf/PlayTableD-v0", policy: str | Path = POLICY, replay: bool = True) -> Diagnosis:
    return diagnose(str(policy), demos, env, episodes=3, replay=replay)


def named(found: Diagnosis, kind: str, most: int = 2) -> Cause:
    """The cause of that kind, which must be among the first."""
    kinds = [cause.kind for cause in found.causes]
    assert kind in kinds[:most], f"{kind} is not among the first {most} of {found.causes}"
    return found.causes[kinds.index(kind)]


def test_nothing_is_found_where_nothing_is_wrong(demos):
    found = look(demos)
    assert found.causes == []
    assert found.facts.replay.successes == 3 and all(replay.same_start for replay in found.facts.replay.replays)
    assert all(replay.tracked == replay.steps for replay in found.facts.replay.replays)
    assert all(camera.paired and camera.difference < 0.5 for camera in found.facts.observations.cameras)
    assert found.facts.actions.relative_error < 0.6
    assert found.facts.environment_error == pytest.approx(found.facts.recorded_error)
    assert found.facts.language.exchanged_error > 2 * found.facts.language.error
    assert all(not reasons for reasons in found.left_out.values())


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ("Swapped", "cameras_swapped"),
        ("Mirrored", "view_mirrored"),
        ("BGR", "channels_reversed"),
        ("Unit", "images_scaled"),
        ("Dark", "images_scaled"),
        ("Renderer", "renderer"),
        ("Metres", "action_scale"),
        ("Gripper", "gripper_sign"),
    ],
)
def test_faults_of_the_environment(demos, env, kind):
    cause = named(look(demos, f"planted/{env}-v0"), kind, most=1)
    assert cause.where == "environment"


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ("Swapped", "cameras_swapped"),
        ("Mirrored", "view_mirrored"),
        ("BGR", "channels_reversed"),
        ("Dark", "images_scaled"),
        ("Metres", "action_scale"),
        ("Gripper", "gripper_sign"),
    ],
)
def test_faults_of_the_environment_of_a_policy_that_reads_the_pose(demos, env, kind):
    assert look(demos, policy=ROBUST, replay=False).causes == []
    assert named(look(demos, f"planted/{env}-v0", ROBUST), kind, most=1).where == "environment"


@pytest.mark.parametrize("fault", ["swapped", "mirrored", "gripper_of_labels"])
def test_faults_that_need_no_simulator_of_a_policy_that_reads_the_pose(demos, tmp_path, fault):
    kind = {"swapped": "cameras_swapped", "mirrored": "view_mirrored", "gripper_of_labels": "gripper_sign"}[fault]
    named(look(plant_in_data(demos, tmp_path / "demos.hdf5", fault), policy=ROBUST, replay=False), kind)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("bgr", "channels_reversed"),
        ("metres", "action_scale"),
        ("gripper", "gripper_sign"),
    ],
)
def test_faults_of_the_data(demos, tmp_path, fault, kind):
    found = look(plant_in_data(demos, tmp_path / "demos.hdf5", fault))
    assert named(found, kind, most=1).where == "data"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("swapped", "cameras_swapped"),
        ("mirrored", "view_mirrored"),
        ("unit", "images_scaled"),
        ("dark", "images_scaled"),
        ("metres_of_labels", "action_scale"),
        ("gripper_of_labels", "gripper_sign"),
    ],
)
def test_faults_of_the_data_that_need_no_simulator(demos, tmp_path, fault, kind):
    found = look(plant_in_data(demos, tmp_path / "demos.hdf5", fault), replay=False)
    named(found, kind)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("window_2", "window"),
        ("other_language_model", "language_model"),
        ("other_language_layers", "language_model"),
        ("other_tokenizer", "language_model"),
        ("smaller_language_model", "language_model"),
        ("lm_feature", "lm_feature"),
        ("normalisation", "image_normalisation"),
        ("views", "cameras_swapped"),
    ],
)
def test_faults_of_the_checkpoint(demos, tmp_path, fault, kind):
    policy = plant_in_checkpoint(BUNDLED / POLICY, tmp_path / "policy", fault)
    assert named(look(demos, policy=policy, replay=False), kind, most=1).where == "policy"


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        ("Swapped", "cameras_swapped"),
        ("UpsideDown", "view_mirrored"),
        ("BGR", "channels_reversed"),
        ("Renderer", "renderer"),
    ],
)
def test_data_whose_starts_are_not_known_are_compared_by_averages(demos, tmp_path, env, kind):
    file = plant_in_data(demos, tmp_path / "demos.hdf5", "seedless")
    found = diagnose("expert", file, f"planted/{env}-v0", episodes=3)
    named(found, kind)
    assert not any(camera.paired for camera in found.facts.observations.cameras)
    assert "neither the seeds nor the states" in found.left_out["replay"][0]


def test_a_black_camera_is_called_black(demos):
    found = diagnose(POLICY, demos, "rf/PlayTableD-v0", episodes=2, env_options={"black_cameras": ["rgb_static"]})
    cause = named(found, "black", most=1)
    assert cause.where == "environment" and "rgb_static" in cause.evidence[0]
    assert "images_scaled" not in [other.kind for other in found.causes]


def test_the_images_that_are_compared_are_drawn_whatever_the_options_say(demos):
    found = diagnose("expert", demos, "rf/PlayTableD-v0", episodes=2, env_options={"render_every": 50})
    assert found.causes == [] and all(camera.paired for camera in found.facts.observations.cameras)


def test_an_environment_of_chains_is_refused(demos):
    with pytest.raises(
        UserError, match="plays chains, .*: give the environment of single tasks, such as rf/PlayTableD"
    ):
        diagnose("expert", demos, "rf/PlayTableChainD-v0", episodes=2)


def test_demonstrations_of_chains_begin_where_they_began(tmp_path):
    pytest.importorskip("pybullet", reason="demonstrations come from the play table")
    path = tmp_path / "chains.hdf5"
    collect(CollectConfig(output=path, env=("rf/PlayTableChainD-v0",), chains=2, workers=1, image_size=112, seed=5))
    found = diagnose("expert", path, "rf/PlayTableD-v0")
    firsts = sorted(demo.task for demo in read_demonstrations(path) if demo.attributes["subtask"] == 0)
    replays = found.facts.replay.replays  # the others begin with what was held, or moves, as no reset makes it
    assert sorted(replay.task for replay in replays) == firsts and len(firsts) == 2
    assert all(replay.success and replay.same_start for replay in replays)
    assert found.causes == [] and not found.left_out["replay"]
    with h5py.File(path, "a") as file:
        for group in file["data"].values():
            del group["start"]  # as older versions wrote them
    found = diagnose("expert", path, "rf/PlayTableD-v0")
    assert "say neither the seeds nor the states" in found.left_out["replay"][0]
    assert "replay_fails" not in [cause.kind for cause in found.causes]
