"""What the tests of the environments share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_simulator import FakeSimulator

from rf_envs.chain import ChainEnv
from rf_envs.table import TableEnv

# CALVIN's own data lies beside the clone where the project's tests run, but not in it
SHARED = Path(__file__).parents[3] / "shared" / "calvin"


@pytest.fixture
def calvin_file() -> Callable[[str], Path]:
    """Finds one of CALVIN's own data files, or skips the comparison with it."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"{name} of CALVIN is not beside the clone; checksums stand in for it")
        return path

    return find


@pytest.fixture
def simulator() -> FakeSimulator:
    return FakeSimulator()


@pytest.fixture
def make_env(simulator: FakeSimulator) -> Iterator[Callable[..., TableEnv]]:
    """Makes environments on the fake simulator."""
    made: list[TableEnv] = []

    def make(kind: type[TableEnv] = TableEnv, **arguments: Any) -> TableEnv:
        made.append(kind(simulator=lambda scene: simulator, image_size=(64, 48), **arguments))
        return made[-1]

    yield make
    for env in made:
        env.close()


@pytest.fixture
def env(make_env: Callable[..., TableEnv]) -> TableEnv:
    return make_env()


@pytest.fixture
def chain_env(make_env: Callable[..., TableEnv]) -> TableEnv:
    return make_env(ChainEnv)
