"""Language-conditioned manipulation environments on CALVIN's play table. Importing registers their ids."""

import gymnasium as gym

from rf_envs.expert import Expert
from rf_envs.sequences import chains
from rf_envs.tasks import TASKS
from rf_envs.wrappers import TextInstruction

__all__ = ["TASKS", "Expert", "TextInstruction", "chains"]

REGISTERED_SCENES = ("D",)
"""The scenes that have environment ids so far."""

for _scene in REGISTERED_SCENES:
    gym.register(f"rf/PlayTable{_scene}-v0", "rf_envs.table:TableEnv", kwargs={"scene": _scene})
    gym.register(f"rf/PlayTableChain{_scene}-v0", "rf_envs.chain:ChainEnv", kwargs={"scene": _scene})
