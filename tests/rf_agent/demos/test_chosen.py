"""Training on some of the demonstrations: those of some scenes, or a share of each task's."""

from collections import Counter

import pytest
from calvin_files import make_calvin
from demo_files import CALVIN, make_demo

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import open_demos
from rf_agent.demos.readers.chosen import choose
from rf_agent.demos.store import append_demos, create_store
from rf_agent.demos.windows import DemoSet
from rf_agent.presets import preset
from rf_agent.training.trainer import TrainConfig, train


def make_file(path, scenes, tasks=("open_drawer", "turn_on_led")):
    create_store(path, CALVIN, {"env_id": "test"})
    demos = []
    for index, scene in enumerate(scenes):
        demo = make_demo(7, 1, tasks[index % len(tasks)], index)
        demo.attributes["scene"] = scene
        demos.append(demo)
    append_demos(path, demos, CALVIN)
    return path


def test_scenes_are_chosen_from_files_and_folders_alike(tmp_path):
    readers = [open_demos(make_file(tmp_path / "a.hdf5", "ABCDAB")), open_demos(make_calvin(tmp_path / "calvin"))]
    ours, calvin = choose(readers, ("A", "calvin_scene_C"))
    assert sorted(record.attributes["scene"] for record in ours.records) == ["A", "A", "C"]
    assert len(choose(readers, ("D",))) == 1  # nothing of the folder is left
    assert calvin.records and {record.attributes["scene"] for record in calvin.records} == {"A"}


def test_what_cannot_be_chosen_is_named(tmp_path):
    path = make_file(tmp_path / "a.hdf5", "AB")
    with pytest.raises(DemoError, match="no demonstration is of scene D: give some of A, B"):
        choose([open_demos(path)], ("A", "D"))
    create_store(tmp_path / "b.hdf5", CALVIN, {"env_id": "test"})
    append_demos(tmp_path / "b.hdf5", [make_demo(7, 1, "open_drawer", 0)], CALVIN)
    with pytest.raises(DemoError, match=r"b\.hdf5 does not say the scenes of its demonstrations: leave out --scenes"):
        choose([open_demos(path), open_demos(tmp_path / "b.hdf5")], ("A",))
    for fraction in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="give more than 0 and at most 1"):
            choose([open_demos(path)], (), fraction)


def test_a_share_is_of_every_task_and_part_of_a_larger_one(tmp_path):
    paths = [make_file(tmp_path / f"{name}.hdf5", "A" * 20) for name in "ab"]

    def chosen(fraction, seed=0):
        readers = [open_demos(path) for path in paths]
        kept = choose(readers, (), fraction, seed)
        return {(reader.path.name, record.name): record.task for reader in kept for record in reader.records}

    tenth, half = chosen(0.1), chosen(0.5)
    assert Counter(tenth.values()) == {"open_drawer": 2, "turn_on_led": 2}
    assert Counter(half.values()) == {"open_drawer": 10, "turn_on_led": 10}
    assert set(tenth) < set(half) < set(chosen(1.0))
    assert tenth == chosen(0.1) and tenth != chosen(0.1, seed=1)
    assert len(chosen(0.001)) == 2  # one of each task
    assert len(chosen(0.55)) == 22 and len(chosen(0.15)) == 6  # 0.15 * 20 is a little less than 3


def test_images_are_those_of_the_chosen_demonstrations(tmp_path):
    (whole,) = readers = [open_demos(make_file(tmp_path / "a.hdf5", "ABABAB"))]
    (chosen,) = choose(readers, ("B",))
    config = preset("roboflamingo-test")
    everything, some = DemoSet(readers, config), DemoSet([chosen], config)
    assert some.frames.fingerprint(0) == everything.frames.fingerprint(0)  # encoded frames can be used again
    for record in chosen.records:
        wanted = whole.demonstration(next(other for other in whole.records if other.name == record.name))
        assert (chosen.demonstration(record).images["rgb_static"] == wanted.images["rgb_static"]).all()
        frames = some.frames.get(chosen.frame_rows(record))
        assert (frames[:, 0] == wanted.images["rgb_static"]).all()  # stored at the policy's size


def test_training_takes_what_was_chosen(tmp_path):
    path = make_file(tmp_path / "a.hdf5", "ABABABAB", ("open_drawer",) * 2 + ("turn_on_led",))
    settings = {"preset": "roboflamingo-test", "steps": 1, "batch_size": 2, "sequence_length": 6, "threads": 1}
    config = TrainConfig(
        demos=(path,), output=tmp_path / "run", scenes=("B",), device="cpu", validation_fraction=0.0, **settings
    )
    train(config)
    assert '"demonstrations": 4' in (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(DemoError, match="no demonstration is of scene D"):
        train(TrainConfig(demos=(path,), output=tmp_path / "other", scenes=("D",), device="cpu", **settings))
    assert not (tmp_path / "other").exists()
