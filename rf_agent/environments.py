"""Gymnasium environments by id, kept by an owner who closes them."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from rf_agent.modules import import_module


class Environments:
    """The environments of one process: each is made on first use, kept for later, and closed with this object.

    Examples:
        >>> with Environments() as environments:
        ...     env = environments.get("rf/PlayTableD-v0", render_every=3)
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def get(self, env_id: str, **kwargs: Any) -> Any:
        """The environment of that id and these keyword arguments.

        Args:
            env_id: a Gymnasium id. `rf/...` finds rf_envs by itself, others may name their module as `module:id`, which
                may lie in the present folder.

        Raises:
            ImportError: where Gymnasium, the package of the environments or their simulator is not installed.
            ValueError: for an unknown id, or one that does not take these arguments.
        """
        key = f"{env_id} {sorted(kwargs.items())}"
        if key not in self._made:
            self._made[key] = _make(env_id, kwargs)
        return self._made[key]

    def close(self) -> None:
        """Close all of them. They are made again when they are asked for."""
        while self._made:
            self._made.popitem()[1].close()

    def __enter__(self) -> Environments:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def instructed(observation: Any, info: dict[str, Any], asked: str | None = None) -> Any:
    """The observation with the instruction that a policy reads: what is `asked` in place of the environment's own
    words, or these, also where the environment says them in `info` alone."""
    if not isinstance(observation, dict):
        return observation
    if asked is None and ("instruction" in observation or "instruction" not in info):
        return observation
    return {**observation, "instruction": info["instruction"] if asked is None else asked}


def camera_images(observation: Any) -> list[Any]:
    """The colour images of an observation, uint8 (H, W, 3); none if it is no dictionary of them."""
    values = observation.values() if isinstance(observation, dict) else ()
    return [value for value in values if np.shape(value)[2:] == (3,) and np.asarray(value).dtype == np.uint8]


def is_ours(env_id: str) -> bool:
    """Whether an id is one of the environments of this project, and so takes their keyword arguments."""
    return env_id.rpartition(":")[2].startswith("rf/")


def plays_chains(env: Any) -> bool:
    """Whether the episodes of one of our environments are chains of tasks."""
    return "chain" in getattr(env.unwrapped, "reset_options", ())


def check_registered(env_id: str) -> None:
    """Refuse an id that means no environment, without making one.

    Raises:
        ImportError: where Gymnasium or the package of the environment is not installed.
        ValueError: there is no such environment.
    """
    with _explained(env_id):
        import gymnasium
        from gymnasium.envs.registration import find_highest_version, parse_env_id

        name = _import_registering_module(env_id)
        namespace, base, version = parse_env_id(name)
        if version is not None or find_highest_version(namespace, base) is None:
            gymnasium.spec(name)


def with_scene(env_id: str, scene: str) -> str:
    """The id under which an environment is registered with another `scene`; the same id if there is none."""
    from gymnasium import registry
    from gymnasium.envs.registration import find_highest_version, get_env_id, parse_env_id

    namespace, base, version = parse_env_id(_import_registering_module(env_id))
    if version is None:
        version = find_highest_version(namespace, base)
    spec = registry.get(get_env_id(namespace, base, version))
    if spec is None:
        return env_id
    kwargs = {**spec.kwargs, "scene": scene}
    found = (key for key, other in registry.items() if (other.entry_point, other.kwargs) == (spec.entry_point, kwargs))
    return next(found, env_id)


def _make(env_id: str, kwargs: dict[str, Any]) -> Any:
    with _explained(env_id):
        import gymnasium

        try:
            return gymnasium.make(_import_registering_module(env_id), disable_env_checker=True, **kwargs)
        except TypeError as error:
            reason = str(error).partition(" was raised from ")[0]
            unknown = re.search(r"unexpected keyword argument '(\w+)'", reason)
            given = unknown[1] if unknown else ", ".join(kwargs)
            known = _arguments(env_id) if unknown else []
            if known:
                reason += f"; it takes {', '.join(known)}"
            raise ValueError(f"the environment {env_id!r} cannot be made with {given}: {reason}") from error


def _arguments(env_id: str) -> list[str]:
    """Names of the keyword arguments that an environment takes; empty where its class does not say all of them."""
    from gymnasium import spec
    from gymnasium.envs.registration import load_env_creator

    entry = spec(_import_registering_module(env_id)).entry_point
    made = load_env_creator(entry) if isinstance(entry, str) else entry
    names: dict[str, None] = {}
    kinds: tuple[type, ...] = inspect.getmro(made) if inspect.isclass(made) else ()
    for kind in kinds:
        constructor = vars(kind).get("__init__")
        if constructor is None:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        names |= {p.name: None for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):  # else more are handed on
            return sorted(names)
    return []


def _with_module(env_id: str) -> str:
    return f"rf_envs:{env_id}" if env_id.startswith("rf/") else env_id


def _import_registering_module(env_id: str) -> str:
    """Import the module that an id names, and return the id without it."""
    module, _, name = _with_module(env_id).rpartition(":")
    if module:
        import_module(module)
    return name


@contextlib.contextmanager
def _explained(env_id: str) -> Iterator[None]:
    """Gymnasium's errors about an id, in one sentence that says what to do."""
    try:
        import gymnasium

        yield
    except ModuleNotFoundError as error:
        way_out = (
            "install this project with its environments, `pip install -e .`"
            if is_ours(env_id)
            else "install it, or run this in the folder of that module"
        )
        raise ImportError(
            f"the environment {env_id!r} needs a package that is not installed ({error}): {way_out}"
        ) from error
    except gymnasium.error.Error as error:
        known = ", ".join(name for name in gymnasium.registry if name.startswith("rf/")) or "rf/PlayTableD-v0"
        text = str(error).rstrip(".?")
        raise ValueError(f"cannot make the environment {env_id!r}: {text}; this project's are {known}") from error
