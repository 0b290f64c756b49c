"""What can act in an environment: a policy, the environment's own expert, or chance.

An agent is named by `--policy`: a checkpoint directory, the name of a bundled policy, `expert`, `random`, or
`package.module:factory` for any other object with `act` or `predict` (`rf_agent.evaluation.custom`).
"""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rf_agent.errors import UserError
from rf_agent.evaluation import custom

Observation = dict[str, np.ndarray]

NEVER = 1_000_000_000  # `render_every` of an agent that uses no image: the cameras draw at reset only


class Agent(Protocol):
    """Acts in one environment at a time."""

    render_every: int
    """How often it reads the cameras, in environment steps; images in between need not be drawn."""

    def reset(self, env: Any, seed: int) -> None:
        """A new episode of `env` begins; forget the last one."""

    def act(self, observation: Observation) -> np.ndarray:
        """The action (D,) for the newest observation."""


class ExpertAgent:
    """The environment's scripted demonstrator, which sees the simulator's state."""

    render_every = NEVER

    def reset(self, env: Any, seed: int) -> None:
        if not hasattr(env.unwrapped, "expert"):
            raise UserError(f"the environment {env.spec.id!r} has no expert: give another --policy")
        self._expert = env.unwrapped.expert()

    def act(self, observation: Observation) -> np.ndarray:
        return self._expert.act()


class RandomAgent:
    """Uniform actions in the environment's bounds, seeded by the episode: the floor that a policy should beat."""

    render_every = NEVER

    def reset(self, env: Any, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._space = None
        if not hasattr(env.action_space, "low"):  # such as discrete actions
            self._space = copy.deepcopy(env.action_space)
            self._space.seed(seed)
            return
        low, high = env.action_space.low, env.action_space.high
        # a space without bounds says nothing about what is usual
        self._bounds = np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0)

    def act(self, observation: Observation) -> np.ndarray:
        if self._space is not None:
            return self._space.sample()
        return self._rng.uniform(*self._bounds).astype(np.float32)


@dataclass(frozen=True)
class Execution:
    """How a policy acts. What is None is as in its checkpoint, as far as that fits what is given."""

    n_action_steps: int | None = None
    """Actions of a chunk that are carried out before the policy observes again."""
    repeat: int | None = None
    """Times that each is carried out."""
    ensemble: float | None = None
    """Observe at every step and average, see `rf_agent.config.HeadConfig`."""
    dtype: str = "float32"
    """Number format of the parameters."""
    compile: bool = False
    """Run the network through `torch.compile`."""

    def resolved(self, name: str) -> Execution:
        """With the values of the checkpoint `name` where none are given.

        Raises:
            UserError: the values do not fit together or do not fit the policy, or it has no network.
        """
        if not has_network(name):
            if self != Execution():
                raise UserError(
                    f"--policy {name} has no network of this project: leave --n-action-steps, --repeat, --ensemble, "
                    "--dtype and --compile out"
                )
            return self
        from rf_agent.checkpoint import read_config

        head = read_config(find_policy(name)).head
        # Averaging needs an observation at every step: what is given decides between the two.
        averages = self.ensemble is not None
        steps = self.n_action_steps if self.n_action_steps is not None else 1 if averages else head.n_action_steps
        repeat = self.repeat if self.repeat is not None else 1 if averages else head.repeat
        if not 1 <= steps <= head.chunk_size:
            raise UserError(
                f"--n-action-steps is {steps}, but the policy predicts {head.chunk_size} at once: "
                f"give 1 to {head.chunk_size}"
            )
        if repeat < 1:
            raise UserError(f"--repeat is {repeat}: give 1 or more")
        if self.ensemble is not None and not math.isfinite(self.ensemble):
            raise UserError(f"--ensemble is {self.ensemble}: give a finite number such as 0.01")
        if averages and steps * repeat > 1:
            raise UserError(
                f"--ensemble needs an observation at every step, but the policy would observe every {steps * repeat}: "
                "leave --n-action-steps and --repeat out"
            )
        ensemble = self.ensemble if averages else head.ensemble if steps * repeat == 1 else None
        return Execution(steps, repeat, ensemble, self.dtype, self.compile)

    def changes(self, name: str) -> dict[str, Any]:
        """What differs from how the checkpoint `name` acts by itself."""
        own = asdict(Execution().resolved(name))
        return {key: value for key, value in asdict(self.resolved(name)).items() if value != own[key]}


AS_TRAINED = Execution()

SCRIPTED: dict[str, Callable[[], Agent]] = {"expert": ExpertAgent, "random": RandomAgent}


def has_network(name: str) -> bool:
    """Whether `--policy NAME` means a checkpoint of ours."""
    return name not in SCRIPTED and not custom.is_factory(name)


def load_policy(name: str, device: str = "cpu", execution: Execution = AS_TRAINED, keep: bool = True) -> Any:
    """The policy of a checkpoint directory or bundled name, ready to act on `device`.

    Args:
        name: see `find_policy`. device, execution: how it acts.
        keep: keep it in memory, and give the same object to the next call, until its files change.

    Raises:
        UserError: there is no such directory or bundled policy, no such device, or it cannot act so.
    """
    if not keep:
        return _load(name, device, execution)
    files = sorted(file for file in find_policy(name).iterdir() if file.is_file())
    seen = tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _loaded(name, device, execution, seen)


@functools.lru_cache(maxsize=1)
def _loaded(name: str, device: str, execution: Execution, files: tuple[tuple[str, int, int], ...]) -> Any:
    return _load(name, device, execution)


def _load(name: str, device: str, execution: Execution) -> Any:
    from rf_agent.policies import load_policy as load

    chosen = execution.resolved(name)
    policy = load(find_policy(name), device, chosen.dtype, chosen.compile)
    if not policy.config.trained:
        warnings.warn(
            f"the policy {name!r} has not learned to act: train it with `rf-agent train --init {name}`", stacklevel=2
        )
    policy.set_execution(chosen.n_action_steps or 1, chosen.repeat or 1, chosen.ensemble)
    return policy


def find_policy(name: str) -> Path:
    """The checkpoint directory of a path or a bundled name.

    Raises:
        UserError: there is none.
    """
    from rf_agent.checkpoint_files import CheckpointError
    from rf_agent.presets import find_checkpoint

    try:
        return find_checkpoint(name)
    except CheckpointError as error:
        raise UserError(
            f"{str(error).rstrip('.')}; where an agent is enough, --policy also takes 'expert', 'random' and "
            "module:factory"
        ) from error


def load_agent(name: str, device: str = "cpu", execution: Execution = AS_TRAINED) -> Agent:
    """The agent that `--policy NAME` means; the network of a checkpoint is that of the last call with the same name."""
    if name in SCRIPTED:
        return SCRIPTED[name]()
    if custom.is_factory(name):
        return custom.as_agent(custom.make(name))
    return custom.as_agent(load_policy(name, device, execution))


def pick_device(name: str, device: str) -> str:
    """The device on which the agent `name` computes; see `rf_agent.devices.resolve_device`.

    Raises:
        UserError: there is no such device, or no network that could compute there.
    """
    if not has_network(name):
        if device not in ("auto", "cpu"):
            raise UserError(f"--policy {name} has no network of this project: leave --device out")
        return "cpu"
    if device == "cpu":
        return "cpu"
    from rf_agent.devices import resolve_device

    return str(resolve_device(device))


def trained_tasks(name: str) -> tuple[str, ...]:
    """The tasks that a checkpoint says it was trained on; none for scripted agents and where it does not say."""
    if not has_network(name):
        return ()
    from rf_agent.checkpoint import read_config

    return read_config(find_policy(name)).tasks


def checkpoint_bytes(name: str) -> int:
    """Size of the weights of a checkpoint; 0 for agents without a network of ours."""
    return sum(file.stat().st_size for file in find_policy(name).glob("*.safetensors")) if has_network(name) else 0


def fingerprint(name: str) -> str:
    """Digest of a checkpoint's files, so that results of different weights are not mixed.

    Raises:
        UserError: there is no such policy, or its directory is no checkpoint.
    """
    if name in SCRIPTED:
        return name
    if custom.is_factory(name):
        return custom.fingerprint(name)
    from rf_agent.checkpoint import read_config

    digest = hashlib.sha256()
    directory = find_policy(name)
    read_config(directory)  # a directory that is no checkpoint is refused here
    for file in sorted(directory.glob("*.json")) + sorted(directory.glob("*.safetensors")):
        with file.open("rb") as stream:
            for block in iter(functools.partial(stream.read, 1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()[:16]
