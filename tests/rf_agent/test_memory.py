"""Memory that a process frees and needs again."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from rf_agent.memory import keep_freed_memory, return_freed_memory

torch.set_num_threads(1)
# tensors of 40 MB, which glibc hands back at once whatever it has learned of the program
model = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU()) for _ in range(2)))

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        model(torch.ones(40_000, 256)).square().mean().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))

def steady():
    # the least of some rounds: the first ones still find out how much memory a round needs at once
    return min(new_pages() for _ in range(5))

print(steady(), keep_freed_memory(), steady())
before = held()
return_freed_memory()
print(before - held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_freed_memory_is_not_asked_for_again():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert not result.returncode, result.stderr
    without, kept, later, returned = result.stdout.split()
    assert kept == "True"
    assert int(later) < int(without) / 10
    assert int(returned) > 50_000  # KiB, of the 500 MB or so that are kept
