"""Demonstrations of any robot: what is written is read, what does not fit is refused by name."""

import json
import re

import h5py
import numpy as np
import pytest

from rf_agent.demos import Demonstration, read_demonstrations, write_demonstrations
from rf_agent.demos.checks import check_demos, inspect
from rf_agent.demos.files import DemoError


def demo(steps=5, dim=4, instruction="reach the red ball", **changes):
    rng = np.random.default_rng(steps)
    values = {
        "images": {"front": rng.integers(0, 256, (steps, 12, 16, 3), dtype=np.uint8)},
        "actions": rng.normal(size=(steps, dim)),
        "instruction": instruction,
        "task": "reach",
        "state": rng.normal(size=(steps, 3)),
    }
    return Demonstration(**values | changes)


def test_what_is_written_is_read(tmp_path):
    demos = [demo(5, attributes={"seed": 7, "scene": "kitchen"}), demo(6, instruction="find it", success=True)]
    path = write_demonstrations(tmp_path / "new" / "mine.hdf5", demos, fps=20, gripper=None)
    read = read_demonstrations(path)
    assert len(read) == 2 and not inspect(path).problems
    for before in demos:
        (after,) = [one for one in read if len(one.actions) == len(before.actions)]
        assert np.array_equal(before.images["front"], after.images["front"])
        assert np.array_equal(before.actions, after.actions) and np.array_equal(before.state, after.state)
        assert (before.instruction, before.task, before.success) == (after.instruction, after.task, after.success)
        assert after.actions_executed is None and after.actions.dtype == np.float32
    assert any(d.attributes == {"seed": 7, "scene": "kitchen"} for d in read)
    layout = check_demos(path)
    assert (layout.cameras, layout.action_dim, layout.gripper) == (("front",), 4, None)
    assert (layout.state, layout.state_dim, layout.fps, layout.bounded) == ("state", 3, 20, False)


def test_an_existing_file_is_only_replaced_when_asked(tmp_path):
    path = write_demonstrations(tmp_path / "mine.hdf5", [demo()])
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_demonstrations(path, [demo(), demo(6)])
    write_demonstrations(path, [demo(), demo(6)], overwrite=True)
    assert len(read_demonstrations(path)) == 2 and [p.name for p in tmp_path.iterdir()] == ["mine.hdf5"]


@pytest.mark.parametrize(
    ("demos", "options", "message"),
    [
        ([], {}, "no demonstrations"),
        ([demo(actions=np.zeros(5))], {}, r"actions is of shape \(5,\), expected \(T, D\)"),
        ([demo(), demo(6, dim=3)], {}, r"demonstration 1: actions is of shape \(6, 3\), expected \(6, 4\)"),
        ([demo(actions=np.full((5, 4), np.nan))], {}, "demonstration 0: actions has NaN"),
        ([demo(), demo(images={"side": np.zeros((5, 8, 8, 3), np.uint8)})], {}, "demonstration 1: images of .*'front'"),
        ([demo(images={"front": np.zeros((4, 8, 8, 3), np.uint8)})], {}, r"images\['front'\] .* \(5, H, W, 3\)"),
        ([demo(images={"front": np.zeros((5, 8, 8, 3))})], {}, r"images\['front'\] are float64"),
        ([demo(images={})], {}, "no images"),
        ([demo(), demo(state=None)], {}, "demonstration 1: state is missing"),
        ([demo(state=None), demo()], {}, "demonstration 1 has .* a state of shape"),
        ([demo(instruction=" ")], {}, "the instruction is ' '"),
        ([demo(instruction=None)], {}, "the instruction is None"),
        ([demo(instruction="x" * 257)], {}, "more than 256 bytes"),
        ([demo(attributes={"who": None})], {}, "the attribute 'who' is None"),
        ([demo(actions_executed=np.zeros((4, 4)))], {}, r"actions_executed is of shape \(4, 4\), expected \(5, 4\)"),
        ([demo(state=np.zeros(5))], {}, r"state is of shape \(5,\), expected \(T, S\)"),
        ([demo(images={"a/b": np.zeros((5, 8, 8, 3), np.uint8)})], {}, "'a/b' cannot name a camera"),
        ([demo()], {"state": "front"}, "'front' cannot name a camera or the state"),
        ([demo()], {"gripper": 0}, "entry 0 of the actions has 5 different values, but a gripper has two"),
        ([demo(actions=np.zeros((0, 4)), images={"front": np.zeros((0, 8, 8, 3), np.uint8)})], {}, "demonstration 0"),
        ([demo()], {"gripper": 4}, "gripper is 4, but an action has 4 entries"),
        ([demo()], {"fps": 0}, "fps is 0"),
        ([demo()], {"fps": "20"}, "fps is '20': give the actions a second"),
        ([demo(attributes={1: 2})], {}, "the attribute name 1 is no text"),
        ([demo(success=2)], {}, "success is 2, expected a truth value"),
        ([demo()], {"fps": float("inf")}, "fps is inf: give the actions a second"),
        ([demo()], {"gripper": 2.7}, "gripper is 2.7: give the number of an entry"),
        ([demo()], {"gripper": True}, "gripper is True: give the number of an entry"),
        ([demo(instruction="reach\0it")], {}, "the instruction is 'reach.*it', expected words"),
        ([demo(task=3)], {}, "the task is 3, expected words"),
        ([demo(success=None)], {}, "success is None, expected a truth value"),
        ([demo(attributes={"seed": 2**70})], {}, "the attribute 'seed' is"),
        ([demo(attributes={"who": "a\0b"})], {}, "the attribute 'who' is"),
        ([demo(images={".": np.zeros((5, 8, 8, 3), np.uint8)})], {}, "'.' cannot name a camera"),
        ([demo(images={"front": np.zeros((5, 0, 8, 3), np.uint8)})], {}, r"images\['front'\] are uint8 \(5, 0, 8, 3\)"),
        ([demo(start={"robot_obs": 3.0})], {}, "the start has 'robot_obs' 3.0, expected a list of numbers"),
        ([demo(start={"a/b": np.zeros(3)})], {}, "the start has 'a/b'"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_file(tmp_path, demos, options, message):
    with pytest.raises(DemoError, match=message):
        write_demonstrations(tmp_path / "mine.hdf5", demos, **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DemoError, match="is a directory: give the name of an HDF5 file"):
        write_demonstrations(tmp_path, [demo()], overwrite=True)


def test_a_full_disk_is_said_before_the_file_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="the disk has no room for .*mine.hdf5: nothing was kept"):
        write_demonstrations(tmp_path / "mine.hdf5", [demo()])
    assert not list(tmp_path.iterdir())


def test_a_file_of_robomimic_needs_no_settings_of_ours(tmp_path):
    path = tmp_path / "robomimic.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1})
        group = file.create_group("data/demo_0")
        group.create_dataset("actions", data=np.zeros((4, 7), np.float64))
        group.create_dataset("obs/agentview_image", data=np.zeros((4, 8, 8, 3), np.uint8))
        group.create_dataset("obs/eef_pos", data=np.zeros((4, 3)))
        group.create_dataset("obs/eef_quat", data=np.zeros((4, 4)))
        group.attrs["num_samples"], group.attrs["task"], group.attrs["instruction"] = 4, "lift", "lift the cube"
    layout = check_demos(path)
    assert layout.cameras == ("agentview_image",) and layout.state is None and not layout.gripper_known
    assert read_demonstrations(path)[0].actions.dtype == np.float32


def test_numbers_of_numpy_and_lists_of_images_will_do(tmp_path):
    values = demo(actions=np.tile([0.0, 0.5, 0.1, 1.0], (5, 1)), attributes={"seed": np.int64(3), "who": "x1"})
    values.images = {"front": list(values.images["front"])}
    fixed = Demonstration(**vars(values))
    path = write_demonstrations(tmp_path / "mine.hdf5", [fixed], fps=np.float32(3), gripper=np.int64(3))
    layout = check_demos(path)
    assert (layout.fps, layout.gripper) == (3.0, 3)
    named = demo(attributes={"seed": "a word"})
    assert len(read_demonstrations(write_demonstrations(tmp_path / "named.hdf5", [named, demo(6)]))) == 2


def test_texts_of_numpy_and_of_an_observation_will_do(tmp_path):
    padded = "reach the ball" + 3 * "\0"  # as the environment's 256 bytes decode
    demos = [demo(instruction=np.array(["reach"])[0], attributes={"who": np.str_("x")}), demo(6, instruction=padded)]
    read = read_demonstrations(write_demonstrations(tmp_path / "mine.hdf5", demos))
    assert sorted(one.instruction for one in read) == ["reach", "reach the ball"]
    assert any(one.attributes == {"who": "x"} for one in read)


def test_complex_numbers_are_refused():
    with pytest.raises(DemoError, match="actions has complex numbers"):
        demo(actions=np.full((5, 4), 1j))


def test_texts_of_fixed_length_are_texts(tmp_path):
    path = write_demonstrations(tmp_path / "mine.hdf5", [demo()])
    with h5py.File(path, "a") as file:
        attributes = file["data/demo_0"].attrs
        attributes["instruction"] = np.bytes_("reach the ball")
        attributes.create("task", "reach", dtype=h5py.string_dtype("utf-8", 20))
    (read,) = read_demonstrations(path)
    assert (read.instruction, read.task) == ("reach the ball", "reach") and not inspect(path).problems
    assert list(inspect(path).tasks) == ["reach"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"gripper": 9}, "the gripper is entry 9 of the actions, which have 4"),
        ({"frame_stride": 0}, "env_args says frame_stride 0, expected 1 or more"),
    ],
)
def test_settings_that_no_robot_has_are_refused(tmp_path, said, message):
    path = write_demonstrations(tmp_path / "mine.hdf5", [demo()])
    with h5py.File(path, "a") as file:
        arguments = json.loads(file["data"].attrs["env_args"])
        file["data"].attrs["env_args"] = json.dumps(arguments | said)
    for function in (inspect, check_demos):
        with pytest.raises(DemoError, match=message):
            function(path)


def test_robomimic_says_the_rate_wherever_it_is_read(tmp_path):
    path = write_demonstrations(tmp_path / "mine.hdf5", [demo()])
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
    assert check_demos(path).fps == 20


@pytest.mark.parametrize(
    ("demos", "message"),
    [
        ([demo(success=False), demo(6, success=False)], "none of the demonstrations succeeded"),
        ([demo(actions=np.tile([0.5, 2.0, 0.1, 1.0], (5, 1)))], r"actions\[:, 0\] is 0.5 in all 5 steps"),
    ],
)
def test_inspect_finds_what_training_refuses_of_all_together(tmp_path, demos, message):
    (problem,) = inspect(write_demonstrations(tmp_path / "mine.hdf5", demos)).problems
    assert re.match(message, problem)
