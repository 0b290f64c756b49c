"""Language-conditioned manipulation environments on CALVIN's play table. Importing registers their ids."""

from functools import partial

import gymnasium as gym

from rf_envs.benchmark.chains import chains
from rf_envs.benchmark.tasks import TASKS
from rf_envs.chain import ChainEnv
from rf_envs.expert import Expert
from rf_envs.random_table import RandomTableEnv
from rf_envs.scenes import SCENES
from rf_envs.table import TableEnv
from rf_envs.wrappers import AbsoluteActions, LeRobotObservation, TextInstruction

__all__ = [
    "TASKS",
    "AbsoluteActions",
    "ChainEnv",
    "Expert",
    "LeRobotObservation",
    "RandomTableEnv",
    "TableEnv",
    "TextInstruction",
    "chains",
]

# Gymnasium's checker of every step gives up for good when the first reset is refused, as after a mistyped task: each
# step then raises a TypeError. The tests run its `check_env` on all of these.
_register = partial(gym.register, disable_env_checker=True)
for _scene in SCENES:
    _register(f"rf/PlayTable{_scene}-v0", "rf_envs.table:TableEnv", kwargs={"scene": _scene})
    _register(f"rf/PlayTableChain{_scene}-v0", "rf_envs.chain:ChainEnv", kwargs={"scene": _scene})
    _register(f"rf/Calvin{_scene}-v0", "rf_envs.calvin:CalvinEnv", kwargs={"scene": _scene})
    _register(f"rf/CalvinChain{_scene}-v0", "rf_envs.calvin:CalvinChainEnv", kwargs={"scene": _scene})
_register("rf/PlayTableRandom-v0", "rf_envs.random_table:RandomTableEnv")
