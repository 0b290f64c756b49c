"""Data sets of Minari, as the package writes them."""

import json

import h5py
import numpy as np
import pytest
from gymnasium import spaces

from rf_agent.demos.convert import convert
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import open_demos
from rf_agent.demos.readers.minari import MinariReader

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Minari's, of what a data set should say
SIZES = (6, 4)
SPACE = spaces.Dict(
    {
        "front": spaces.Box(0, 255, (32, 40, 3), np.uint8),
        "instruction": spaces.Text(64, charset="abcdefghijklmnopqrstuvwxyz "),
        "joints": spaces.Box(-1, 1, (5,), np.float64),
        "small": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    }
)


@pytest.fixture(params=[True, False], ids=["jpeg", "raw"])
def data(request, tmp_path, monkeypatch):
    """A data set and the observations in it."""
    minari = pytest.importorskip("minari")
    from minari.data_collector.episode_buffer import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng, buffers = np.random.default_rng(0), []
    for index, steps in enumerate(SIZES):
        smooth = np.linspace(0, 200, steps + 1, dtype=np.uint8)[:, None, None, None]
        observations = {
            "front": list(np.broadcast_to(smooth, (steps + 1, 32, 40, 3)).copy()),
            "small": list(rng.integers(0, 256, (steps + 1, 8, 8, 3), dtype=np.uint8)),
            "joints": list(rng.uniform(-1, 1, (steps + 1, 5))),
            "instruction": [f"reach the {'ab'[index]}"] * (steps + 1),
        }
        buffers.append(
            EpisodeBuffer(
                id=index,
                seed=index + 5,
                observations=observations,
                actions=list(rng.uniform(-1, 1, (steps, 3)).astype(np.float32)),
                rewards=[0.0] * steps,
                terminations=[False] * steps,
                truncations=[False] * (steps - 1) + [True],
                infos={"is_success": np.array([False] * steps + [index == 0])},
            )
        )
    minari.create_dataset_from_buffers(
        "test/reach-v0",
        buffer=buffers,
        observation_space=SPACE,
        action_space=spaces.Box(-1, 1, (3,), np.float32),
        data_format="hdf5",
        jpeg_encoding=request.param,
    )
    return tmp_path / "test" / "reach-v0", buffers


def test_episodes_are_read_without_the_last_observation(data):
    path, buffers = data
    reader = MinariReader(path, state="joints")
    assert [record.name for record in reader.records] == ["episode_0", "episode_1"]
    assert (reader.layout.cameras, reader.layout.action_dim) == (("front", "small"), 3)
    assert (reader.layout.state, reader.layout.state_dim, reader.layout.gripper_known) == ("joints", 5, False)
    assert [record.success for record in reader.records] == [True, False]
    for record, buffer, steps in zip(reader.records, buffers, SIZES, strict=True):
        demo = reader.demonstration(record)
        assert demo.instruction == demo.task == buffer.observations["instruction"][0]
        assert np.array_equal(demo.actions, np.stack(buffer.actions))
        assert np.allclose(demo.state, np.stack(buffer.observations["joints"][:-1]))
        assert np.array_equal(demo.images["small"], np.stack(buffer.observations["small"][:-1]))
        difference = demo.images["front"].astype(int) - np.stack(buffer.observations["front"][:-1])
        assert demo.images["front"].shape == (steps, 32, 40, 3) and np.abs(difference).max() <= 2  # JPEG
        assert not demo.problems(reader.layout)
    assert list(reader.problems()) == [] and [r.attributes["seed"] for r in reader.records] == [5, 6]
    assert [len(record.actions) for record in MinariReader(path / "data").records] == list(SIZES)
    assert isinstance(open_demos(path), MinariReader)


def write_texts(group, key, texts):
    if key in group:
        del group[key]
    group.create_dataset(key, data=texts, dtype=h5py.string_dtype())


@pytest.mark.parametrize("after_reset", [True, False], ids=["infos of the reset", "infos of steps alone"])
def test_an_episode_is_cut_where_its_instruction_changes(data, after_reset):
    path, buffers = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        write_texts(file["episode_0"], "observations/instruction", ["open it"] * 2 + ["push it"] * 4 + ["look"])
        tasks = ["open"] * 2 + ["push"] * 4 + ["look"]
        write_texts(file["episode_0"], "infos/task", tasks if after_reset else tasks[1:])
        file["episode_0/infos/is_success"][-1] = False
    reader = MinariReader(path, state="joints")
    assert [(r.name, r.task, r.instruction, len(r.actions), r.success) for r in reader.records] == [
        ("episode_0 (part 1)", "open", "open it", 2, True),
        ("episode_0 (part 2)", "push", "push it", 4, False),  # the last one has what is said of the episode
        ("episode_1", "reach the b", "reach the b", 4, False),
    ]
    assert list(reader.problems()) == []
    rows = [(0, 0, 2), (0, 2, 6), (1, 0, 4)]
    for record, (episode, first, last) in zip(reader.records, rows, strict=True):
        demo, expected = reader.demonstration(record), buffers[episode]
        assert np.array_equal(demo.actions, np.stack(expected.actions[first:last]))
        assert np.array_equal(demo.images["small"], np.stack(expected.observations["small"][first:last]))
        assert np.allclose(demo.state, np.stack(expected.observations["joints"][first:last]))
        assert not demo.problems(reader.layout)
    every = reader.images("small", np.arange(reader.frame_count))
    assert np.array_equal(np.stack(every[:6]), np.stack(buffers[0].observations["small"][:6]))
    # the seed says where the first part begins, not where the second does
    assert [record.attributes for record in reader.records] == [{"seed": 5}, {}, {"seed": 6}]
    whole = MinariReader(path, instruction="tidy up")
    assert [(r.name, r.instruction, len(r.actions)) for r in whole.records] == [
        ("episode_0", "tidy up", 6),
        ("episode_1", "tidy up", 4),
    ]


def test_instructions_of_the_infos(data):
    path, _ = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        for name, steps in zip(("episode_0", "episode_1"), SIZES, strict=True):
            del file[name]["observations/instruction"]
            write_texts(file[name], "infos/instruction", ["open it"] * 3 + ["push it"] * (steps - 2))
    reader = MinariReader(path)
    assert [(r.instruction, len(r.actions)) for r in reader.records] == [
        *(("open it", 3), ("push it", 3), ("open it", 3), ("push it", 1))
    ]


def test_a_text_of_the_infos_may_stand_for_the_whole_episode(data):
    path, _ = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        for name in ("episode_0", "episode_1"):
            del file[name]["observations/instruction"]
            write_texts(file[name], "infos/instruction", ["open it"])
    assert [(r.instruction, len(r.actions)) for r in MinariReader(path).records] == [("open it", 6), ("open it", 4)]


@pytest.mark.parametrize("data", [False], indirect=True, ids=["raw"])  # JPEG files have no other
def test_images_of_another_number_format_are_refused(data, tmp_path):
    """Made uint8 they would be black."""
    path, buffers = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        shape = file["episode_0/observations/small"].shape
        del file["episode_0/observations/small"]
        file["episode_0/observations/small"] = np.full(shape, 0.5, np.float32)
    reader = MinariReader(path)
    assert reader.demonstration(reader.records[0]).images["small"].dtype == np.float32
    with pytest.raises(DemoError, match=r"episode_0: images\['small'\] are float32"):
        convert(reader, tmp_path / "d.hdf5")


def test_success_of_several_entries_is_that_of_all(data):
    path, _ = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_0/infos/is_success"]
        file["episode_0/infos/is_success"] = np.zeros((SIZES[0] + 1, 1), bool)
    assert not MinariReader(path).records[0].success


def test_actions_of_a_dictionary_are_refused(data):
    path, _ = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        actions = file["episode_0/actions"][:]
        del file["episode_0/actions"]
        file["episode_0/actions/arm"] = actions
    with pytest.raises(DemoError, match="episode_0: actions are a dictionary or a tuple: give a data set of vectors"):
        MinariReader(path)


def test_several_observations_make_up_the_state(data):
    path, buffers = data
    reader = MinariReader(path, state=["joints", "joints"])
    assert (reader.layout.state, reader.layout.state_dim) == ("state", 10)
    expected = np.stack(buffers[0].observations["joints"][:-1])
    assert np.allclose(reader.records[0].state, np.concatenate([expected, expected], axis=1))


def test_what_is_asked_for(data):
    path, _ = data
    reader = MinariReader(path, instruction="reach it", task="reach", cameras=["small"])
    assert {(record.task, record.instruction) for record in reader.records} == {("reach", "reach it")}
    assert reader.layout.cameras == ("small",) and reader.layout.state is None
    with pytest.raises(DemoError, match="has no camera 'joints' in its observations: give some of front, small"):
        MinariReader(path, cameras=["joints"])
    with pytest.raises(DemoError, match="has no state 'front' in its observations: give some of joints"):
        MinariReader(path, state="front")


def test_actions_outside_the_action_space_are_named(data):
    path, _ = data
    metadata = path / "data" / "metadata.json"
    said = json.loads(metadata.read_text())
    space = json.loads(said["action_space"])
    assert space["type"] == "Box" and list(MinariReader(path).problems()) == []
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        file["episode_1/actions"][1, 2] = 1.01
    wrong = ["episode_1: actions lie outside the action_space of metadata.json"]
    assert list(MinariReader(path).problems()) == wrong
    for changes, problems in (({"high": [1, 1, 2]}, []), ({"high": [1, 1]}, None), ({"type": "Discrete"}, [])):
        metadata.write_text(json.dumps(said | {"action_space": json.dumps(space | changes)}))
        found = list(MinariReader(path).problems())
        assert found == problems if problems is not None else len(found) == len(SIZES)
    metadata.write_text(json.dumps(said | {"action_space": "["}))
    with pytest.raises(DemoError, match="metadata.json has an action_space that cannot be read"):
        MinariReader(path)


def test_complex_numbers_are_refused(data):
    path, _ = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        actions = file["episode_1/actions"][:]
        del file["episode_1/actions"]
        file["episode_1/actions"] = actions.astype(np.complex64)
    with pytest.raises(DemoError, match="reach-v0: episode_1: actions is complex64, expected float32"):
        MinariReader(path)


def test_what_cannot_be_read_is_refused(data, tmp_path):
    path, _ = data
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_1/observations/instruction"]
        file["episode_0/actions"][2, 0] = np.nan
    with pytest.raises(DemoError, match="episode_1 has no instruction: give one .*`rf-agent convert minari`"):
        MinariReader(path)
    (problem,) = MinariReader(path, instruction="reach").problems()
    assert problem == "episode_0: actions has NaN or infinite values"
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        file["episode_1/observations/link"] = h5py.ExternalLink("other.hdf5", "x")
    with pytest.raises(DemoError, match="episode_1/observations/link is a link, which is not followed"):
        MinariReader(path, instruction="reach")
    metadata = path / "data" / "metadata.json"
    said = json.loads(metadata.read_text())
    for changes, message in (
        ({"data_format": "arrow"}, "stored in the format 'arrow'"),
        ({"observation_space": "{}"}, "does not describe an observation_space"),
        ({"observation_space": json.dumps({"type": "Box", "shape": [3]})}, "observations that are no dictionary"),
    ):
        metadata.write_text(json.dumps(said | changes))
        with pytest.raises(DemoError, match=message):
            MinariReader(path)
    with pytest.raises(FileNotFoundError, match="metadata.json does not exist"):
        MinariReader(tmp_path / "nothing")
