"""`rf-agent convert` for data sets of CALVIN and robomimic: what is read is written, at the size that is asked for."""

import json
import os
import signal
import sys
import tracemalloc

import h5py
import numpy as np
import pytest
from calvin_files import make_calvin, write_frame

from rf_agent.cli import main
from rf_agent.demos.checks import check_demos, inspect
from rf_agent.demos.readers.calvin import CalvinReader
from rf_agent.demos.readers.resized import ResizedReader
from rf_agent.demos.readers.robomimic import RobomimicReader
from rf_agent.demos.store import iterate_demos
from rf_agent.preprocess import resize


def run(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        main(["convert", *map(str, words)])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def test_a_folder_of_calvin_becomes_a_file(tmp_path, capfd):
    folder = make_calvin(tmp_path / "task_D_D")
    write_frame(folder, 135, rel_actions=np.full(7, np.nan))
    output = tmp_path / "new" / "d.hdf5"
    code, out, err = run(capfd, "calvin", tmp_path / "task_D_D", "--output", output)
    assert code == 0 and "left out: 1 (rel_actions has NaN or infinite values)" in out and not err
    reader, demos = CalvinReader(folder), [demo for _, demo in iterate_demos(output)]
    assert len(demos) == len(reader.records) == 3 and check_demos(output) == reader.layout
    for demo, record in zip(demos, reader.records, strict=True):
        before = reader.demonstration(record)
        assert (demo.task, demo.instruction) == (before.task, before.instruction)
        assert demo.attributes == before.attributes
        for one, other in ((demo.actions, before.actions), (demo.state, before.state)):
            assert np.array_equal(one, other)
        assert all(np.array_equal(demo.images[camera], before.images[camera]) for camera in before.images)
    assert not inspect(output).problems and [p.name for p in output.parent.iterdir()] == ["d.hdf5"]
    code, _, err = run(capfd, "calvin", folder, "--output", output)
    assert code == 1 and "d.hdf5 exists: give another name, or --overwrite" in err
    code, _, err = run(capfd, "calvin", folder, "--output", output, "--overwrite", "--strict")
    assert code == 1 and "episode_0000135.npz" in err and len(list(iterate_demos(output))) == 3


def test_parts_of_calvin_are_chosen(tmp_path, capfd):
    folder, output = make_calvin(tmp_path / "data", split="validation"), tmp_path / "d.hdf5"
    (tmp_path / "subset.json").write_text(json.dumps([[102, 110], [120, 130]]))
    words = ("--split", "validation", "--scenes", "A", "B", "--subset", tmp_path / "subset.json", "--image-size", "8")
    code, _, err = run(capfd, "calvin", tmp_path / "data", "--output", output, *words, "--include-last")
    assert code == 0, err
    first, second = (demo for _, demo in iterate_demos(output))
    assert (len(first.actions), len(second.actions)) == (9, 11)
    reader = CalvinReader(folder, include_last=True)
    before = next(record for record in reader.records if record.attributes["start"] == 102)
    for camera, images in reader.demonstration(before).images.items():
        assert np.array_equal(first.images[camera], resize(images, 8))
    code, _, err = run(capfd, "calvin", folder, "--output", tmp_path / "e.hdf5", "--image-size", "0")
    assert code == 1 and "the image size is 0" in err and not (tmp_path / "e.hdf5").exists()


def test_a_file_of_robomimic_gets_its_instruction(tmp_path, capfd):
    source, output = tmp_path / "lift.hdf5", tmp_path / "d.hdf5"
    with h5py.File(source, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for index in range(2):
            group = file.create_group(f"data/demo_{index}")
            group["actions"] = np.tile([0.5, -0.5, 1.0], (4, 1)) * [[1], [1], [-1], [1]]
            group["obs/image"], group["obs/pos"] = np.zeros((4, 8, 8, 3), np.uint8), np.ones((4, 3))
    words = ("--instruction", "lift the cube", "--task", "lift", "--state", "pos", "--gripper", "2")
    code, _, err = run(capfd, "robomimic", source, "--output", output, *words)
    assert code == 0, err
    layout = check_demos(output)
    assert (layout.state, layout.gripper, layout.gripper_known) == ("pos", 2, True)
    assert {(demo.task, demo.instruction) for _, demo in iterate_demos(output)} == {("lift", "lift the cube")}
    code, _, err = run(capfd, "robomimic", source, "--output", tmp_path / "e.hdf5")
    assert code == 1 and "demo_0 has no instruction" in err
    code, _, err = run(capfd, "minari", tmp_path, "--output", tmp_path / "e.hdf5")
    assert code == 1 and "metadata.json does not exist: give the folder of a Minari data set" in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_is_ended_by_sigterm_leaves_nothing(tmp_path, capfd, monkeypatch):
    folder, output = make_calvin(tmp_path / "data"), tmp_path / "out" / "d.hdf5"
    output.parent.mkdir()

    def append(path, *_):
        assert path.exists()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("rf_agent.demos.convert.append_demos", append)
    code, _, err = run(capfd, "calvin", folder, "--output", output)
    assert code == 130 and "interrupted" in err and list(output.parent.iterdir()) == []


def test_large_images_that_become_small_ones_fill_no_memory(tmp_path, monkeypatch):
    source, frames = tmp_path / "lift.hdf5", 300
    with h5py.File(source, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift"})
        file["data/demo_0/actions"] = np.ones((frames, 7))
        file.create_dataset(
            "data/demo_0/obs/image", (frames, 120, 160, 3), np.uint8, chunks=(1, 120, 160, 3), compression="gzip"
        )
        for frame in range(frames):
            file["data/demo_0/obs/image"][frame] = frame % 256
    reader = RobomimicReader(source, instruction="lift the cube")
    tracemalloc.start()
    try:
        small = ResizedReader(reader, 16).demonstration(reader.records[0]).images["image"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert small.shape == (frames, 16, 16, 3) and small[:, 3, 3, 0].tolist() == [frame % 256 for frame in range(frames)]
    assert peak < 0.6 * frames * 120 * 160 * 3


def test_a_full_disk_leaves_nothing(tmp_path, capfd):
    """Files cannot grow beyond a limit, which the system answers as it answers a full disk."""
    resource = pytest.importorskip("resource")
    folder, output = make_calvin(tmp_path / "data"), tmp_path / "out" / "d.hdf5"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        code, _, err = run(capfd, "calvin", folder, "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and f"the disk has no room for {output}: nothing was kept" in err
    assert list(output.parent.iterdir()) == []
