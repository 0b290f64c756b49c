"""LeRobot data sets: what they hold is read, in both versions; what cannot be used is named."""

import importlib
import json
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_files import (
    FPS,
    FRONT,
    SIZE,
    WRIST,
    edit_info,
    edit_table,
    make_episodes,
    smooth_frames,
    write_v3,
    write_v21,
    write_video,
)

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import open_demos

WRITERS = {"v3.0": write_v3, "v2.1": write_v21}
NAMES = {FRONT: "front", WRIST: "image"}
DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{FRONT}/chunk-000/file-000.mp4"


@pytest.fixture(scope="module", params=[("v3.0", "video"), ("v2.1", "video"), ("v3.0", "image"), ("v2.1", "image")])
def whole(request, tmp_path_factory):
    """An intact data set and what was written into it."""
    version, dtype = request.param
    episodes = make_episodes()
    root = WRITERS[version](tmp_path_factory.mktemp("whole"), episodes, dtype=dtype)
    return open_demos(root), episodes, dtype


def close(images, wanted, dtype):
    """Frames of a video are nearly those that went in, stored images are exactly those."""
    error = np.abs(np.stack(images).astype(int) - wanted.astype(int)).mean(axis=(1, 2, 3))
    return error.max() < (3 if dtype == "video" else 1e-9)


def test_episodes_are_read(whole):
    reader, episodes, dtype = whole
    layout = reader.layout
    assert (layout.cameras, layout.action_dim, layout.fps, layout.frame_stride) == (("front", "image"), 4, FPS, 1)
    assert (layout.state, layout.state_dim, layout.gripper, layout.gripper_known) == ("state", 3, None, False)
    assert not layout.bounded and not layout.paraphrased and reader.frame_count == 31
    assert len(reader.records) == len(episodes) and not list(reader.problems())
    for record, episode in zip(reader.records, episodes, strict=True):
        demo = reader.demonstration(record)
        assert np.array_equal(demo.actions, episode.actions) and np.array_equal(demo.state, episode.state)
        assert demo.instruction == demo.task == episode.tasks[0] and demo.success
        for key, name in NAMES.items():
            assert demo.images[name].dtype == np.uint8
            assert close(demo.images[name], episode.images[key], dtype)


def test_rows_may_be_asked_for_in_any_order(whole):
    reader, episodes, dtype = whole
    every = np.concatenate([episode.images[FRONT] for episode in episodes])
    for rows in ([30, 0, 17, 17, 3], list(range(5, 25)), [24, 23, 22, 2], [6, 7, 10, 11, 19, 20], [12]):
        images = reader.images("front", np.array(rows))
        assert len(images) == len(rows) and close(images, every[rows], dtype)


def test_a_reader_goes_to_other_processes_and_can_be_closed(whole):
    reader, episodes, dtype = whole
    reader.images("image", np.arange(4))
    other = pickle.loads(pickle.dumps(reader))
    reader.close()
    wanted = np.stack([episodes[1].images[WRIST][0], episodes[0].images[WRIST][2]])
    for one in (other, reader):
        assert close(one.images("image", np.array([7, 2])), wanted, dtype)
        one.close()


@pytest.mark.parametrize("options", [{"g": "250"}, {"g": "7", "bf": "3"}])
def test_key_frames_may_be_far_apart(tmp_path, options):
    episodes = make_episodes((60, 50))
    reader = open_demos(write_v3(tmp_path, episodes, **options))
    every = np.concatenate([episode.images[FRONT] for episode in episodes])
    assert not list(reader.problems())
    for rows in ([109, 50, 3, 4], [0, 40, 80, 100], np.arange(55, 70)):
        assert close(reader.images("front", np.array(rows)), every[rows], "video")


def test_neighbours_are_decoded_once(tmp_path, monkeypatch):
    from rf_agent.demos.readers import video

    decoded = []
    ahead = video._Decoder._next_time
    monkeypatch.setattr(
        video._Decoder, "_next_time", lambda self: self._ahead is None and decoded.append(1) or ahead(self)
    )
    reader = open_demos(write_v3(tmp_path, make_episodes((30, 30)), g="2"))
    reader.images("front", np.arange(20, 45))  # through two episodes of one file
    assert 25 <= len(decoded) <= 25 + 2


@pytest.mark.parametrize("times", [2, 3, 4])
def test_of_videos_with_more_frames_than_rows_the_nearest_one_is_read(tmp_path, times):
    episodes = make_episodes((6, 5))
    root = write_v3(tmp_path, episodes, per_file=1)
    wanted = []
    for index, episode in enumerate(episodes):
        count = times * len(episode.actions)
        frames = smooth_frames(count, 7 + index, SIZE[FRONT])
        write_video(root / f"videos/{FRONT}/chunk-000/file-{index:03d}.mp4", frames, fps=times * FPS)
        wanted += list(frames[::times])
    reader = open_demos(root)
    assert not list(reader.problems())
    for rows in (np.arange(11), np.arange(11)[::-1], np.array([5]), np.array([10, 3])):
        assert close(reader.images("front", rows), np.stack(wanted)[rows], "video")


def test_the_names_of_openpis_data_sets_are_known(tmp_path):
    root = write_v3(tmp_path, make_episodes((3, 2)), per_file=2, dtype="image")
    info = json.loads((root / "meta/info.json").read_text())["features"]
    info["actions"], info["state"] = info.pop("action"), info.pop("observation.state")
    edit_info(root, features=info)
    table = pq.read_table(root / DATA)
    new = {"action": "actions", "observation.state": "state"}
    pq.write_table(table.rename_columns([new.get(name, name) for name in table.column_names]), root / DATA)
    reader = open_demos(root)
    assert (reader.layout.action_dim, reader.layout.state, reader.layout.state_dim) == (4, "state", 3)
    assert np.array_equal(reader.records[1].actions, make_episodes((3, 2))[1].actions)
    assert np.array_equal(reader.records[1].state, make_episodes((3, 2))[1].state)


@pytest.mark.parametrize("feature", [{"dtype": "string", "shape": [1]}, {"dtype": "float32", "shape": [4, 4]}])
def test_something_else_called_state_is_no_state(tmp_path, feature):
    root = write_v3(tmp_path, make_episodes((3, 2)))
    features = json.loads((root / "meta/info.json").read_text())["features"]
    del features["observation.state"]
    edit_info(root, features=features | {"state": feature})
    reader = open_demos(root)
    assert reader.layout.state is None and len(reader.records) == 2


def test_few_videos_are_open_at_a_time(tmp_path):
    reader = open_demos(write_v21(tmp_path, make_episodes((2,) * 9)))
    for camera in reader.layout.cameras:
        reader.images(camera, np.arange(18))
    assert len(reader._videos._decoders) == reader._videos.limit < 18


def test_an_episode_is_cut_where_its_task_changes(tmp_path):
    episodes = make_episodes((6, 4))
    episodes[0].tasks = ["reach"] * 2 + ["grasp"] * 4
    reader = open_demos(write_v3(tmp_path, episodes))
    names = [(record.name, record.instruction, len(record.actions)) for record in reader.records]
    assert names == [("episode 0 (part 1)", "reach", 2), ("episode 0 (part 2)", "grasp", 4),
                     ("episode 1", "do thing 1", 4)]  # fmt: skip
    part = reader.demonstration(reader.records[1])
    assert np.array_equal(part.actions, episodes[0].actions[2:])
    assert close(part.images["front"], episodes[0].images[FRONT][2:], "video")


def test_one_number_a_row_is_a_vector_of_one(tmp_path):
    episodes = make_episodes((3, 2), dim=1)
    reader = open_demos(write_v3(tmp_path, episodes))
    assert reader.layout.action_dim == 1 and np.array_equal(reader.records[1].actions, episodes[1].actions)


def test_success_is_read_where_it_is_recorded(tmp_path):
    root = write_v3(tmp_path, make_episodes((3, 2)))
    features = json.loads((root / "meta/info.json").read_text())["features"]
    edit_info(root, features=features | {"next.success": {"dtype": "bool", "shape": [1], "names": None}})

    table = pq.read_table(root / DATA)
    pq.write_table(table.append_column("next.success", pa.array([False, False, True, False, False])), root / DATA)
    assert [record.success for record in open_demos(root).records] == [True, False]


def test_depth_images_are_left_out_and_counted(tmp_path):
    root = write_v3(tmp_path, make_episodes((3,)))
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[WRIST]["info"] = {"video.is_depth_map": True}
    edit_info(root, features=features)
    reader = open_demos(root)
    assert reader.layout.cameras == ("front",) and reader.skipped == {
        "cameras of depth or of one channel, which are not read": 1
    }


def test_a_camera_of_one_channel_is_left_out_and_counted(tmp_path):
    root = write_v3(tmp_path, make_episodes((3,)))
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[WRIST]["shape"] = [*features[WRIST]["shape"][:2], 1]
    edit_info(root, features=features)
    reader = open_demos(root)
    assert reader.layout.cameras == ("front",) and sum(reader.skipped.values()) == 1


def test_texts_may_hold_ends_of_lines_of_other_alphabets(tmp_path):
    root = write_v21(tmp_path, make_episodes((3,)))
    tasks = root / "meta/tasks.jsonl"
    rows = [json.loads(line) | {"task": "pick\u2028and place"} for line in tasks.read_text().splitlines()]
    tasks.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert {record.instruction for record in open_demos(root).records} == {"pick\u2028and place"}


def test_version_2_0_has_the_same_files_as_2_1(tmp_path):
    root = write_v21(tmp_path, make_episodes((3,)))
    edit_info(root, codebase_version="v2.0")
    assert len(open_demos(root).records) == 1


def features(**changes):
    """Damage to a data set: some features are changed (None: dropped)."""

    def damage(root):
        held = json.loads((root / "meta/info.json").read_text())["features"]
        for key, change in changes.items():
            key = {"state": "observation.state", "front": FRONT}.get(key, key)
            held[key] = None if change is None else held.get(key, {}) | change
        edit_info(root, features={key: value for key, value in held.items() if value is not None})

    return damage


def halved(name):
    def damage(root):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])

    return damage


def without(name):
    return lambda root: (root / name).unlink()


def info(**changes):
    return lambda root: edit_info(root, **changes)


def table(name, **columns):
    return lambda root: edit_table(root / name, **columns)


def vectors(*rows):
    return pa.array([list(row) for row in rows], pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("meta/info.json"), "a directory of no known format: .*a LeRobot data set"),
        (halved("meta/info.json"), "meta/info.json cannot be read.*damaged"),
        (lambda root: (root / "meta/info.json").write_text("[]"), "meta/info.json is no JSON object"),
        (info(codebase_version="v1.6"), r"info.json is of version 'v1.6', but v3.0, v2.1, v2.0 can be read"),
        (info(codebase_version=None), r"info.json is of version None"),
        (info(fps=0), "fps is 0"),
        (info(fps="ten"), "fps is 'ten'"),
        (info(features=None), "info.json: features must each have a dtype and a shape"),
        (features(action=None), r"info.json has no feature 'action' \(it has .*observation.state"),
        (features(action={"shape": [2, 2]}), r"action has shape \[2, 2\], expected \[D\]"),
        (features(action={"dtype": "string"}), "action has dtype 'string', expected numbers"),
        (features(action={"shape": [5]}), "file-000.parquet: episode 0: action in row 0 has 4 numbers, expected 5"),
        (features(state={"shape": [2]}), "episode 0: observation.state in row 0 has 3 numbers, expected 2"),
        (features(front={"shape": [48, 64]}), r"front has shape \[48, 64\], expected \[H, W, 3\]"),
        (features(**{FRONT: None, WRIST: None}), "no feature of dtype video or image"),
        (features(**{"observation.images.image": {"dtype": "video", "shape": [3, 8, 8]}}), "both the camera 'image'"),
        (features(**{"observation.images.a/b": {"dtype": "video", "shape": [3, 8, 8]}}), "without '/'"),
        (features(**{"observation.state_": {"dtype": "int8"}}), "features must each have a dtype and a shape"),
        (info(data_path="data/{chunk}.parquet"), "data_path .* names 'chunk', which is not known"),
        (info(data_path="../{chunk_index}.parquet"), "data_path .* leads out of the data set"),
        (info(video_path=None), "video_path is None, expected the template"),
        (without("meta/tasks.parquet"), "meta/tasks.parquet is missing"),
        (halved("meta/tasks.parquet"), "meta/tasks.parquet cannot be read.*damaged"),
        (without(EPISODES), "meta/episodes holds no parquet file"),
        (halved(EPISODES), "meta/episodes/.*file-000.parquet cannot be read.*damaged"),
        (table(EPISODES, length=None), "file-000.parquet has no column 'length'"),
        (table(EPISODES, length=pa.array([None, 4])), "episode 0 has no length"),
        (table(EPISODES, length=[8, 4]), "file-000.parquet: episode 0 has 7 rows, but the metadata say 8"),
        (table(EPISODES, **{f"videos/{FRONT}/from_timestamp": None}), "has no column 'videos/.*from_timestamp'"),
        (without(DATA), "file-000.parquet, which holds episode 0, is missing"),
        (halved(DATA), "file-000.parquet: episode 0 cannot be read.*damaged"),
        (table(DATA, action=None), r"file-000.parquet has no column 'action' \(it has observation.state"),
        (table(DATA, action=["up"] * 11), "file-000.parquet: action is of type string, expected vectors of 4 numbers"),
        (table(DATA, action=vectors(*([[0] * 4] * 9), [0] * 3, [0] * 4)), "episode 1: action in row 9 has 3 numbers"),
        (table(DATA, action=vectors([None] * 4, *([[0] * 4] * 10))), "episode 0: action in row 0 has"),
        (table(DATA, task_index=[9] * 11), "file-000.parquet: episode 0 has task 9, which meta/tasks lacks"),
        (lambda root: (root / "meta/roboflamingo.json").write_text("{"), "roboflamingo.json cannot be read"),
        (lambda root: (root / "meta/roboflamingo.json").write_text('{"layout": []}'), "roboflamingo.json .*damaged"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(tmp_path, damage, message):
    root = write_v3(tmp_path / "set", make_episodes((7, 4)))
    damage(root)
    with pytest.raises(DemoError, match=message) as error:
        open_demos(root)
    assert str(root) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("meta/episodes.jsonl"), "meta/episodes.jsonl is missing"),
        (without("meta/tasks.jsonl"), "meta/tasks.jsonl is missing"),
        (halved("meta/episodes.jsonl"), "info.json says 2 episodes, but meta/episodes has 1"),
        (
            lambda root: (root / "meta/episodes.jsonl").write_text('{"length": 3}'),
            "line 1 is no JSON object with episo",
        ),
        (lambda root: (root / "meta/episodes.jsonl").write_text(""), "set holds no episode"),
        (info(chunks_size=0), "chunks_size is 0"),
        (halved("data/chunk-000/episode_000001.parquet"), "episode_000001.parquet: episode 1 cannot be read"),
        (without("data/chunk-000/episode_000001.parquet"), "episode_000001.parquet, which holds episode 1, is missing"),
    ],
)
def test_what_cannot_be_used_of_version_2_1_is_refused_by_name(tmp_path, damage, message):
    root = write_v21(tmp_path / "set", make_episodes((3, 2)))
    damage(root)
    with pytest.raises(DemoError, match=message):
        open_demos(root)


def nan_action(root):
    values = np.zeros((11, 4), np.float32)
    values[8, 1] = np.nan
    edit_table(root / DATA, action=vectors(*values))


def small_video(root):
    write_video(root / VIDEO, smooth_frames(11, 0, (32, 32)))


def short_video(root):
    write_video(root / VIDEO, smooth_frames(9, 0, SIZE[FRONT]))


@pytest.mark.parametrize(
    ("damage", "episode", "message"),
    [
        (nan_action, 1, "actions has NaN"),
        (table("meta/tasks.parquet", __index_level_0__=[" ", "do thing 1"]), 0, "the instruction is ' '"),
        (table(DATA, timestamp=[0.0] * 11), 0, "timestamps do not ascend"),
        (without(VIDEO), 0, f"{VIDEO} is missing"),
        (lambda root: (root / VIDEO).write_bytes(b"no video at all"), 0, f"{VIDEO} cannot be read.*damaged"),
        (halved(VIDEO), 1, f"{VIDEO}.* (lacks 4 of its 4 frames|cannot be read)"),
        (short_video, 1, f"{VIDEO} lacks 2 of its 4 frames"),
        (small_video, 0, rf"{VIDEO} has images of shape \(32, 32\), but meta/info.json says \(48, 64\)"),
    ],
)
def test_a_bad_episode_is_found_without_decoding_images(tmp_path, damage, episode, message):
    root = write_v3(tmp_path / "set", make_episodes((7, 4)))
    damage(root)
    found = list(open_demos(root).problems())
    assert any(text.startswith(f"episode {episode}: ") for text in found)

    assert any(re.search(message, text) for text in found), found


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without(VIDEO), f"{VIDEO}, which holds images of episode 1, is missing"),
        (lambda root: (root / VIDEO).write_bytes(b"no video at all"), f"{VIDEO}: episode 1 cannot be read"),
        (halved(VIDEO), f"{VIDEO}(: episode 1 cannot be read| has no frame at)"),
        (short_video, rf"{VIDEO} has no frame at 0\.900 s, which episode 1 needs"),
    ],
)
def test_images_that_cannot_be_read_are_named(tmp_path, damage, message):
    root = write_v3(tmp_path / "set", make_episodes((7, 4)))
    reader = open_demos(root)
    damage(root)
    for _ in range(2):  # a second attempt is not another error
        with pytest.raises(DemoError, match=message):
            reader.images("front", np.arange(7, 11))


@pytest.mark.parametrize(
    "content",
    ["ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp4\n"],
)
def test_a_play_list_in_the_place_of_a_video_reads_nothing(tmp_path, content):
    root = write_v3(tmp_path / "set", make_episodes((7, 4)))
    video = root / VIDEO
    video.rename(video.with_name("secret.mp4"))
    video.write_text(content)
    reader = open_demos(root)
    assert any("cannot be read" in problem for problem in reader.problems())
    with pytest.raises(DemoError, match=f"{VIDEO}: episode 0 cannot be read"):
        reader.images("front", np.arange(3))


def test_a_folder_whose_name_looks_like_an_address(tmp_path, monkeypatch):
    write_v3(tmp_path / "tcp:set", make_episodes((3,)))
    monkeypatch.chdir(tmp_path)
    reader = open_demos("tcp:set")
    assert not list(reader.problems()) and len(reader.images("front", np.arange(3))) == 3


def test_stored_images_that_are_none_are_named(tmp_path):
    root = write_v3(tmp_path / "set", make_episodes((7, 4)), dtype="image")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    values = [{"bytes": b"\x80\x04cos\nsystem\n", "path": "x"}] + [{"bytes": None, "path": "x"}] * 10
    edit_table(root / DATA, **{FRONT: pa.array(values, kind)})
    reader = open_demos(root)
    with pytest.raises(DemoError, match="episode 1 has no image observation.images.front in row 8"):
        reader.images("front", np.array([8]))
    with pytest.raises(DemoError, match="observation.images.front of episode 0 in row 0 cannot be read"):
        reader.images("front", np.array([0]))


def test_a_column_of_images_that_is_missing_is_named(tmp_path):
    root = write_v3(tmp_path / "set", make_episodes((7, 4)), dtype="image")
    edit_table(root / DATA, **{WRIST: None})
    with pytest.raises(DemoError, match=r"file-000.parquet has no column 'observation.image' \(it has"):
        open_demos(root)


def test_without_the_packages_the_command_that_installs_them_is_named(tmp_path, monkeypatch):
    root = write_v3(tmp_path, make_episodes((2,)))
    real = importlib.import_module
    for package in ("pyarrow", "av"):

        def missing(name, package=package):
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            return real(name)

        monkeypatch.setattr(importlib, "import_module", missing)
        with pytest.raises(ImportError, match=rf"{package}.*pip install 'roboflamingo-agent\[data\]'"):
            open_demos(root)
