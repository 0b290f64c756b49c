"""Files of robomimic: what they do not say is given."""

import json

import h5py
import numpy as np
import pytest

from rf_agent.demos.checks import inspect
from rf_agent.demos.files import DemoError
from rf_agent.demos.pack import pack
from rf_agent.demos.readers import open_demos
from rf_agent.demos.readers.robomimic import RobomimicReader

LENGTHS = {"demo_0": 5, "demo_2": 6, "demo_10": 4}


@pytest.fixture
def path(tmp_path):
    path, rng = tmp_path / "lift.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        arguments = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}
        file.create_group("data").attrs["env_args"] = json.dumps(arguments)
        for name, steps in LENGTHS.items():
            group = file["data"].create_group(name)
            group.attrs["num_samples"], group.attrs["model_file"] = steps, "<mujoco>" * 1000
            group["actions"] = rng.uniform(-1, 1, (steps, 7))
            group["obs/agentview_image"] = rng.integers(0, 256, (steps, 8, 8, 3), dtype=np.uint8)
            group["obs/robot0_eye_in_hand_image"] = rng.integers(0, 256, (steps, 6, 6, 3), dtype=np.uint8)
            group["obs/robot0_eef_pos"], group["obs/robot0_eef_quat"] = rng.random((steps, 3)), rng.random((steps, 4))
        file["mask/train"] = np.array([b"demo_10", b"demo_0"])
        file["mask/valid"] = np.array([b"demo_2"])
    return path


def test_all_demonstrations_of_one_instruction(path):
    reader = RobomimicReader(path, instruction="lift the cube", task="lift")
    assert [record.name for record in reader.records] == list(LENGTHS)
    assert {(record.task, record.instruction) for record in reader.records} == {("lift", "lift the cube")}
    assert reader.layout.cameras == ("agentview_image", "robot0_eye_in_hand_image")
    assert (reader.layout.action_dim, reader.layout.state, reader.layout.fps) == (7, None, 20.0)
    assert not reader.layout.gripper_known and list(reader.problems()) == []
    demo = reader.demonstration(reader.records[1])
    with h5py.File(path) as file:
        assert np.array_equal(demo.images["agentview_image"], file["data/demo_2/obs/agentview_image"][:])
        assert np.array_equal(demo.actions, file["data/demo_2/actions"][:].astype(np.float32))
    assert demo.attributes == {} and RobomimicReader(path, instruction="lift it").records[0].task == "lift it"


def test_depth_and_segmentation_are_no_cameras(path):
    with h5py.File(path, "a") as file:
        for name, steps in LENGTHS.items():
            file[f"data/{name}/obs/agentview_depth"] = np.zeros((steps, 8, 8, 1), np.float32)
            file[f"data/{name}/obs/agentview_segmentation"] = np.zeros((steps, 8, 8, 1), np.uint8)
            file[f"data/{name}"].attrs.update(instruction="lift the cube", task="lift")
    for reader in (RobomimicReader(path), open_demos(path)):
        assert reader.layout.cameras == ("agentview_image", "robot0_eye_in_hand_image")
        assert list(reader.problems()) == []


def test_observations_make_up_the_state(path):
    reader = RobomimicReader(path, instruction="lift", state="robot0_eef_pos", cameras=["agentview_image"])
    assert (reader.layout.state, reader.layout.state_dim) == ("robot0_eef_pos", 3)
    assert reader.layout.cameras == ("agentview_image",)
    reader = RobomimicReader(path, instruction="lift", state=["robot0_eef_quat", "robot0_eef_pos"])
    assert (reader.layout.state, reader.layout.state_dim) == ("state", 7)
    with h5py.File(path) as file:
        obs = file["data/demo_0/obs"]
        expected = np.concatenate([obs["robot0_eef_quat"][:], obs["robot0_eef_pos"][:]], axis=1)
    assert np.allclose(reader.records[0].state, expected)
    with pytest.raises(DemoError, match="has no state 'x' under obs: give some of robot0_eef_pos, robot0_eef_quat"):
        RobomimicReader(path, instruction="lift", state=["x"])
    with pytest.raises(DemoError, match="has no camera 'x' under obs: give some of agentview_image"):
        RobomimicReader(path, instruction="lift", cameras=["x"])


def test_parts_of_a_state_that_do_not_fit_together_are_named(path):
    with h5py.File(path, "r+") as file:
        obs = file["data/demo_2/obs"]
        del obs["robot0_eef_pos"]
        obs["robot0_eef_pos"] = np.zeros((3, 3))
    state = ["robot0_eef_pos", "robot0_eef_quat"]
    with pytest.raises(DemoError, match=r"demo_2: the parts of the state are obs/robot0_eef_pos \(3, 3\), obs/.*"):
        RobomimicReader(path, instruction="lift", state=state)
    with h5py.File(path, "r+") as file:
        del file["data/demo_2/obs/robot0_eef_pos"]
    with pytest.raises(DemoError, match="demo_2: obs/robot0_eef_pos is missing: delete that demonstration, or write"):
        RobomimicReader(path, instruction="lift", state=state)


def test_a_file_of_states_alone_has_no_camera(path):
    """As robomimic's files are downloaded: its own command renders the observations."""
    with h5py.File(path, "r+") as file:
        for name in LENGTHS:
            del file["data"][name]["obs"]
    with pytest.raises(DemoError, match="has no camera images under obs: write it again with image observations"):
        RobomimicReader(path, instruction="lift")


def test_arrays_that_a_demonstration_has_for_attributes_are_left_out(path, tmp_path):
    """LIBERO keeps the simulator's first state so."""
    with h5py.File(path, "r+") as file:
        for name in LENGTHS:
            attributes = {"instruction": "lift the cube", "task": "lift", "init_state": np.zeros(9), "tag": b"abc"}
            file["data"][name].attrs.update(attributes)
    packed = pack([path], tmp_path / "packed.hdf5")
    for read in (path, packed):
        reader = open_demos(read)
        kept = reader.demonstration(reader.records[0]).attributes
        assert kept["tag"] == "abc" and "init_state" not in kept
        assert all(isinstance(value, str | np.generic) for value in kept.values())


@pytest.mark.parametrize(("text", "said"), [("", "the instruction is ''"), ("lift " * 80, "more than 256 bytes")])
def test_instructions_that_no_policy_takes_are_problems(path, text, said):
    with h5py.File(path, "r+") as file:
        for name in LENGTHS:
            file["data"][name].attrs.update(instruction=text, task="lift")
    assert all(said in problem for problem in open_demos(path).problems()) and list(open_demos(path).problems())
    assert any(said in problem for problem in inspect(path).problems)


def test_a_filter_key_chooses(path):
    names = [record.name for record in RobomimicReader(path, instruction="lift", filter_key="train").records]
    assert names == ["demo_0", "demo_10"]
    with pytest.raises(DemoError, match="has no filter key 'test': give one of train, valid"):
        RobomimicReader(path, instruction="lift", filter_key="test")
    with h5py.File(path, "r+") as file:
        file["mask/wrong"] = np.array([b"demo_99"])
    with pytest.raises(DemoError, match="mask/wrong names demo_99, which is not there"):
        RobomimicReader(path, instruction="lift", filter_key="wrong")


def test_instructions_of_the_file_itself(path):
    with pytest.raises(DemoError, match=r"demo_0 has no instruction: give one for the whole file \(--instruction\)"):
        RobomimicReader(path)
    with h5py.File(path, "r+") as file:
        for name in LENGTHS:
            file["data"][name].attrs["ep_meta"] = json.dumps({"lang": f"lift the cube of {name}"})
    assert RobomimicReader(path, task="lift").records[1].instruction == "lift the cube of demo_2"
    # training and inspection take them, too
    assert [record.instruction for record in open_demos(path).records] == [
        f"lift the cube of {name}" for name in LENGTHS
    ]
    summary = inspect(path)
    assert not summary.problems and not summary.without_instruction and len(summary.tasks) == len(LENGTHS)


@pytest.mark.parametrize("damage", ["header", "actions"])
def test_damage_in_a_file_with_instructions_of_its_own_is_named(path, damage):
    with h5py.File(path, "r+") as file:
        for name in LENGTHS:
            file["data"][name].attrs["ep_meta"] = json.dumps({"lang": f"lift the cube of {name}"})
        place = h5py.h5o.get_info(file["data/demo_2"].id).addr
        if damage == "actions":
            del file["data/demo_2/actions"]
    if damage == "header":
        content = bytearray(path.read_bytes())
        content[place : place + 16] = b"\xff" * 16
        path.write_bytes(content)
    with pytest.raises(DemoError, match="demo_2"):
        open_demos(path)
    if damage == "header":  # nothing is known of it, not even whether it is one
        with pytest.raises(DemoError, match="demo_2 cannot be read, because the file is damaged"):
            inspect(path)
        return
    summary = inspect(path)
    assert summary.demos == 2 and any("demo_2" in problem for problem in summary.problems)


def test_an_instruction_that_is_null_is_none(path):
    with h5py.File(path, "r+") as file:
        for name in LENGTHS:
            file["data"][name].attrs["ep_meta"] = json.dumps({"lang": None})
    assert inspect(path).without_instruction == len(LENGTHS)
    with pytest.raises(DemoError, match="demo_0 has no instruction"):
        RobomimicReader(path)


def test_failures_stay_failures(path):
    with h5py.File(path, "r+") as file:
        file["data/demo_2"].attrs["success"] = False
    reader = RobomimicReader(path, instruction="lift the cube", cameras=["agentview_image", "agentview_image"])
    assert [record.success for record in reader.records] == [True, False, True]
    assert reader.layout.cameras == ("agentview_image",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda group: group["actions"].__setitem__((1, 2), np.nan), "demo_2: actions has NaN"),
        (lambda group: group.__delitem__("obs/agentview_image"), "demo_2: images of camera 'agentview_image' are mis"),
    ],
)
def test_what_is_wrong_is_named(path, damage, message):
    with h5py.File(path, "r+") as file:
        damage(file["data/demo_2"])
    (problem,) = RobomimicReader(path, instruction="lift").problems()
    assert problem.startswith(message)
