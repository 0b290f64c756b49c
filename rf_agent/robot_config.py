"""The robot of a policy, as parts of its configuration: what an action is, and what is read of the robot's state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rf_agent.errors import ConfigError


@dataclass
class ActionConfig:
    """The robot's action, and how it becomes the numbers in [-1, 1] that the network predicts."""

    dim: int = 0
    """Entries of an action (D)."""
    gripper: int | None = None
    """The entry that opens (large) or closes (small) a gripper and is classified; None: all entries are regressed."""
    normalization: str = "none"
    """`none`: actions are numbers in [-1, 1] already, and a gripper opens above zero. `min_max`: `low` and `high` are
    the smallest and largest values in the demonstrations. `quantiles`: they are the 1 % and 99 % quantiles."""
    low: tuple[float, ...] = ()
    """With normalization: the values, in the environment's units, that -1 stands for."""
    high: tuple[float, ...] = ()
    """With normalization: the values that 1 stands for."""

    @property
    def regressed(self) -> tuple[int, ...]:
        """The entries that are regressed: all but the gripper."""
        return tuple(index for index in range(self.dim) if index != self.gripper)

    def check(self) -> None:
        """Raise ConfigError for values that do not fit together."""
        if self.gripper is not None and not 0 <= self.gripper < self.dim:
            raise ConfigError(f"action.gripper is {self.gripper}, but an action has {self.dim} entries, from 0 on.")
        if self.normalization not in ("none", "min_max", "quantiles"):
            raise ConfigError(
                f"action.normalization is {self.normalization!r}; choose 'none', 'min_max' or 'quantiles'."
            )
        wanted = 0 if self.normalization == "none" else self.dim
        if len(self.low) != wanted or len(self.high) != wanted:
            raise ConfigError(
                f"action.low and action.high have {len(self.low)} and {len(self.high)} values, but with normalization "
                f"{self.normalization!r} each has {wanted}."
            )
        for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(f"action.low[{index}] is {low} and action.high[{index}] is {high}: give a range.")


STATE_NORMALIZATIONS = ("none", "mean_std")


@dataclass
class StateConfig:
    """The robot's measured state in the observation, for heads with proprioception."""

    key: str = "state"
    """Its name in the observation."""
    dim: int = 0
    """Its entries; 0 where there is none."""
    entries: tuple[int, ...] = ()
    """The entries that are read as numbers."""
    angles: tuple[int, ...] = ()
    """Those of `entries` that are angles in radians: read as sine and cosine, as an angle jumps at a full turn."""
    binary: int | None = None
    """The entry that is read as above zero or not, such as the last gripper action."""
    normalization: str = "none"
    """`mean_std`: training fills `mean` and `std` from the demonstrations; `none`: numbers are read as they are."""
    mean: tuple[float, ...] = ()
    """Subtracted from the numbers that are read: the plain entries, the sines, the cosines. Empty: nothing is."""
    std: tuple[float, ...] = ()
    """What they are divided by then."""

    @property
    def numbers(self) -> int:
        """How many numbers `entries` make: an angle makes two."""
        return len(self.entries) + len(self.angles)

    def check(self) -> None:
        """Raise ConfigError for values that do not fit together."""
        for key, indices in (("entries", self.entries), ("binary", () if self.binary is None else (self.binary,))):
            for index in indices:
                if not 0 <= index < self.dim:
                    raise ConfigError(f"state.{key} names entry {index}, but a state has {self.dim}, from 0 on.")
        if self.dim < 0:
            raise ConfigError(f"state.dim is {self.dim}, but a state has 0 entries or more.")
        for key, indices in (("entries", self.entries), ("angles", self.angles)):
            if len(set(indices)) < len(indices):
                raise ConfigError(f"state.{key} is {list(indices)}: name every entry once.")
        if missing := set(self.angles) - set(self.entries):
            raise ConfigError(f"state.angles names entry {min(missing)}, which is not in state.entries: add it there.")
        if self.normalization not in STATE_NORMALIZATIONS:
            raise ConfigError(
                f"state.normalization is {self.normalization!r}: give one of {', '.join(STATE_NORMALIZATIONS)}."
            )
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, self.numbers):
            raise ConfigError(
                f"state.mean and state.std have {len(self.mean)} and {len(self.std)} values, but state.entries make "
                f"{self.numbers} numbers."
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < std < math.inf for std in self.std):
            raise ConfigError("state.mean and state.std are to be finite numbers, those of state.std above zero.")
