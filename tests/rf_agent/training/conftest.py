"""What the tests of training share."""

import pytest
import torch
from demo_files import make_store


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("demos") / "demos.hdf5")
