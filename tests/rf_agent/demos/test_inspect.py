"""`rf-agent inspect`: what it says of every format, and the contact sheet."""

import json

import h5py
import numpy as np
import pytest
from calvin_files import WINDOWS, frame, make_calvin, write_frame
from demo_files import make_store
from PIL import Image

from rf_agent.cli import main
from rf_agent.demos.checks import inspect
from rf_agent.demos.contact_sheet import GAP, HEIGHT, LINE, contact_sheet
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import open_demos
from rf_agent.training.robot import open_all


def run(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        main(["inspect", *map(str, words)])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def test_lengths_and_statistics(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=7)
    summary = inspect(path)
    assert summary.lengths["open_drawer"] == (7, 7.0, 7) and summary.lengths["turn_on_led"] == (17, 17.0, 17)
    actions = np.concatenate([record.actions for record in open_demos(path).records])
    for name in ("min", "max", "mean", "std"):
        assert np.allclose(getattr(summary.actions, name), getattr(np, name)(actions, axis=0), atol=1e-6)
    assert summary.failures == 0 and summary.skipped == {}


def test_a_folder_of_calvin(tmp_path, capfd):
    folder = make_calvin(tmp_path)
    write_frame(folder, 132, rel_actions=np.full(7, 2.0))
    summary = inspect(tmp_path)
    assert summary.tasks["open_drawer"] == {"demos": 2, "samples": 18, "instructions": 2}
    assert summary.lengths["open_drawer"] == (8, 9.0, 10)
    assert summary.skipped == {"rel_actions lie outside [-1, 1]": 1} and not summary.problems
    code, out, err = run(capfd, folder)
    assert code == 0 and not err
    assert "robot: cameras rgb_static, rgb_gripper; state robot_obs (15); actions (7), gripper at entry 6" in out
    assert "left out: 1 (rel_actions lie outside [-1, 1])" in out and "6 (gripper)" in out
    assert "No problems found." in out


def test_names_in_brackets_are_shown_as_they_are(tmp_path, capfd):
    path = make_store(tmp_path / "d.hdf5", demos=2)
    with h5py.File(path, "r+") as file:
        for group in file["data"].values():
            group.attrs["task"] = "[/b] [red]"
    code, out, err = run(capfd, path)
    assert code == 0 and not err and "[/b] [red]" in out


def test_damaged_and_incomplete_demonstrations_are_counted_and_named(tmp_path, capfd):
    path = make_store(tmp_path / "d.hdf5", demos=6)
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["complete"] = False
        file["data/demo_1/actions"][0, 0] = np.nan
        file["data/demo_4"].attrs["success"] = False
        del file["data/demo_2/actions"]
    code, out, err = run(capfd, path)
    assert code == 1 and "has 2 problems" in err
    assert "left out: 1 (cut off while they were written)" in out
    assert "1 demonstrations did not succeed" in out and "problem: demo_1: actions has NaN" in out
    assert "problem: demo_2: actions is missing" in out
    assert np.isfinite(inspect(path).actions.mean).all()
    with h5py.File(path, "r+") as file:
        for name in file["data"]:
            file["data"][name].attrs["complete"] = False
    code, out, err = run(capfd, path)
    assert code == 1 and "problem: no complete demonstration" in out


def make_robomimic(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
        for index in range(3):
            group = file["data"].create_group(f"demo_{index}")
            group.attrs["num_samples"] = 4 + index
            group["actions"] = np.zeros((4 + index, 7))
            group["obs/agentview_image"] = np.zeros((4 + index, 8, 8, 3), np.uint8)
    return path


def make_minari(path):
    (path / "data").mkdir(parents=True)
    space = {"type": "Dict", "subspaces": {"front": {"type": "Box", "dtype": "uint8", "shape": [8, 8, 3]}}}
    actions = {"type": "Box", "dtype": "float32", "shape": [7], "low": [-1.0] * 7, "high": [1.0] * 7}
    said = {"observation_space": json.dumps(space), "action_space": json.dumps(actions)}
    (path / "data" / "metadata.json").write_text(json.dumps(said))
    with h5py.File(path / "data" / "main_data.hdf5", "w") as file:
        for index in range(3):
            file[f"episode_{index}/actions"] = np.zeros((4 + index, 7), np.float32)
            file[f"episode_{index}/observations/front"] = np.zeros((5 + index, 8, 8, 3), np.uint8)
    return path


@pytest.mark.parametrize(("make", "kind"), [(make_robomimic, "robomimic"), (make_minari, "minari")])
def test_what_knows_no_instructions_is_counted_all_the_same(tmp_path, capfd, make, kind):
    path = make(tmp_path / "data set")
    code, out, err = run(capfd, path, "--contact-sheet", tmp_path / "sheet.png")
    assert code == 1 and "3 demonstrations have no instruction: give one with --instruction" in err
    assert "problem: " in out and f"`rf-agent convert {kind}`" in err and (tmp_path / "sheet.png").is_file()
    (row,) = [line for line in out.splitlines() if "(none)" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["(none)", "3", "15", "4", "5", "6", "0"]
    code, out, err = run(capfd, path, "--instruction", "lift the cube")
    assert code == 0 and not err and "No problems found." in out and "lift the cube" in out
    summary = inspect(path, "lift the cube")
    assert summary.tasks == {"lift the cube": {"demos": 3, "samples": 15, "instructions": 1}}
    assert summary.without_instruction == 0


def test_training_says_where_an_instruction_is_given(tmp_path):
    for make, kind in ((make_robomimic, "robomimic"), (make_minari, "minari")):
        with pytest.raises(DemoError, match=f"instruction.*`rf-agent convert {kind}`"):
            open_all([make(tmp_path / kind)])


def test_a_text_in_the_place_of_numbers_is_named_once(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=3)
    with h5py.File(path, "r+") as file:
        shape = file["data/demo_1/actions"].shape
        del file["data/demo_1/actions"]
        file["data/demo_1/actions"] = np.full(shape, b"1")
    (problem,) = inspect(path).problems
    assert problem.startswith("demo_1: actions is |S1, expected float32: delete that demonstration")


def test_a_lost_instruction_of_our_own_file_is_a_problem_like_others(tmp_path, capfd):
    path = make_store(tmp_path / "d.hdf5", demos=3)
    with h5py.File(path, "r+") as file:
        del file["data/demo_1"].attrs["instruction"]
    code, out, err = run(capfd, path)
    assert code == 1 and "problem: demo_1: attribute instruction is missing" in out
    assert "has 1 problems (see above): collect these episodes again" in err and "--instruction" not in err


def test_an_instruction_is_not_exchanged_for_another(tmp_path):
    for path in (make_store(tmp_path / "d.hdf5"), make_calvin(tmp_path)):
        with pytest.raises(DemoError, match="is of a format that says its instructions: leave out --instruction"):
            inspect(path, "lift the cube")


def test_the_contact_sheet_shows_the_frames(tmp_path, capfd):
    folder = make_calvin(tmp_path)
    sheet = np.asarray(contact_sheet(open_demos(folder)))
    assert len(sheet) == 2 * LINE + 3 * (LINE + HEIGHT + GAP)  # a row for each task
    start, end = next(window[:2] for window in WINDOWS if window[2] == "close_drawer")
    width = round(12 * HEIGHT / 10)
    for place, number in enumerate((start, start + (end - start) // 2, end - 1)):
        left, top = GAP + place * (width + 2), 3 * LINE
        shown = sheet[top : top + HEIGHT, left : left + width]
        expected = Image.fromarray(frame(number)["rgb_static"]).resize((width, HEIGHT), Image.Resampling.BILINEAR)
        assert np.array_equal(shown, np.asarray(expected))
    code, out, _ = run(capfd, folder, "--contact-sheet", tmp_path / "new" / "sheet.png", "--tasks", 2)
    assert code == 0 and "contact sheet: " in out
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert image.height == 2 * LINE + 2 * (LINE + HEIGHT + GAP)
    for words, message in ((("--contact-sheet", "sheet.txt"), "ends in .png"), (("--tasks", "0"), "give 1 or more")):
        code, _, err = run(capfd, folder, *words)
        assert code == 1 and message in err


def test_a_contact_sheet_that_cannot_be_written_is_named(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    code, _, err = run(capfd, make_store(tmp_path / "d.hdf5", demos=2), "--contact-sheet", tmp_path / "file" / "s.png")
    assert code == 1 and "s.png cannot be written" in err and "give another --contact-sheet" in err


def test_the_contact_sheet_of_damaged_images_is_drawn_all_the_same(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=3)
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/obs/rgb_static"]
    assert contact_sheet(open_demos(path), tasks=5).width > 6 * HEIGHT
