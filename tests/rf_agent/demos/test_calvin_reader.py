"""CALVIN's folders: which frames are a demonstration, what is chosen, and what becomes of bad input."""

import json
import pickle
import shutil

import numpy as np
import pytest
from calvin_files import WINDOWS, annotate, frame, make_calvin, write_frame

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import open_demos
from rf_agent.demos.readers.calvin import CalvinReader


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return make_calvin(tmp_path_factory.mktemp("written"))


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "task_X" / "training")


@pytest.mark.parametrize(("dtype", "extras", "digits"), [(np.float64, True, 7), (np.float32, False, 5)])
def test_windows_are_the_annotated_frames_without_the_last(tmp_path, dtype, extras, digits):
    folder = make_calvin(tmp_path, dtype=dtype, extras=extras, digits=digits)
    reader = CalvinReader(folder)
    assert [record.task for record in reader.records] == sorted(window[2] for window in WINDOWS)
    for record in reader.records:
        start, end = record.attributes["start"], record.attributes["end"]
        (window,) = [window for window in WINDOWS if window[:2] == (start, end)]
        assert (record.task, record.instruction) == window[2:]
        demo = reader.demonstration(record)
        frames = [frame(number, dtype) for number in range(start, end)]  # the frame `end` is never used
        assert np.array_equal(demo.actions, np.stack([one["rel_actions"] for one in frames]).astype(np.float32))
        assert np.array_equal(demo.state, np.stack([one["robot_obs"] for one in frames]).astype(np.float32))
        for camera in ("rgb_static", "rgb_gripper"):
            assert np.array_equal(demo.images[camera], np.stack([one[camera] for one in frames]))
        assert demo.attributes["scene"] == ("B" if start < 116 else "A") and not demo.problems(reader.layout)
    assert reader.skipped == {} and list(reader.problems()) == []
    layout = reader.layout
    assert (layout.cameras, layout.action_dim, layout.gripper) == (("rgb_static", "rgb_gripper"), 7, 6)
    assert (layout.state, layout.state_dim, layout.fps, layout.bounded) == ("robot_obs", 15, 30.0, True)


def test_overlapping_windows_share_frames(folder):
    reader = CalvinReader(folder)
    assert reader.frame_count == len({n for start, end, *_ in WINDOWS for n in range(start, end)})
    close, first, *_ = reader.records
    assert (close.attributes["start"], first.attributes["start"]) == (105, 102)
    assert close.first_frame - first.first_frame == 3
    images = reader.images("rgb_gripper", np.array([close.first_frame, first.first_frame, close.first_frame]))
    assert [image.tolist() for image in images] == [frame(n)["rgb_gripper"].tolist() for n in (105, 102, 105)]


def test_the_last_frame_can_be_taken_too(folder):
    reader = CalvinReader(folder, include_last=True)
    lengths = {record.attributes["start"]: len(record.actions) for record in reader.records}
    assert lengths == {start: end + 1 - start for start, end, *_ in WINDOWS}


def test_the_root_or_a_split_is_given(folder, tmp_path):
    other = make_calvin(folder.parent, split="validation", windows=WINDOWS[:1])
    assert len(CalvinReader(folder.parent).records) == len(CalvinReader(folder).records) == 4
    for reader in (CalvinReader(folder.parent, split="validation"), CalvinReader(other), open_demos(other)):
        assert len(reader.records) == 1 and reader.path == other
    assert isinstance(open_demos(folder.parent), CalvinReader)
    with pytest.raises(DemoError, match="has no split 'test': give one of training, validation"):
        CalvinReader(folder.parent, split="test")
    (folder / "lang_annotations" / "auto_lang_ann.npy").unlink()
    for path in (folder, folder.parent):
        with pytest.raises(DemoError, match="training has no lang_annotations/auto_lang_ann.npy"):
            open_demos(path)


def test_a_reader_goes_to_other_processes(folder):
    reader = pickle.loads(pickle.dumps(CalvinReader(folder)))
    assert np.array_equal(reader.images("rgb_static", np.array([0]))[0], frame(102)["rgb_static"])


def test_scenes_are_chosen(folder):
    for scenes, expected in (
        (("A",), {120, 131}),
        (("calvin_scene_B",), {102, 105}),
        (("A", "B"), {102, 105, 120, 131}),
    ):
        assert {record.attributes["start"] for record in CalvinReader(folder, scenes=scenes).records} == expected
    with pytest.raises(DemoError, match="scene_info.npy knows no scene 'C': give some of A, B"):
        CalvinReader(folder, scenes=("A", "C"))
    (folder / "scene_info.npy").unlink()
    assert "scene" not in CalvinReader(folder).records[0].attributes
    with pytest.raises(DemoError, match="scene_info.npy does not exist, so that scenes cannot be chosen"):
        CalvinReader(folder, scenes=("A",))


def test_a_subset_is_chosen(folder, tmp_path):
    subset = tmp_path / "subset.json"
    subset.write_text(json.dumps([[120, 130], [102, 110]]))
    assert {record.attributes["start"] for record in CalvinReader(folder, subset=subset).records} == {102, 120}
    assert len(CalvinReader(folder, subset=subset, scenes=("A",)).records) == 1
    subset.write_text(json.dumps([[131, 139]]))
    with pytest.raises(DemoError, match="annotates no window of this choice"):
        CalvinReader(folder, subset=subset, scenes=("B",))
    subset.write_text(json.dumps([[102, 110], [102, 111], [1, 2]]))
    with pytest.raises(DemoError, match=r"2 of the 3 windows in .*subset.json are not annotated .*such as \[1, 2\]"):
        CalvinReader(folder, subset=subset)
    for text in ("{", "[[1, 2, 3]]", '[["a", "b"]]', "[1, 2]", "[[1.5, 2]]"):
        subset.write_text(text)
        with pytest.raises(DemoError, match="is not a list of .start, end. in JSON"):
            CalvinReader(folder, subset=subset)
    with pytest.raises(FileNotFoundError, match="none.json does not exist"):
        CalvinReader(folder, subset=tmp_path / "none.json")


def cut(folder, number):
    path = folder / f"episode_{number:07d}.npz"
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: cut(f, 129), "the frame's file is truncated or damaged"),
        (lambda f: (f / "episode_0000129.npz").write_bytes(b""), "the frame's file is truncated or damaged"),
        (lambda f: (f / "episode_0000129.npz").unlink(), "the frame's file is missing"),
        (lambda f: write_frame(f, 129, robot_obs=None), "robot_obs is missing"),
        (lambda f: write_frame(f, 129, rgb_gripper=None), "rgb_gripper is missing"),
        (lambda f: write_frame(f, 129, rel_actions=np.zeros(6)), r"rel_actions has shape (6,), expected (7,)"),
        (lambda f: write_frame(f, 129, robot_obs=np.zeros(15, int)), "robot_obs is int64, expected float32 or float64"),
        (lambda f: write_frame(f, 129, rel_actions=np.array([0] * 7, object)), "rel_actions is object, expected"),
        (lambda f: write_frame(f, 129, rgb_static=np.zeros((10, 12, 3))), "rgb_static is float64 (10, 12, 3)"),
        (lambda f: write_frame(f, 129, rgb_static=np.zeros((10, 12), np.uint8)), "rgb_static is uint8 (10, 12)"),
        (lambda f: write_frame(f, 129, rgb_static=np.zeros((9, 12, 3), np.uint8)), "an image is of another size"),
        (lambda f: write_frame(f, 129, rel_actions=np.full(7, np.nan)), "rel_actions has NaN"),
        (lambda f: write_frame(f, 129, rel_actions=np.full(7, 1e300)), "rel_actions has NaN or infinite values"),
        (lambda f: write_frame(f, 129, robot_obs=np.full(15, np.inf)), "robot_obs has NaN or infinite values"),
        (lambda f: write_frame(f, 129, rel_actions=np.full(7, 1.01)), "rel_actions lie outside [-1, 1]"),
        (lambda f: annotate(f, [(130, 120, "a", "b"), *WINDOWS]), "the range ends before it begins"),
        (lambda f: annotate(f, [(120, 120, "a", "b"), *WINDOWS]), "the range is empty"),
        (lambda f: annotate(f, [(130, 141, "a", "b"), *WINDOWS]), "the range lies beyond the data"),
        (lambda f: annotate(f, [(-3, 105, "a", "b"), *WINDOWS]), "the range lies beyond the data"),
        (lambda f: annotate(f, [(110, 117, "a", "b"), *WINDOWS]), "the range crosses the end of a recording"),
        (lambda f: np.save(f / "ep_start_end_ids.npy", np.array([[100, 119], [125, 139]])), "outside all recordings"),
        (lambda f: np.save(f / "scene_info.npy", {"calvin_scene_A": [100, 125]}), "crosses the end of a scene"),
        (lambda f: annotate(f, [(120, 130, "a", ""), *WINDOWS]), "the annotation has no instruction"),
        (lambda f: annotate(f, [(120, 130, None, "b"), *WINDOWS]), "the annotation has no task"),
        (lambda f: annotate(f, [(120, 130, "a", "b" * 257), *WINDOWS]), "the instruction has more than 256 bytes"),
    ],
)
def test_a_window_that_cannot_be_used_is_left_out_and_counted(folder, damage, reason):
    damage(folder)
    reader = CalvinReader(folder)
    ((found, count),) = reader.skipped.items()
    assert reason in found and count == 1
    assert {(r.attributes["start"], r.attributes["end"]) for r in reader.records} >= {
        (102, 110),
        (105, 113),
        (131, 139),
    }
    for record in reader.records:
        assert not reader.demonstration(record).problems(reader.layout)
    with pytest.raises(DemoError, match=r"training: annotation \d \(frames .* to .*\), task") as error:
        CalvinReader(folder, strict=True)
    of_a_frame = any(word in reason for word in ("the frame", "image", "rel_actions", "robot_obs", "rgb"))
    assert reason in str(error.value) and ("episode_0000129.npz" in str(error.value)) == of_a_frame


def test_a_frame_that_no_window_uses_is_never_read(folder):
    cut(folder, 130)  # the end of one window, and before the start of the next
    assert CalvinReader(folder, strict=True).skipped == {}
    with pytest.raises(DemoError, match="episode_0000130.npz"):
        CalvinReader(folder, strict=True, include_last=True)


def test_an_image_that_is_damaged_later_is_named(folder):
    reader = CalvinReader(folder)
    cut(folder, 131)
    with pytest.raises(DemoError, match="episode_0000131.npz: the frame's file is truncated or damaged"):
        reader.demonstration(reader.records[-1])
    path = write_frame(folder, 131)
    content = bytearray(path.read_bytes())
    place = content.index(b"rgb_static.npy") + 150
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DemoError, match="episode_0000131.npz: the frame's file is truncated or damaged"):
        reader.demonstration(reader.records[-1])


def test_nothing_left_is_refused_with_the_reasons(folder):
    for start, *_ in WINDOWS:
        cut(folder, start)
    with pytest.raises(DemoError, match=r"no window that can be used: .* truncated or damaged \(4\)"):
        CalvinReader(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: [path.unlink() for path in f.glob("*.npz")], "training has no frames"),
        (lambda f: annotate(f, []), "auto_lang_ann.npy holds no annotation"),
        (lambda f: annotate(f, language={}), "not a file of CALVIN's annotations: it holds no language/ann"),
        (lambda f: annotate(f, info={"indx": [(1, 2)]}), "4 instructions, 4 tasks and 1 ranges"),
        (lambda f: annotate(f, info={"indx": [(1.5, 2.0)] * 4}), "info/indx is float64"),
        (lambda f: annotate(f, info={"indx": [(1, 2), (1,)] * 2}), "not a file of CALVIN's annotations"),
        (lambda f: annotate(f).write_bytes(annotate(f).read_bytes()[:-40]), "auto_lang_ann.npy is damaged"),
        (lambda f: np.save(f / "ep_start_end_ids.npy", np.zeros((2, 3), int)), "ep_start_end_ids.npy is int64"),
        (lambda f: np.save(f / "ep_start_end_ids.npy", np.array([[5, 2]])), "ends before it begins"),
        (lambda f: np.save(f / "ep_start_end_ids.npy", np.array([[116, 139], [100, 116]])), "recordings that overlap"),
        (lambda f: np.save(f / "scene_info.npy", [1, 2]), "scene_info.npy does not name"),
        (lambda f: np.save(f / "scene_info.npy", {"calvin_scene_A": [139, 116]}), "scene A ends before it begins"),
        (
            lambda f: np.save(f / "scene_info.npy", {"calvin_scene_B": [110, 139], "calvin_scene_A": [100, 110]}),
            "scene_info.npy: scenes A and B overlap",
        ),
        (lambda f: (f / "scene_info.npy").write_bytes(b"no"), "scene_info.npy is damaged or not a .npy file"),
    ],
)
def test_a_broken_folder_is_refused_by_file(folder, damage, message):
    damage(folder)
    with pytest.raises(DemoError, match=message):
        CalvinReader(folder)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is no directory"):
        CalvinReader(tmp_path / "nothing")
    with pytest.raises(DemoError, match="no lang_annotations/auto_lang_ann.npy"):
        CalvinReader(tmp_path)
    with pytest.raises(DemoError, match="is a directory of no known format"):
        open_demos(tmp_path)
