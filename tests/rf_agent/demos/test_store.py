"""The demonstration file: what is in it, what is refused."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from demo_files import CALVIN, make_demo, make_store

from rf_agent.demos.checks import check_demos, inspect
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import open_demos
from rf_agent.demos.store import append_demos, create_store, demo_names, iterate_demos

ARGUMENTS = CALVIN, {"env_id": "test"}


def test_what_is_written_is_read(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=4, stride=3)
    demos = dict(iterate_demos(path))
    assert len(demos) == 4
    for demo in demos.values():
        assert len(demo.images["rgb_static"]) == -(-len(demo.actions) // 3)
    summary = inspect(path)
    assert summary.demos == 4 and not summary.problems
    assert summary.samples == sum(len(demo.actions) for demo in demos.values())
    assert summary.tasks["open_drawer"] == {"demos": 2, "samples": 14, "instructions": 2}


def test_order_does_not_depend_on_who_finished_first(tmp_path):
    paths = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    for path, seeds in zip(paths, ([3, 1, 2], [2, 3, 1]), strict=True):
        create_store(path, *ARGUMENTS)
        for seed in seeds:
            append_demos(path, [make_demo(5, 1, "open_drawer", seed)], CALVIN)
    first, second = ([demo.attributes["seed"] for _, demo in iterate_demos(path)] for path in paths)
    assert first == second == [1, 2, 3]


def test_incomplete_demonstration_is_dropped(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=2)
    with h5py.File(path, "r+") as file:
        file["data/demo_1"].attrs["complete"] = False
    assert inspect(path).incomplete == 1 and inspect(path).demos == 1
    create_store(path, *ARGUMENTS)
    with h5py.File(path) as file:
        assert list(file["data"]) == demo_names(file) == ["demo_0"]


def test_other_settings_are_refused(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=1)
    with pytest.raises(ValueError, match="begun with frame_stride 1, not 3.*another --output"):
        create_store(path, replace(CALVIN, frame_stride=3), {})


def test_truncated_file_is_refused(tmp_path):
    path = make_store(tmp_path / "d.hdf5")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for function in (check_demos, inspect):
        with pytest.raises(ValueError, match="d.hdf5 is truncated or not an HDF5 file.*again"):
            function(path)
    with pytest.raises(FileNotFoundError, match="nothing.hdf5 does not exist"):
        check_demos(tmp_path / "nothing.hdf5")


def refill(group, key, value):
    """The same shape, filled with something else."""
    shape = group[key].shape
    del group[key]
    group[key] = np.full(shape, value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda group: group["actions"].__setitem__((2, 3), np.nan), "actions has NaN"),
        (lambda group: group["actions"].__setitem__((2, 3), 1.5), r"actions lie outside \[-1, 1\]"),
        (lambda group: group.attrs.__setitem__("num_samples", 3), r"actions has shape \(\d+, 7\), expected"),
        (lambda group: refill(group, "actions", 1j), "actions is complex128, expected float32"),
        (lambda group: refill(group, "obs/robot_obs", b"1"), r"obs/robot_obs is \|S1, expected float32"),
        (lambda group: refill(group, "obs/robot_obs", 1e300), "obs/robot_obs has NaN or infinite values"),
        (lambda group: group.__delitem__("obs/rgb_gripper"), "obs/rgb_gripper is missing"),
        (lambda group: group.attrs.__delitem__("instruction"), "attribute instruction is missing"),
        (lambda group: group.attrs.__setitem__("instruction", " "), "the instruction is ' ', expected words"),
        (lambda group: group.attrs.__setitem__("instruction", 300 * "x"), "the instruction has more than 256 bytes"),
    ],
)
def test_bad_demonstration_is_named(tmp_path, damage, message):
    path = make_store(tmp_path / "d.hdf5")
    with h5py.File(path, "r+") as file:
        damage(file["data/demo_3"])
    with pytest.raises(ValueError, match=f"d.hdf5: demo_3: {message}"):
        check_demos(path)
    assert any(problem.startswith("demo_3") for problem in inspect(path).problems)
    try:  # what is read without a check is right, or refused
        actions = {record.name: record.actions for record in open_demos(path).records}
    except DemoError as error:
        assert "demo_3" in str(error)
    else:
        assert np.isrealobj(actions["demo_3"]) and actions["demo_3"].dtype == np.float32


def test_a_file_that_was_cut_off_anywhere_is_refused_by_name(tmp_path):
    content = make_store(tmp_path / "whole.hdf5", demos=3, size=16).read_bytes()
    path = tmp_path / "d.hdf5"
    for length in range(1, len(content), len(content) // 150):
        path.write_bytes(content[:length])
        for function in (check_demos, inspect, lambda p: dict(iterate_demos(p)), lambda p: create_store(p, *ARGUMENTS)):
            with pytest.raises(DemoError, match="d.hdf5 .*again") as error:
                function(path)
            assert "\n" not in str(error.value)


def test_a_damaged_demonstration_is_named_with_the_way_out(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=3)
    with h5py.File(path) as file:
        place = h5py.h5o.get_info(file["data/demo_1/actions"].id).addr
    content = bytearray(path.read_bytes())
    content[place : place + 16] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(DemoError, match="d.hdf5: demo_1.* damaged.*delete that demonstration or collect"):
        check_demos(path)
    with pytest.raises(DemoError, match="d.hdf5: demo_1 cannot be read.* damaged"):
        dict(iterate_demos(path))
    assert any("demo_1" in problem for problem in inspect(path).problems)


def test_what_another_process_wrote_meanwhile_is_not_written_twice(tmp_path):
    path = tmp_path / "d.hdf5"
    create_store(path, CALVIN, {"env_id": "test"})
    append_demos(path, [make_demo(5, 1, "open_drawer", 0)], CALVIN, held=0)
    with pytest.raises(DemoError, match="was written by another process since this one began: .* the same command"):
        append_demos(path, [make_demo(5, 1, "open_drawer", 0)], CALVIN, held=0)
    assert append_demos(path, [make_demo(6, 1, "open_drawer", 1)], CALVIN, held=5) == ["demo_1"]


def test_names_of_others_are_left_alone(tmp_path):
    path = tmp_path / "d.hdf5"
    create_store(path, CALVIN, {"env_id": "test"})
    with h5py.File(path, "a") as file:
        file["data"].create_group("notes")
    assert append_demos(path, [make_demo(5, 1, "open_drawer", 0)], CALVIN) == ["demo_0"]
