"""Vision tokens are computed once, when they are first needed, and found again by the next run."""

import shutil

import h5py
import numpy as np
import pytest
import torch
from demo_files import make_store

from rf_agent.demos.windows import DemoSet
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.robot import open_all
from rf_agent.training.trainer import TrainConfig, train
from rf_agent.training.vision_cache import BLOCK, FOLDER, VisionCache, cache_key, has_room, kept_tokens


def test_each_block_is_encoded_once(tmp_path):
    seen = []

    def encode(rows):
        seen.append(rows.tolist())
        return rows[:, None, None, None].float().expand(-1, 2, 1, 3) / 3

    cache = VisionCache(tmp_path / "c", (100, 170), (2, 1, 3), encode)
    rows = np.array([169, 103, 168])
    tokens = cache.get(rows)
    assert tokens.dtype == torch.float16
    np.testing.assert_allclose(tokens[:, 0, 0, 0], rows / 3, rtol=1e-3)
    assert seen == [list(range(100, 100 + BLOCK)), list(range(164, 170))]
    cache.get(rows)
    assert len(seen) == 2 and cache.share == pytest.approx(2 / 3)
    cache.save()
    again = VisionCache(tmp_path / "c", (100, 170), (2, 1, 3), encode)
    assert torch.equal(again.get(rows), tokens) and len(seen) == 2


def test_the_next_run_on_the_same_data_and_tower_encodes_nothing(tmp_path, monkeypatch):
    demos = make_store(tmp_path / "d.hdf5")

    def run(name, **changes):
        settings = {"steps": 4, "batch_size": 3, "sequence_length": 6, "validation_fraction": 0.3, "threads": 1}
        settings |= {"demos": (demos,)}
        config = TrainConfig(output=tmp_path / name, preset="roboflamingo-test", device="cpu", **settings | changes)
        return train(config)

    start = str(run("start").output)  # the tower learns: nothing is kept
    assert not (tmp_path / FOLDER).exists()
    first = run("first", init=start, steps=30)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    monkeypatch.setattr(RoboFlamingoPolicy, "encode_vision", lambda *_: pytest.fail("it was encoded again"))
    second = run("second", init=start, steps=30)
    assert first.scalars == second.scalars
    monkeypatch.undo()
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    more = run("more", init=start, steps=30, demos=(demos, make_store(tmp_path / "e.hdf5", demos=5)))
    assert len(list((tmp_path / FOLDER).iterdir())) == 2 and np.isfinite(more.scalars["loss"])


def test_rows_of_several_files_come_back_in_their_order(tmp_path):
    def encode(rows):
        return rows[:, None].float()

    caches = [VisionCache(tmp_path / name, rows, (1,), encode) for name, rows in (("a", (0, 40)), ("b", (40, 50)))]
    rows = np.array([41, 3, 39, 49, 0])
    assert kept_tokens(caches, rows)[:, 0].tolist() == rows.tolist()


def test_a_disk_without_room_is_not_filled(tmp_path):
    assert has_room([tmp_path / "not" / "there"], 1000) and not has_room([tmp_path / "new"], 2**60)
    (tmp_path / "mine").mkdir(), (tmp_path / "other").mkdir()
    for name in ("mine", "other"):
        (tmp_path / name / "tokens.float16").write_bytes(bytes(2**20))
    room = int(0.5 * shutil.disk_usage(tmp_path).free)
    assert has_room([tmp_path / "mine"], room + 2**19) and not has_room([tmp_path / "new"], room + 2**30)


def test_a_record_without_its_tokens_is_not_believed(tmp_path):
    def encode(rows):
        return rows[:, None].float()

    cache = VisionCache(tmp_path, (0, BLOCK), (1,), encode)
    cache.get(np.array([3])), cache.close()
    (tmp_path / "tokens.float16").unlink()
    again = VisionCache(tmp_path, (0, BLOCK), (1,), encode)
    assert again.share == 0 and again.get(np.array([3])).item() == 3


def test_an_empty_record_is_no_record(tmp_path):
    def encode(rows):
        return rows[:, None].float()

    cache = VisionCache(tmp_path, (0, BLOCK), (1,), encode)
    cache.get(np.array([3])), cache.close()
    (tmp_path / "blocks.npy").write_bytes(b"")  # as after a power cut
    again = VisionCache(tmp_path, (0, BLOCK), (1,), encode)
    assert again.share == 0 and again.get(np.array([3])).item() == 3


def test_two_runs_may_share_a_cache(tmp_path):
    def encode(rows):
        return rows[:, None].float()

    first, second = (VisionCache(tmp_path, (0, 2 * BLOCK), (1,), encode) for _ in range(2))
    first.get(np.array([1]))
    second.get(np.array([BLOCK + 1]))
    third = VisionCache(tmp_path, (0, 2 * BLOCK), (1,), encode)  # neither of them has recorded anything yet
    assert third.share == 0 and first.get(np.array([1])).item() == 1
    first.save(), second.save()
    last = VisionCache(tmp_path, (0, 2 * BLOCK), (1,), lambda rows: pytest.fail("it was encoded again"))
    assert last.share == 1 and last.get(np.array([1, BLOCK + 1]))[:, 0].tolist() == [1, BLOCK + 1]


def test_the_name_of_a_cache_tells_data_and_towers_apart(tmp_path):
    base = RoboFlamingoPolicy.from_preset("roboflamingo-test", seed=0)
    first, copy, other = tmp_path / "a.hdf5", tmp_path / "copy.hdf5", tmp_path / "b.hdf5"
    make_store(first)
    shutil.copy(first, copy)
    make_store(other)
    with h5py.File(other, "r+") as file:  # the same actions, other images
        for demo in file["data"].values():
            demo["obs/rgb_static"][:] = 255 - demo["obs/rgb_static"][:]

    def key(policy, path=first):
        frames = DemoSet(open_all([path]), policy.config).frames
        return cache_key(frames.fingerprint(0), policy.vlm.vision_encoder, policy.config)

    others = [
        key(base, other),
        key(RoboFlamingoPolicy.from_preset("roboflamingo-test", seed=1)),
        key(RoboFlamingoPolicy.from_preset("roboflamingo-test", seed=0, changes=["vision.model.num_groups=2"])),
        key(RoboFlamingoPolicy.from_preset("roboflamingo-test", seed=0, changes=["image.mean=[0,0,0]"])),
    ]
    same = RoboFlamingoPolicy.from_preset("roboflamingo-test", seed=0)
    assert key(base) == key(same) == key(same, copy)
    assert len({key(base), *others}) == 5
