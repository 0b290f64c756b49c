"""What an environment knows beside its observation: for experts, descriptions and diagnosis, never for a policy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from rf_envs.benchmark import grounding
from rf_envs.benchmark.chains import chain, initial_state
from rf_envs.benchmark.preconditions import possible
from rf_envs.benchmark.tasks import COLORS, TASKS, StateInfo
from rf_envs.errors import check_choice
from rf_envs.language import instructions as texts
from rf_envs.language.annotations import Annotations
from rf_envs.language.describe import Description, describe
from rf_envs.random_scenes import scene_named
from rf_envs.scenes import SCENES
from rf_envs.simulators.base import Simulator

if TYPE_CHECKING:
    from rf_envs.expert import Expert


class PrivilegedState:
    """The part of `TableEnv` that reads the state of the simulator."""

    scene: str
    _task: str
    _instruction: str
    _annotations: Annotations

    def _running(self) -> Simulator:
        raise NotImplementedError

    def _present_state(self) -> StateInfo:
        raise NotImplementedError

    @property
    def task(self) -> str:
        """Name of the present task."""
        return self._task

    @property
    def task_description(self) -> str:
        """The present instruction."""
        return self._instruction

    @property
    def robot_obs(self) -> np.ndarray:
        """(15,) float64, in CALVIN's layout."""
        return self._running().robot_obs

    @property
    def scene_obs(self) -> np.ndarray:
        """(24,) float64, in CALVIN's layout."""
        return self._running().scene_obs

    @property
    def robot_info(self) -> dict[str, Any]:
        """CALVIN's ``robot_info``."""
        return self._present_state()["robot_info"]

    @property
    def scene_info(self) -> dict[str, Any]:
        """CALVIN's ``scene_info``."""
        return self._present_state()["scene_info"]

    @property
    def renderer(self) -> str:
        """Name of the renderer that draws the images."""
        return self._running().renderer

    @property
    def scene_options(self) -> dict[str, Any]:
        """Options with which a reset keeps the scene, where it changes otherwise."""
        return {}

    def task_of(self, instruction: str) -> str | None:
        """The task that a known instruction asks for; None for free text, whose task a reset draws by chance."""
        return self._annotations.task_of(instruction) or texts.task_of(instruction)

    def wordings(self) -> dict[str, tuple[str, ...]]:
        """Task to instructions that ask for it: those of the annotations, the one of evaluations, then those of
        demonstrations. What a file of annotations says of several tasks is that of the first (see `task_of`)."""
        own = self._annotations.by_task
        texts_of = {task: (*own.get(task, ()), texts.EVALUATION[task], *texts.TRAINING[task]) for task in TASKS}
        return {
            task: tuple(text for text in dict.fromkeys(wordings) if self.task_of(text) == task)
            for task, wordings in texts_of.items()
        }

    def possible_tasks(self) -> tuple[str, ...]:
        """The tasks that it makes sense to ask for in the present state."""
        state, scene = self._present_state(), scene_named(self.scene)
        return tuple(task for task in TASKS if possible(task, state, scene))

    @staticmethod
    def chain_start(index: int, scene: str) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
        """A chain of CALVIN's benchmark: options for `reset`, and its five tasks with their instructions.

        Raises:
            ValueError: there is no such chain.
        """
        state, tasks = chain(index)
        robot_obs, scene_obs = initial_state(state, SCENES[check_choice("scene of chains", scene, SCENES)])
        return {"robot_obs": robot_obs, "scene_obs": scene_obs}, [(task, texts.EVALUATION[task]) for task in tasks]

    def expert(self) -> Expert:
        """A scripted demonstrator of this environment's present task."""
        from rf_envs.expert import Expert

        return Expert(self)

    def describe(self) -> Description:
        """The present state in words: captions, questions with answers, and where things are."""
        return describe(self._present_state(), scene_named(self.scene))

    def color_trial(self, kind: int, seed: int) -> tuple[str, dict[str, dict[str, Any]]]:
        """The same scene with an instruction for each colour: does the word decide which block is touched?

        Args:
            kind: which of `rf_envs.benchmark.grounding.TASKS`, counted round and round.
            seed: of the scene; the environment is reset to find it.

        Returns:
            The kind of task, with `{}` for the colour, and reset options by colour.
        """
        task = grounding.TASKS[kind % len(grounding.TASKS)]
        scene = grounding.draw_scene(self, seed)
        return task, {color: {"task": task.format(color), **scene} for color in COLORS}

    @property
    def touched_color(self) -> str | None:
        """Colour of the block that the robot touches; None if it touches none."""
        return grounding.touched_color(self.robot_info, self.scene_info)

    @staticmethod
    def diagnose(calvin_root: str | os.PathLike[str] | None = None) -> list[dict[str, str]]:
        """What of this package works on this machine, see `rf_envs.diagnosis`; needs no reset."""
        from rf_envs.diagnosis import diagnose

        return diagnose(calvin_root)
