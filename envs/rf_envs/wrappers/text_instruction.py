"""The instruction as text."""

from __future__ import annotations

import string
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from rf_envs.spaces import INSTRUCTION_BYTES, decode_instruction

LETTERS = (
    string.digits
    + string.ascii_letters
    + string.punctuation
    + " \n\t"
    + "".join(map(chr, (*range(0xA0, 0x180), *range(0x2010, 0x2028))))
)
"""Printable ASCII, the Latin letters with accents, and what editors make of quotes, dashes and dots."""


class TextInstruction(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """Gives the instruction as text, in a `gymnasium.spaces.Text`, instead of as bytes.

    Stable-Baselines3 cannot carry text, nor can an `AsyncVectorEnv` with shared memory: keep the bytes there.

    Args:
        env: an environment of this package.
        charset: the characters that instructions may have; needed for scripts other than Latin.

    Examples:
        >>> env = TextInstruction(gym.make("rf_envs:rf/PlayTableD-v0"))
        >>> observation, info = env.reset(options={"task": "open_drawer", "instruction": "open the drawer"})
        >>> observation["instruction"]
        'open the drawer'
    """

    def __init__(self, env: gym.Env, charset: str = LETTERS):
        gym.utils.RecordConstructorArgs.__init__(self, charset=charset)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Dict) or "instruction" not in space.spaces:
            raise ValueError(
                f"TextInstruction needs observations with an 'instruction', got {type(space).__name__}; wrap "
                "an environment of rf_envs."
            )
        self._letters = frozenset(charset)
        text = spaces.Text(INSTRUCTION_BYTES, min_length=0, charset=charset)
        self.observation_space = spaces.Dict({**space.spaces, "instruction": text})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation with its instruction as a str.

        Raises:
            ValueError: the instruction has a character that is not in `charset`.
        """
        instruction = decode_instruction(observation["instruction"])
        foreign = [letter for letter in instruction if letter not in self._letters]
        if foreign:
            raise ValueError(
                f"The instruction {instruction!r} has {foreign[0]!r}, which is none of the characters of this "
                "TextInstruction; name them all with charset=."
            )
        return {**observation, "instruction": instruction}
