"""Our demonstrations as a LeRobot data set and back."""

import json
import shutil

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calvin_files import make_calvin, write_frame
from demo_files import make_store
from fake_reporter import Heard
from lerobot_files import FRONT, edit_table, make_episodes, smooth_frames, write_v3

from rf_agent import cli
from rf_agent.demos import Demonstration, read_demonstrations, write_demonstrations
from rf_agent.demos.checks import check_demos
from rf_agent.demos.convert import convert
from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import open_demos
from rf_agent.demos.readers.robomimic import RobomimicReader
from rf_agent.demos.store import append_demos, create_store
from rf_agent.demos.writers.lerobot import write_lerobot

LAYOUT = Layout(("front", "wrist"), 4, 3, True, "robot_obs", 2, 10.0, 1, True, True)


def demo(index, length=6, sizes=((48, 64), (33, 31)), **changes):
    """A demonstration with images of an even and of an odd size."""
    rng = np.random.default_rng(index)
    actions = rng.uniform(-1, 1, (length, 4)).astype(np.float32)
    actions[:, 3] = np.where(np.arange(length) < 3, 1.0, -1.0)
    values = {
        "images": {name: smooth_frames(length, index, size) for name, size in zip(LAYOUT.cameras, sizes, strict=True)},
        "actions": actions,
        "instruction": ("open the drawer", "schließe die Schublade", "close it")[index % 3],
        "task": ("open_drawer", "close_drawer", "close_drawer")[index % 3],
        "state": rng.normal(size=(length, 2)),
        "attributes": {"seed": index, "scene": "D", "noise": np.float64(0.5), "perturbed": np.bool_(True)},
    }
    return Demonstration(**values | changes)


def store(path, demos, layout=LAYOUT):
    create_store(path, layout, {})
    append_demos(path, demos, layout)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Seven demonstrations, their store, and the data set that was made of it, in several small files."""
    folder = tmp_path_factory.mktemp("exported")
    demos = [demo(index, length=15 + index) for index in range(7)]
    path = store(folder / "d.hdf5", demos)
    limits = {"data_megabytes": 6e-3, "video_megabytes": 4e-3}
    return demos, path, write_lerobot(path, folder / "set", **limits)


def test_what_is_written_is_read(exported):
    demos, path, root = exported
    reader, original = open_demos(root), open_demos(path)
    assert not list(reader.problems())
    assert reader.layout == original.layout
    for record, theirs in zip(reader.records, original.records, strict=True):
        (before,) = [one for one in demos if one.attributes["seed"] == theirs.attributes["seed"]]
        after = reader.demonstration(record)
        assert np.array_equal(after.actions, before.actions) and np.array_equal(after.state, before.state)
        assert (after.instruction, after.task, after.success) == (before.instruction, before.task, before.success)
        assert after.attributes == before.attributes
        for camera in LAYOUT.cameras:  # the odd size, too, comes back as it was
            assert after.images[camera].shape == before.images[camera].shape
            error = np.abs(after.images[camera].astype(int) - before.images[camera].astype(int)).mean(axis=(1, 2, 3))
            assert error.max() < 3


def test_files_are_split_and_every_episode_is_found_in_its_file(exported):
    _, _, root = exported
    data, videos = (sorted(root.glob(f"{kind}/**/*.*")) for kind in ("data", "videos"))
    assert len(data) > 1 and len(videos) > 2
    rows = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["episode_index"] for row in rows] == list(range(7))
    assert [row["dataset_from_index"] for row in rows[1:]] == [row["dataset_to_index"] for row in rows[:-1]]
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (7, 126, 3)
    assert info["features"]["observation.images.wrist"]["shape"] == [34, 32, 3]  # even
    indices = []
    for row in rows:
        numbers = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        table = pq.read_table(root / info["data_path"].format(**numbers))
        indices += np.array(table["index"])[np.array(table["episode_index"]) == row["episode_index"]].tolist()
        key = "observation.images.wrist"
        begin, end = (row[f"videos/{key}/{name}"] for name in ("from_timestamp", "to_timestamp"))
        assert end - begin == pytest.approx(row["length"] / 10)
        numbers = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        with av.open(str(root / info["video_path"].format(video_key=key, **numbers))) as video:
            stream = video.streams.video[0]
            assert (stream.width, stream.height, stream.pix_fmt, stream.average_rate) == (32, 34, "yuv420p", 10)
            assert stream.frames / 10 >= end - 1e-6
            keys = [frame.key_frame for frame in video.decode(stream)]
            assert keys[0] and all(map(max, keys[1:], keys[:-1]))  # to reach a frame, at most one other is decoded
    assert indices == list(range(126))


def test_statistics_are_those_of_all_rows(exported):
    demos, _, root = exported
    stats = json.loads((root / "meta/stats.json").read_text())
    for key, name in (("action", "actions"), ("observation.state", "state")):
        every = np.concatenate([getattr(one, name) for one in demos]).astype(float)
        for statistic in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(stats[key][statistic], getattr(every, statistic)(axis=0), atol=1e-9)
        assert stats[key]["count"] == [126]
    pixels = np.concatenate([one.images["front"] for one in demos]) / 255
    found = stats["observation.images.front"]
    np.testing.assert_allclose(np.ravel(found["mean"]), pixels.mean(axis=(0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(np.ravel(found["std"]), pixels.std(axis=(0, 1, 2)), atol=1e-9)
    assert np.shape(found["q99"]) == (3, 1, 1) and set(stats) >= {"timestamp", "index", "task_index"}


def test_a_number_that_changed_on_the_disk_is_noticed(exported, tmp_path):
    _, _, root = exported
    changed = shutil.copytree(root, tmp_path / "changed")
    path = changed / "data/chunk-000/file-000.parquet"
    place = pq.ParquetFile(path).metadata.row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[place.data_page_offset + place.total_compressed_size - 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DemoError, match="file-000.parquet: episode 0 cannot be read.*damaged"):
        open_demos(changed)


def test_a_changed_data_set_falls_back_to_what_lerobot_says(exported, tmp_path):
    _, _, root = exported
    changed = shutil.copytree(root, tmp_path / "changed")
    (changed / "meta/roboflamingo.json").unlink()
    reader = open_demos(changed)
    assert (reader.layout.state, reader.layout.gripper_known, reader.layout.bounded) == ("state", False, False)
    assert reader.records[0].task == reader.records[0].instruction and not reader.records[0].attributes
    assert reader.images("wrist", np.arange(1))[0].shape == (34, 32, 3)


def test_failures_are_left_out_unless_they_are_wanted(tmp_path):
    path = store(tmp_path / "d.hdf5", [demo(0), demo(1, success=False)])
    assert len(open_demos(write_lerobot(path, tmp_path / "some")).records) == 1
    every = open_demos(write_lerobot(path, tmp_path / "all", failures=True))
    assert sorted(record.success for record in every.records) == [False, True]
    only = store(tmp_path / "failures.hdf5", [demo(0, success=False)])
    with pytest.raises(DemoError, match="none of the demonstrations in .*failures.hdf5 succeeded"):
        write_lerobot(only, tmp_path / "none")


def test_without_a_state_and_with_a_rate_of_its_own(tmp_path):
    path = write_demonstrations(tmp_path / "d.hdf5", [demo(0, state=None), demo(1, state=None)])
    with pytest.raises(DemoError, match="fps of .* is None: give the actions a second with --fps"):
        write_lerobot(path, tmp_path / "set")
    reader = open_demos(write_lerobot(path, tmp_path / "set", fps=12.5))
    assert (reader.layout.fps, reader.layout.state, reader.layout.gripper) == (12.5, None, None)
    assert not list(reader.problems()) and len(reader.images("front", np.arange(12))) == 12


def test_actions_outside_the_declared_range_are_named(tmp_path):
    root = write_lerobot(make_store(tmp_path / "d.hdf5", demos=2), tmp_path / "set")
    assert open_demos(root).layout.bounded and not list(open_demos(root).problems())
    path = root / "data/chunk-000/file-000.parquet"
    actions = np.array(pq.read_table(path)["action"].to_pylist(), np.float32)
    actions[8, 2] = 1.5
    edit_table(path, action=pa.FixedSizeListArray.from_arrays(pa.array(actions.reshape(-1)), 7))
    reader = open_demos(root)
    owner = next(record.name for record in reader.records if np.abs(record.actions).max() > 1)
    assert list(reader.problems()) == [f"{owner}: actions lie outside [-1, 1]"]
    with pytest.raises(DemoError, match=rf"set: {owner}: actions lie outside \[-1, 1\]"):
        convert(reader, tmp_path / "back.hdf5")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda path: make_store(path, demos=2, stride=3), {}, "an image at every 3 steps.*--frame-stride 1"),
        (lambda path: store(path, [demo(0)]), {"fps": 5}, "has 10 actions a second, not 5: leave out --fps"),
        (lambda path: store(path, [demo(1), demo(0, sizes=((32, 32), (33, 31)))]), {},
         r"demo_1: images\['front'\] have shape \(32, 32\), but those before have \(48, 64\)"),
        (lambda path: store(path, [demo(0, actions=np.full((6, 4), np.nan))]), {}, "demo_0: actions has NaN"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, make, options, message):
    path = make(tmp_path / "d.hdf5")
    with pytest.raises(DemoError, match=message):
        write_lerobot(path, tmp_path / "set", **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.hdf5"]


def test_an_existing_folder_is_never_touched(tmp_path):
    path = store(tmp_path / "d.hdf5", [demo(0)])
    (tmp_path / "set").mkdir()
    with pytest.raises(FileExistsError, match="set exists: give the name of a new folder"):
        write_lerobot(path, tmp_path / "set")


@pytest.mark.parametrize("limit", [500, 3000, 9000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, limit):
    """Files cannot grow beyond a limit, which the system answers as it answers a full disk."""
    resource = pytest.importorskip("resource")
    path = store(tmp_path / "d.hdf5", [demo(index, length=20) for index in range(3)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match="the disk has no room for .*set: nothing was kept"):
            write_lerobot(path, tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry.name for entry in tmp_path.iterdir()] == ["d.hdf5"]


def test_what_the_reader_leaves_out_is_said(tmp_path):
    folder = make_calvin(tmp_path / "data")
    write_frame(folder, 135, rel_actions=np.full(7, np.nan))
    reporter = Heard()
    root = write_lerobot(folder, tmp_path / "set", fps=30, reporter=reporter)
    assert "left out: 1 (rel_actions has NaN or infinite values)" in reporter.lines
    assert len(open_demos(root).records) == 3


def test_a_folder_may_have_a_colon_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_lerobot(store(tmp_path / "d.hdf5", [demo(0)]), "data:v1")
    assert len(open_demos(root).records) == 1 and not list(open_demos(root).problems())


def test_a_lerobot_data_set_becomes_a_store(tmp_path):
    episodes = make_episodes((7, 4, 5))
    for episode in episodes:
        episode.actions[:, 3] = np.where(np.arange(len(episode.actions)) < 2, 1.0, 0.0)
    root = write_v3(tmp_path / "set", episodes)
    path = convert(open_demos(root), tmp_path / "d.hdf5", gripper=3)
    layout = check_demos(path)
    assert (layout.cameras, layout.state, layout.fps, layout.gripper) == (("front", "image"), "state", 10.0, 3)
    assert all(one.images["front"].shape[1:] == (48, 64, 3) for one in read_demonstrations(path))
    actions = {one.actions.tobytes() for one in read_demonstrations(path)}
    assert actions == {episode.actions.tobytes() for episode in episodes}
    unknown = check_demos(convert(open_demos(root), tmp_path / "unknown.hdf5"))
    assert not unknown.gripper_known and unknown.gripper is None


def test_a_store_survives_the_way_to_lerobot_and_back(exported, tmp_path):
    _, path, root = exported
    back = convert(open_demos(root), tmp_path / "back.hdf5")
    assert check_demos(back) == check_demos(path)
    names = [(one.task, one.instruction, one.attributes, one.actions.tobytes()) for one in read_demonstrations(back)]
    assert names == [(d.task, d.instruction, d.attributes, d.actions.tobytes()) for d in read_demonstrations(path)]


def test_the_start_of_an_episode_comes_along(tmp_path):
    start = {"scene_obs": np.arange(24.0)}
    path = store(tmp_path / "d.hdf5", [demo(0, start=start), demo(1)])
    reader = open_demos(write_lerobot(path, tmp_path / "set"))
    starts = {record.attributes["seed"]: reader.demonstration(record).start for record in reader.records}
    assert np.array_equal(starts[0]["scene_obs"], start["scene_obs"]) and starts[1] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gripper": 0}, "entry 0 of the actions of .*set has 6 different values, but a gripper has two"),
        ({"gripper": 4}, "--gripper is 4, but an action of .*set has 4 entries"),
    ],
)
def test_a_gripper_that_is_none_is_refused(tmp_path, options, message):
    root = write_v3(tmp_path / "set", make_episodes((6,)))
    with pytest.raises(DemoError, match=message):
        convert(open_demos(root), tmp_path / "d.hdf5", **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_actions_that_lack_the_gripper_are_named(tmp_path):
    path = tmp_path / "lift.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for index, width in enumerate((7, 3)):
            file[f"data/demo_{index}/actions"] = np.ones((4, width))
            file[f"data/demo_{index}/obs/image"] = np.zeros((4, 8, 8, 3), np.uint8)
    reader = RobomimicReader(path, instruction="lift the cube")
    with pytest.raises(DemoError, match=r"lift.hdf5: demo_1: actions is of shape \(4, 3\), expected \(4, 7\)"):
        convert(reader, tmp_path / "d.hdf5", gripper=6)


def test_a_source_is_not_replaced(tmp_path):
    path = store(tmp_path / "d.hdf5", [demo(0)])
    before = path.read_bytes()
    with pytest.raises(DemoError, match="d.hdf5 is the source and the output: give another --output"):
        convert(open_demos(path), path, overwrite=True)
    assert path.read_bytes() == before


def test_a_damaged_image_leaves_no_store(tmp_path):
    root = write_v3(tmp_path / "set", make_episodes((6, 5)), dtype="image", per_file=1)
    edit_table(root / "data/chunk-000/file-001.parquet", **{FRONT: [{"bytes": b"x", "path": ""}] * 5})
    with pytest.raises(DemoError, match="file-001.parquet: .*front of episode 1 in row 0 cannot be read"):
        convert(open_demos(root), tmp_path / "d.hdf5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_commands(tmp_path, capfd):
    def run(*words):
        with pytest.raises(SystemExit) as stop:
            cli.main(["convert", *map(str, words)])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    path = store(tmp_path / "d.hdf5", [demo(0), demo(1, success=False)])
    code, out, err = run("to-lerobot", path, "--output", tmp_path / "set")
    assert code == 0 and not err and "1 demonstrations did not succeed and are left out" in out
    assert f"Demonstrations: {tmp_path / 'set'}" in out
    code, out, err = run("lerobot", tmp_path / "set", "--output", tmp_path / "back.hdf5")
    assert code == 0 and not err and len(read_demonstrations(tmp_path / "back.hdf5")) == 1
    for words, said in (
        (
            ("lerobot", tmp_path / "set", "--output", tmp_path / "back.hdf5"),
            "exists: give another name, or --overwrite",
        ),
        (("lerobot", path, "--output", tmp_path / "x.hdf5"), "d.hdf5 has no meta/info.json"),
        (("to-lerobot", tmp_path / "no.hdf5", "--output", tmp_path / "x"), "no.hdf5 does not exist"),
        (("to-lerobot", path, "--output", tmp_path / "set"), "set exists"),
        (("to-lerobot", path, "--output", tmp_path / "x", "--quality", 60), "--quality is 60"),
    ):
        code, _, err = run(*words)
        assert code == 1 and said in err and err.count("\n") == 1
    code, _, _ = run("lerobot", tmp_path / "set", "--output", tmp_path / "back.hdf5", "--overwrite")
    assert code == 0
