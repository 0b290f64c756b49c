"""A file whose data lies in other files is refused: whoever wrote it must not choose what is read."""

import h5py
import numpy as np
import pytest
from demo_files import CALVIN, make_demo, make_store

from rf_agent.demos.checks import check_demos, inspect
from rf_agent.demos.files import DemoError, open_hdf5
from rf_agent.demos.readers import open_demos
from rf_agent.demos.store import append_demos, iterate_demos


def external_link(file, secret):
    del file["data/demo_0/obs/rgb_static"]
    file["data/demo_0/obs/rgb_static"] = h5py.ExternalLink(str(secret), "x")


def external_demo(file, secret):
    file["data/demo_9"] = h5py.ExternalLink(str(secret), "/")


def external_data(file, secret):
    file.move("data", "real")
    file["data"] = h5py.ExternalLink(str(secret), "/")


def soft_link(file, secret):
    file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = h5py.SoftLink("/elsewhere/x")


def virtual(file, secret):
    shape = file["data/demo_0/obs/rgb_static"].shape
    del file["data/demo_0/obs/rgb_static"]
    layout = h5py.VirtualLayout(shape, np.uint8)
    layout[:] = h5py.VirtualSource(str(secret), "x", shape)
    file.create_virtual_dataset("data/demo_0/obs/rgb_static", layout)


def external_storage(file, secret):
    dataset = file["data/demo_0/actions"]
    shape = dataset.shape
    del file["data/demo_0/actions"]
    file.create_dataset("data/demo_0/actions", shape, np.float32, external=[(str(secret), 0, 4 * int(np.prod(shape)))])


@pytest.mark.parametrize("harm", [external_link, external_demo, external_data, soft_link, virtual, external_storage])
def test_nothing_outside_the_file_is_read(tmp_path, harm):
    secret = tmp_path / "secret.hdf5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.full((100, 32, 32, 3), 7, np.uint8)
    path = make_store(tmp_path / "d.hdf5", demos=3)
    with h5py.File(path, "r+") as file:
        harm(file, secret)
    for function in (open_hdf5, open_demos, check_demos, inspect, lambda path: dict(iterate_demos(path))):
        with pytest.raises(DemoError, match="d.hdf5: .*, which is not followed: write its data into the file itself"):
            function(path)
    if harm in (external_demo, external_data):  # what writing would follow
        before = path.read_bytes()
        with pytest.raises(DemoError, match="which is not followed"):
            append_demos(path, [make_demo(5, 1, "open_drawer", 1)], CALVIN)
        assert path.read_bytes() == before


def test_a_circle_of_groups_has_an_end(tmp_path):
    path = make_store(tmp_path / "d.hdf5", demos=2)
    with h5py.File(path, "r+") as file:
        file["again"] = file["/"]
    assert len(open_demos(path).records) == 2
