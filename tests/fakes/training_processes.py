"""Processes that train together, as `torchrun` starts them, and that can be killed at once.

`torchrun` gives each of its processes a session of its own: whoever kills it leaves them running. Here they are
children of the test, forked from a server that has imported torch already.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from typing import Any

PRELOADED = ["rf_agent.training.trainer", "accelerate", "torch._dynamo", "torch.utils.tensorboard", "matplotlib.figure"]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(PRELOADED)


class Ranks:
    """The processes of one start of a run.

    Args:
        count: processes.
        settings: of `TrainConfig`.
    """

    def __init__(self, count: int, settings: dict[str, Any]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.processes = [CONTEXT.Process(target=_train, args=(rank, count, port, settings)) for rank in range(count)]
        for process in self.processes:
            process.start()

    @property
    def alive(self) -> bool:
        """Whether all of them still run."""
        return all(process.is_alive() for process in self.processes)

    def kill(self) -> bool:
        """End all of them by SIGKILL; returns whether they were running until then."""
        alive = self.alive
        for process in self.processes:
            process.kill()
        self._join()
        return alive

    def finish(self, seconds: float = 500) -> None:
        """Wait until all have ended well."""
        self._join(seconds)
        assert [process.exitcode for process in self.processes] == [0] * len(self.processes)

    def _join(self, seconds: float = 60) -> None:
        for process in self.processes:
            process.join(seconds)
            if process.is_alive():
                process.kill()


def _train(rank: int, count: int, port: int, settings: dict[str, Any]) -> None:
    from rf_agent.training.trainer import TrainConfig, train

    multiprocessing.set_start_method("fork", force=True)  # of the workers that read ahead, as where a run is started
    if count > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    train(TrainConfig(**settings))
