"""Packed demonstrations: images lose a little, nothing else does, and every reader reads them."""

import json
import re
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from demo_files import CALVIN, make_demo, make_store

from rf_agent.cli import main
from rf_agent.demos import read_demonstrations
from rf_agent.demos.checks import check_demos, inspect
from rf_agent.demos.clips import KEY_FRAMES, encode_clip, read_all, read_images, write_clip
from rf_agent.demos.contact_sheet import contact_sheet
from rf_agent.demos.files import DemoError
from rf_agent.demos.pack import pack
from rf_agent.demos.readers import open_demos
from rf_agent.demos.store import append_demos, create_store
from rf_agent.errors import MissingPackageError
from rf_agent.preprocess import resize
from rf_agent.training.callbacks import Callback
from rf_agent.training.trainer import TrainConfig, train

STRIDED = replace(CALVIN, frame_stride=3)
ERROR = 4.0
"""Largest mean error of an image below, of 255."""


def scenes(count, height, width, seed=0):
    """Images (F, H, W, 3) of a square that moves over a ramp of colours, each a little brighter than the last."""
    rows, columns = np.mgrid[:height, :width]
    base = np.stack([rows * 120 / height, columns * 120 / width, np.full((height, width), 20 + 10.0 * seed)], -1)
    images = np.stack([base + 100 * number / count for number in range(count)]).astype(np.uint8)
    for number, image in enumerate(images):
        at = number % max(1, width - width // 4)
        image[: height // 3, at : at + width // 4] = (220, 40, 40)
    return images


def strided(path, seeds, success=True):
    """A store with an image at every third step, and everything that a demonstration may have."""
    create_store(path, STRIDED, {"env_name": "test", "renderer": "tiny", "seed": seeds[0]})
    for seed in seeds:
        demo, rng = make_demo(20 + seed, 3, "open_drawer", seed), np.random.default_rng(seed)
        demo.images = {camera: scenes(-(-(20 + seed) // 3), 40, 40, seed) for camera in STRIDED.cameras}
        demo.actions_executed = rng.uniform(-1, 1, demo.actions.shape).astype(np.float32)
        demo.start = {"robot_obs": rng.normal(size=15)}
        demo.attributes |= {"scene": "D", "noise_level": 0.1 * seed, "attempt": 2}
        demo.success = success and seed != 2
        append_demos(path, [demo], STRIDED)
    return path


def convert(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        main(["convert", "pack", *map(str, words)])
    return stop.value.code, *capfd.readouterr()


def mean_error(images, others):
    return np.abs(np.asarray(images).astype(int) - others).mean(axis=(-1, -2, -3)).max()


def same_but_for_images(one, other):
    assert (one.task, one.instruction, one.success) == (other.task, other.instruction, other.success)
    assert one.attributes == other.attributes and one.start.keys() == other.start.keys()
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("actions", "actions_executed", "state")]
    for first, second in [*pairs, *((one.start[key], other.start[key]) for key in one.start)]:
        assert np.array_equal(first, second) and getattr(first, "dtype", None) == getattr(second, "dtype", None)


def test_several_files_become_one_that_is_much_smaller(tmp_path, capfd):
    sources = strided(tmp_path / "a.hdf5", (1, 3)), strided(tmp_path / "b.hdf5", (2, 4))
    output = tmp_path / "new" / "packed.hdf5"
    code, out, err = convert(capfd, *sources, "--output", output)
    assert code == 0 and "4/4 demonstrations" in out and not err
    before = sorted((d for p in sources for d in read_demonstrations(p)), key=lambda demo: demo.attributes["seed"])
    after, reader = read_demonstrations(output), open_demos(output)
    assert len(after) == 4 and check_demos(output) == reader.layout == STRIDED
    for one, other, record in zip(before, after, reader.records, strict=True):
        same_but_for_images(one, other)
        same_but_for_images(one, reader.demonstration(record))
        rows = reader.frame_rows(record)[::-1]
        for camera, images in one.images.items():
            assert other.images[camera].shape == images.shape and other.images[camera].dtype == np.uint8
            assert mean_error(other.images[camera], images) < ERROR
            backwards = reader.images(camera, rows)
            assert np.array_equal(backwards[::-1], other.images[camera]) and backwards[0].flags.c_contiguous
    summary = inspect(output)
    assert not summary.problems and summary.failures == 1
    kept = {"env_name": "test", "renderer": "tiny", "packed_from": ["a.hdf5", "b.hdf5"], "image_codec": "h264"}
    assert kept.items() <= summary.env_args.items() and "seed" not in summary.env_args  # the files differ in it
    assert contact_sheet(reader).width > 300
    assert [path.name for path in output.parent.iterdir()] == ["packed.hdf5"]


def test_it_is_much_smaller(tmp_path):
    """Images as noisy as those of a renderer, which gzip makes little of."""
    rng, layout = np.random.default_rng(0), replace(CALVIN, state=None, state_dim=0)
    demo = make_demo(24, 1, "open_drawer", 0)
    images = (scenes(24, 96, 96) + rng.integers(0, 6, (24, 96, 96, 3))).astype(np.uint8)
    demo.images = {camera: images for camera in CALVIN.cameras}
    create_store(tmp_path / "d.hdf5", layout, {})
    append_demos(tmp_path / "d.hdf5", [demo], layout)
    sizes = [pack([tmp_path / "d.hdf5"], tmp_path / f"{q}.hdf5", quality=q).stat().st_size for q in (14, 30)]
    assert (tmp_path / "d.hdf5").stat().st_size > 8 * sizes[0] and sizes[0] > sizes[1]
    (packed,) = read_demonstrations(tmp_path / "14.hdf5")
    assert mean_error(packed.images["rgb_static"], demo.images["rgb_static"]) < ERROR


@pytest.mark.parametrize("size", [(1, 1), (13, 9), (40, 64)])
def test_any_image_of_a_long_clip_of_any_size(tmp_path, size):
    images = scenes(2 * KEY_FRAMES + 20, *size)
    with h5py.File(tmp_path / "d.hdf5", "w") as file:
        write_clip(file, "front", encode_clip(images), images.shape)
        whole = read_all(file["front"])
        assert whole.shape == images.shape and whole.dtype == np.uint8 and mean_error(whole, images) < ERROR
        numbers = np.array([70, 3, 3, KEY_FRAMES, 83, 0, KEY_FRAMES - 1, 40])
        for number, image in zip(numbers, read_images(file["front"], numbers), strict=True):
            assert np.array_equal(image, whole[number])
        for number in range(len(images)):  # one alone is found from the key frame before it
            assert np.array_equal(read_images(file["front"], np.array([number]))[0], whole[number])


def test_a_file_of_robomimic_at_the_size_of_a_policy(tmp_path):
    source, rng = tmp_path / "lift.hdf5", np.random.default_rng(0)
    with h5py.File(source, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for index in range(2):
            group = file.create_group(f"data/demo_{index}")
            group["actions"], group["obs/pos"] = rng.uniform(-1, 1, (9, 7)).astype(np.float32), rng.random((9, 3))
            group["obs/front"], group["obs/wrist"] = scenes(9, 60, 80, index), scenes(9, 33, 33, index)
            group.attrs.update(num_samples=9, task="lift", instruction="lift the cube")
    reader = open_demos(pack([source], tmp_path / "packed.hdf5", image_size=24))
    before = open_demos(source)
    assert set(reader.layout.cameras) == {"front", "wrist"} and reader.layout == before.layout
    assert not reader.layout.gripper_known and not list(reader.problems())
    for record, old in zip(reader.records, before.records, strict=True):
        same_but_for_images(before.demonstration(old), reader.demonstration(record))
        for camera in ("front", "wrist"):
            packed = reader.images(camera, reader.frame_rows(record))
            assert {image.shape for image in packed} == {(24, 24, 3)}
            assert mean_error(packed, [resize(i, 24) for i in before.images(camera, before.frame_rows(old))]) < 5
    assert inspect(reader.path).env_args["env_name"] == "Lift"


class Losses(Callback):
    def __init__(self):
        self.losses = []

    def on_step(self, step, metrics):
        self.losses.append(float(metrics["loss"]))


SMALL = {"preset": "roboflamingo-test", "steps": 2, "batch_size": 2, "sequence_length": 6, "threads": 1}
SMALL |= {"device": "cpu", "evaluations": 1, "validation_fraction": 0}


def damage(path, name):
    """Change a byte within an image of a demonstration."""
    with h5py.File(path, "r+") as file:
        dataset = file[f"data/{name}/obs/rgb_static"]
        dataset[len(dataset) // 2] ^= 255


@pytest.mark.parametrize("workers", [0, 1])
def test_it_trains(tmp_path, workers):
    path = pack([make_store(tmp_path / "d.hdf5", demos=3)], tmp_path / "packed.hdf5")
    said = Losses()
    train(TrainConfig(demos=(path,), output=tmp_path / "run", workers=workers, **SMALL), callbacks=[said])
    assert len(said.losses) == 2 and np.isfinite(said.losses).all() and min(said.losses) > 0


def test_a_damaged_image_is_named(tmp_path):
    path = pack([make_store(tmp_path / "d.hdf5", demos=3)], tmp_path / "packed.hdf5")
    for name in ("demo_0", "demo_1", "demo_2"):
        damage(path, name)
    reader = open_demos(path)
    (record,) = [record for record in reader.records if record.name == "demo_1"]
    rows = reader.frame_rows(record)
    assert len(reader.images("rgb_gripper", rows)) == len(rows)  # the other camera is whole
    with pytest.raises(DemoError, match="packed.hdf5: demo_1 cannot be read.* damaged: delete that demonstration"):
        reader.images("rgb_static", rows)
    with pytest.raises(DemoError, match="packed.hdf5: demo_[012] cannot be read.* damaged"):
        train(TrainConfig(demos=(path,), output=tmp_path / "run", workers=0, **SMALL))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codec": "av2"}, "packed.hdf5: /data/demo_0/obs/rgb_static is a clip of codec 'av2', expected 'h264'"),
        ({"shape": np.array([7, 16, 32, 3])}, "packed.hdf5: demo_0 cannot be read"),
        ({"shape": np.array([9, 32, 32, 3])}, r"demo_0: obs/rgb_static is uint8 \(9, 32, 32, 3\), expected .*\(7, H"),
    ],
)
def test_a_clip_that_is_not_what_it_says(tmp_path, change, message):
    path = pack([make_store(tmp_path / "d.hdf5", demos=1)], tmp_path / "packed.hdf5")
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/rgb_static"].attrs.update(change)
    with pytest.raises(DemoError, match=message):
        check_demos(path)
        read_demonstrations(path)


def test_what_cannot_be_packed_is_refused(tmp_path, capfd):
    whole, output = make_store(tmp_path / "d.hdf5", demos=2), tmp_path / "packed.hdf5"
    others = strided(tmp_path / "strided.hdf5", (1,))
    failed = strided(tmp_path / "failed.hdf5", (1,), success=False)
    (tmp_path / "text.hdf5").write_text("no HDF5")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for words, message in (
        ((whole, others), "strided.hdf5 has frame_stride 3, but .*d.hdf5 has 1: pack demonstrations of one robot"),
        ((failed,), "none of the demonstrations in .*failed.hdf5 succeeded"),
        ((whole, whole), "d.hdf5 is given twice"),
        ((), "no demonstrations were given"),
        ((whole, tmp_path / "none.hdf5"), "none.hdf5 does not exist"),
        ((whole, tmp_path / "text.hdf5"), "text.hdf5 is truncated or not an HDF5 file"),
        ((whole, "--quality", "52"), r"quality is 52: give 0 \(best\) to 51"),
        ((whole, "--image-size", "0"), "the image size is 0"),
    ):
        code, _, err = convert(capfd, *words, "--output", output)
        assert code == 1, words
        assert len(err.splitlines()) == 1 and re.search(message, err), err
    code, _, err = convert(capfd, whole, "--output", failed)
    assert code == 1 and "failed.hdf5 exists: give another name, or --overwrite" in err
    code, _, err = convert(capfd, whole, "--output", whole, "--overwrite")
    assert code == 1 and "d.hdf5 is a source and the output" in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    code, _, _ = convert(capfd, whole, "--output", failed, "--overwrite")
    assert code == 0 and len(read_demonstrations(failed)) == 2


def test_a_full_disk_leaves_nothing(tmp_path, capfd):
    """Files cannot grow beyond a limit, which the system answers as it answers a full disk."""
    resource = pytest.importorskip("resource")
    source, output = make_store(tmp_path / "d.hdf5"), tmp_path / "out" / "packed.hdf5"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        code, _, err = convert(capfd, source, "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and f"the disk has no room for {output}: nothing was kept" in err
    assert list(output.parent.iterdir()) == []


def test_without_pyav_it_says_what_to_install(tmp_path, monkeypatch):
    source = make_store(tmp_path / "d.hdf5", demos=1)
    path = pack([source], tmp_path / "packed.hdf5")
    monkeypatch.setitem(sys.modules, "av", None)
    for function in (lambda: pack([source], tmp_path / "other.hdf5"), lambda: read_demonstrations(path)):
        with pytest.raises(MissingPackageError, match=r"needs the package 'av': install it with .*agent\[data\]"):
            function()
    assert not (tmp_path / "other.hdf5").exists() and check_demos(path) == CALVIN
