"""CALVIN's long-horizon benchmark as a Gymnasium environment: five tasks in a row."""

from __future__ import annotations

from typing import Any, ClassVar

from rf_envs.benchmark.chains import CHAIN_LENGTH, NUM_CHAINS, Chain, chain, initial_state
from rf_envs.benchmark.start_states import restore
from rf_envs.benchmark.tasks import is_done
from rf_envs.errors import check_choice
from rf_envs.scenes import SCENES
from rf_envs.simulators.base import Simulator
from rf_envs.table import Observation, TableEnv


class ChainEnv(TableEnv):
    """A Franka Panda at CALVIN's play table, asked in words to do five tasks one after the other.

    Each sub-task gives reward 1 on the step that fulfils it, and the next one is asked for on that same step:
    its instruction is in the observation returned. The episode terminates after the fifth and is truncated
    when a sub-task runs out of its ``max_steps``, so its return is CALVIN's sequence length.
    ``info`` also has ``subtask`` (its index), ``completed`` and ``chain``. ``reset(options=...)`` takes ``chain`` (its
    index, drawn if not given), ``robot_obs`` and ``scene_obs``, which replace the chain's own start.

    Args:
        chains: "evaluation" (CALVIN's 1000) or "training" (2^31 others, drawn by the same rules, whose blocks start in
            other orders and at other angles): what is learned from must not be what is measured on.
        arguments: those of `TableEnv` without ``tasks``; ``annotations`` may also be a file with a sentence for each
            sub-task of each evaluation chain.
    """

    reset_options: ClassVar[tuple[str, ...]] = ("chain", "robot_obs", "scene_obs")

    _remedy = "It is the first one of the chain: give another chain, or a scene_obs that allows it."
    _chain = 0
    _subtasks: tuple[str, ...] = ()
    _completed = 0

    def __init__(self, *args: Any, chains: str = "evaluation", **arguments: Any):
        self._trains = check_choice("kind of chains", chains, ("evaluation", "training")) == "training"
        super().__init__(*args, **arguments)
        if arguments.get("tasks") is not None:
            raise ValueError(
                "Chains have tasks of their own: leave out tasks=, or take the environment of single tasks."
            )
        if self._trains and self._annotations.by_chain:
            raise ValueError(
                "The annotations have a sentence for each sub-task of the evaluation chains, but the training chains "
                "were asked for; leave out annotations= or chains=."
            )

    @property
    def _max_episode_steps(self) -> int:
        return CHAIN_LENGTH * self._max_steps

    def ask(self, instruction: str, task: str | None = None) -> tuple[Observation, dict[str, Any]]:
        """Not here: a chain asks for its own tasks."""
        raise ValueError(
            "This environment asks for the tasks of its chain, so nothing else can be asked of it; use the environment "
            "of single tasks, such as rf/PlayTableD-v0."
        )

    def color_trial(self, kind: int, seed: int) -> tuple[str, dict[str, dict[str, Any]]]:
        """Not here, for the same reason."""
        raise ValueError("This environment plays chains, which have no colour trials; use rf/PlayTableD-v0.")

    def _check_options(self, options: dict[str, Any]) -> dict[str, Any]:
        checked = super()._check_options(options)
        if "chain" in checked:
            self._drawn(checked["chain"])
        return checked

    def _drawn(self, index: int) -> tuple[Chain, int | None]:
        """A chain by its index, and the seed of its start where that is not CALVIN's."""
        if self._trains:
            # drawing chains is not needed to be evaluated on the shipped ones
            from rf_envs.benchmark.chain_generator import training_chain

            return training_chain(index)
        return chain(index), None

    def _begin_episode(self, simulator: Simulator, options: dict[str, Any]) -> None:
        drawn = self.np_random.integers(2**31 if self._trains else NUM_CHAINS)
        self._chain = int(options.get("chain", drawn))
        (state, subtasks), seed = self._drawn(self._chain)
        robot_obs, scene_obs = initial_state(state, SCENES[self.scene], seed)
        robot_obs, scene_obs = options.get("robot_obs", robot_obs), options.get("scene_obs", scene_obs)
        self._state = restore(simulator, robot_obs, scene_obs)
        self._subtasks, self._completed = tuple(subtasks), 0
        self._give(self._checked(self._subtasks[0]) if "scene_obs" in options else self._subtasks[0])

    def _instruction_for(self, task: str) -> str:
        # randomizing asks for a task that is none of the chain's
        if self._annotations.by_chain and self._subtasks[self._completed : self._completed + 1] == (task,):
            return self._annotations.by_chain[self._chain][self._completed]
        return super()._instruction_for(task)

    def _judge(self) -> tuple[float, bool, bool]:
        if not is_done(self._task, self._start, self._present_state()):
            return 0.0, False, self._task_steps >= self._max_steps
        self._completed += 1
        self._is_success = self._completed == CHAIN_LENGTH
        if not self._is_success:
            self._give(self._subtasks[self._completed])
        return 1.0, self._is_success, False

    def _info(self) -> dict[str, Any]:
        return super()._info() | {
            "subtask": min(self._completed, CHAIN_LENGTH - 1),
            "completed": self._completed,
            "chain": self._chain,
        }
