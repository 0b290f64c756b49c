"""For all tests: one thread each, because pytest-xdist fills the cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
