"""The play table as a Gymnasium environment: one task per episode."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from rf_envs.benchmark.preconditions import obstacle, possible
from rf_envs.benchmark.randomize import randomize
from rf_envs.benchmark.start_states import NoStartError, draw_start, restore
from rf_envs.benchmark.tasks import TASKS, StateInfo, check_task, is_done
from rf_envs.errors import check_choice, require_pybullet
from rf_envs.language import instructions as texts
from rf_envs.language.annotations import read_annotations
from rf_envs.language.caption import captioned
from rf_envs.privileged import PrivilegedState
from rf_envs.random_scenes import scene_named
from rf_envs.scenes import SCENES, Scene
from rf_envs.simulators.base import (
    CONTROL_FREQUENCY,
    MAX_RELATIVE_POSITION,
    STATIC_FIELD_OF_VIEW,
    STATIC_FROM,
    STATIC_TO,
    STATIC_UP,
    Simulator,
)
from rf_envs.spaces import (
    CAMERAS,
    action_space,
    check_action,
    check_robot_obs,
    check_scene_obs,
    encode_instruction,
    observation_space,
)
from rf_envs.window import Window

Observation = dict[str, Any]
"""What `rf_envs.spaces.observation_space` holds."""
MAX_STEPS = 360
"""Steps that a task may take, as in CALVIN."""


def _embedded(scene: str) -> Simulator:
    # imported here so that registering the environments needs no physics engine
    from rf_envs.simulators.playtable import PlayTable

    return PlayTable(scene=scene)


class TableEnv(PrivilegedState, gym.Env[Observation, np.ndarray]):
    """A Franka Panda at CALVIN's play table, asked in words to do one of 34 tasks.

    Observation: ``rgb_static`` and ``rgb_gripper``, uint8 images; ``robot_obs`` float32 (15,), in CALVIN's layout
    (position and Euler XYZ of the tool centre point in m and rad, opening width, seven joints, last gripper action);
    ``instruction`` uint8 (256,), UTF-8 padded with zeros. Action (7,) in [-1, 1], for 1/30 s: motion of the tool
    centre point in the world frame (x, y, z by 0.02 m; Euler XYZ by 0.05 rad) and the gripper (> 0 opens).
    ``info``: ``is_success``, ``task``, ``instruction`` (str) and ``renderer``.

    The episode ends with reward 1 on the step that fulfils the task, and is truncated after ``max_steps``.
    ``reset(options=...)`` takes ``task``, ``instruction``, ``robot_obs`` (15,) and ``scene_obs`` (24,): scene and task
    are drawn where they are not given, and the robot starts in CALVIN's neutral pose. An instruction that is one of the
    known instructions also chooses its task; any other one leaves the task to chance, so give both.

    Args:
        scene: letter of CALVIN's scene, "A" to "D".
        render_mode: None, "rgb_array" (the static view) or "human" (a window).
        render_size: edge of the rendered view, in pixels.
        image_size: edges of the observed static and gripper images, in pixels.
        render_every: draw the observed images at the reset and every so many steps, and repeat them between.
        black_cameras: cameras of the observation whose images are black, to see what a policy does without them.
        instructions: which instructions to ask in, "evaluation" (one per task), "training" or "enriched" (drawn
            from many).
        annotations: one of CALVIN's files to take the instructions from instead, see `rf_envs.language.annotations`.
        caption: whether rendered frames carry the instruction; observations never do.
        tasks: the tasks to draw from where none is given; None for all 34.
        max_steps: steps that a task may take.
        simulator: makes the simulator from the scene's letter; None for the embedded one.

    Examples:
        >>> env = gym.make("rf_envs:rf/PlayTableD-v0")
        >>> observation, info = env.reset(seed=0, options={"task": "open_drawer"})
        >>> info["task"]
        'open_drawer'
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": CONTROL_FREQUENCY}
    reset_options: ClassVar[tuple[str, ...]] = ("task", "instruction", "robot_obs", "scene_obs")
    _remedy = "Leave out the task, for one that the state allows, or the scene_obs, for a state that allows the task."
    gripper_index: ClassVar[int] = 6
    """The entry of an action that opens (above zero) or closes the gripper."""
    noise_weights: ClassVar[tuple[float, ...]] = (1, 1, 1, 0.5, 0.5, 0.5, 0)
    """How strongly disturbances of a demonstrator act on each entry of an action: on rotations by half."""
    paraphrased: ClassVar[bool] = True
    """Whether all instructions of a task mean the same, so that training may exchange them."""
    scenes: ClassVar[tuple[str, ...]] = tuple(SCENES)
    """What the argument `scene` takes."""
    position_step: ClassVar[float] = MAX_RELATIVE_POSITION
    """Metres that an action's first three entries move by at most."""
    static_camera: ClassVar[dict[str, Any]] = {
        "look_from": STATIC_FROM,
        "look_at": STATIC_TO,
        "up": STATIC_UP,
        "field_of_view": STATIC_FIELD_OF_VIEW,
    }
    """Where the camera of `rgb_static` is (m, world frame; degrees), to draw over its images."""

    def __init__(
        self,
        scene: str = "D",
        render_mode: str | None = None,
        render_size: int = 200,
        image_size: tuple[int, int] = (200, 84),
        render_every: int = 1,
        black_cameras: Iterable[str] = (),
        instructions: str = "evaluation",
        annotations: str | os.PathLike[str] | None = None,
        caption: bool = True,
        tasks: Iterable[str] | None = None,
        max_steps: int = MAX_STEPS,
        simulator: Callable[[str], Simulator] | None = None,
    ):
        self.scene = check_choice("scene", scene, SCENES)
        if render_mode is not None:
            check_choice("render mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        if np.shape(image_size) != (2,):
            raise ValueError(f"image_size is {image_size!r}; expected two edges (static, gripper) in pixels.")
        self._image_size = (positive("image_size", image_size[0]), positive("image_size", image_size[1]))
        self._render_size = positive("render_size", render_size)
        self._render_every = positive("render_every", render_every)
        if isinstance(black_cameras, str) or not isinstance(black_cameras, Iterable):
            raise ValueError(f"black_cameras is {black_cameras!r}; expected a list of names, such as ['rgb_static'].")
        self._black = frozenset(check_choice("camera", camera, CAMERAS) for camera in black_cameras)
        self._max_steps = positive("max_steps", max_steps)
        self._texts = texts.KINDS[check_choice("kind of instructions", instructions, texts.KINDS)]
        self._annotations = read_annotations(annotations, chains="chain" in self.reset_options)
        self._caption = caption
        if isinstance(tasks, str) or not isinstance(tasks, Iterable | None):
            raise ValueError(f"tasks is {tasks!r}; expected a list of names, such as ['open_drawer'].")
        self._tasks = TASKS if tasks is None else tuple(check_task(task) for task in tasks)
        if not self._tasks:
            raise ValueError("tasks is empty; name at least one task, or leave it out for all 34.")
        if simulator is None:  # said when the environment is made, not at its first reset
            require_pybullet("the embedded play table")
        self._make_simulator = simulator or _embedded

        self.observation_space = observation_space(self._image_size)
        self.action_space = action_space()
        # made at the first reset: a vector environment makes one environment more than it uses
        self._simulator: Simulator | None = None
        self._window: Window | None = None
        self._state: StateInfo | None = None
        self._start: StateInfo = {}
        self._task, self._instruction = "", ""
        self._task_steps = 0
        self._is_success = False
        self._ended = [False, False]
        self.render_seconds = 0.0  # spent on observed images, since the environment was made

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or pickle takes over: all but the simulation, so that it begins with a reset of its own."""
        return self.__dict__ | {"_simulator": None, "_window": None, "_state": None}

    # Gymnasium's interface

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Raises:
            ValueError: an option is unknown or malformed, and nothing has changed then; or the given scene_obs
                does not allow the given task, and the environment has to be reset again.
        """
        checked = self._check_options(options or {})
        super().reset(seed=seed)
        self._prepare_scene(checked)
        self._simulator = self._simulator or self._make_simulator(self.scene)
        self._is_success, self._ended = False, [False, False]
        try:
            self._begin_episode(self._simulator, checked)
        except BaseException:
            self._state = None  # half a reset is no episode
            raise
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply one relative action (7,) for 1/30 s.

        Raises:
            ValueError: the action has another shape or holds NaN.
            gymnasium.error.ResetNeeded: there is no episode yet.
        """
        simulator = self._running()
        simulator.step(check_action(action))
        self._state = simulator.info()
        self._task_steps += 1
        reward = 0.0
        # stepping on after the end is allowed but changes nothing: it stays ended, without a further reward
        if not any(self._ended):
            reward, *self._ended = self._judge()
        terminated, truncated = self._ended
        return self._observe(), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The static view (render_size, render_size, 3), or None after showing it in the window."""
        if self.render_mode is None:
            gym.logger.warn("render() draws nothing without a render_mode; use gym.make(id, render_mode='rgb_array').")
            return None
        frame = self._running().render("static", self._render_size)
        if self._caption:
            frame = captioned(frame, self._instruction)
        if self.render_mode == "rgb_array":
            return frame
        self._window = self._window or Window(f"Play table {self.scene}")
        self._window.show(frame)
        return None

    def close(self) -> None:
        """Release the simulator and the window; closing twice is allowed."""
        if self._simulator is not None:
            self._simulator.close()
        if self._window is not None:
            self._window.close()
        self._simulator = self._window = self._state = None

    @property
    def _max_episode_steps(self) -> int:
        """The name under which LeRobot looks for an episode's longest length."""
        return self._max_steps

    def randomize(self, seed: int | None = None) -> Observation:
        """Put everything somewhere at random and return the observation: an image to learn to see from.

        Unlike a reset it also moves the robot and leaves things as no task would; the task is drawn among
        those that the state allows, but no episode begins.
        """
        super().reset(seed=seed)
        self._simulator = self._simulator or self._make_simulator(self.scene)
        self._is_success, self._ended = False, [True, False]
        try:
            self._state = randomize(scene_named(self.scene), self._simulator, self.np_random)
        except BaseException:
            self._state = None  # things are half moved
            raise
        self._give(self._draw_possible_task(TASKS))
        return self._observe()

    def ask(self, instruction: str, task: str | None = None) -> tuple[Observation, dict[str, Any]]:
        """Ask for something else in the present state: the table stays as it is, and steps count from zero.

        The task is judged from the present state on. Free text, and a task that the present state rules out, may be
        tried all the same, but nothing is judged then: `info["task"]` is empty, and `info["not_scored"]`, here only,
        says why.

        Args:
            instruction: what to ask for; a known instruction chooses its task.
            task: the task that the instruction is for, where it is none of the known ones.

        Raises:
            ValueError: the instruction is blank or does not fit into an observation, or the task is unknown; nothing
                changes.
            gymnasium.error.ResetNeeded: there is no state yet.

        Examples:
            >>> observation, info = env.unwrapped.ask("open the drawer")
        """
        _check_instruction(instruction)
        task = self.task_of(instruction) if task is None else check_task(task)
        state = self._present_state()
        reason: str | None = "no known instruction asks for that"
        if task is not None:
            reason = obstacle(task, state, scene_named(self.scene))
        self._is_success, self._ended = False, [False, False]
        self._give(task if task is not None and reason is None else "", instruction)
        return self._observe(), self._info() | ({} if reason is None else {"not_scored": reason})

    def images(self) -> dict[str, np.ndarray]:
        """Fresh images of both cameras, as observations hold them, whatever `render_every` says."""
        simulator, begun = self._running(), time.perf_counter()
        images = {
            camera: np.zeros((size, size, 3), np.uint8)
            if camera in self._black
            else simulator.render(camera.removeprefix("rgb_"), size)
            for camera, size in zip(CAMERAS, self._image_size, strict=True)
        }
        self.render_seconds += time.perf_counter() - begun
        return images

    # An episode

    def _prepare_scene(self, options: dict[str, Any]) -> None:
        """For environments whose scene changes: called at each reset, when the random numbers are seeded."""

    def _scene_of(self, options: dict[str, Any]) -> Scene:
        """The scene that reset options are about."""
        return scene_named(self.scene)

    def _check_options(self, options: dict[str, Any]) -> dict[str, Any]:
        for key in options:
            check_choice("reset option", key, self.reset_options)
        checked = {key: value for key, value in options.items() if value is not None}
        scene = self._scene_of(checked)
        if "task" in checked:
            check_task(checked["task"])
        if "instruction" in checked:
            _check_instruction(checked["instruction"])
        if "robot_obs" in checked:
            checked["robot_obs"] = check_robot_obs(checked["robot_obs"])
        if "scene_obs" in checked:
            checked["scene_obs"] = check_scene_obs(checked["scene_obs"], scene)
        return checked

    def _begin_episode(self, simulator: Simulator, options: dict[str, Any]) -> None:
        """Put the simulator into the start of an episode and give the (first) task."""
        instruction = options.get("instruction")
        task = options.get("task")
        if task is None and instruction:
            task = self.task_of(instruction)
        if "scene_obs" in options:
            self._state = restore(simulator, options.get("robot_obs"), options["scene_obs"])
            task = self._checked(task) if task else self._draw_possible_task(self._tasks)
        elif task:
            self._draw_start(task, simulator, options)
        else:
            task = self._draw_task_and_start(simulator, options)
        self._give(task, instruction)

    def _draw_start(self, task: str, simulator: Simulator, options: dict[str, Any]) -> None:
        scene = scene_named(self.scene)
        self._state = draw_start(task, scene, simulator, self.np_random, options.get("robot_obs"))

    def _draw_task_and_start(self, simulator: Simulator, options: dict[str, Any]) -> str:
        """The task of a random start; one of which a given ``robot_obs`` is in the way gives place to another."""
        left = list(self._tasks)
        while True:
            task = left.pop(int(self.np_random.integers(len(left))))
            try:
                self._draw_start(task, simulator, options)
            except NoStartError:
                if not left:
                    raise
            else:
                return task

    def _checked(self, task: str) -> str:
        """The task, if the present state does not rule it out."""
        reason = obstacle(task, self._present_state(), scene_named(self.scene))
        if reason is not None:
            raise ValueError(
                f"The task {task!r} cannot be fulfilled from the given scene_obs: {reason}. {self._remedy}"
            )
        return task

    def _draw_possible_task(self, tasks: Sequence[str]) -> str:
        """One that the present state allows; among the sensible ones if there are any."""
        state, scene = self._present_state(), scene_named(self.scene)
        allowed = [task for task in tasks if possible(task, state, scene)]
        allowed = allowed or [task for task in tasks if obstacle(task, state, scene) is None]
        if not allowed:
            raise ValueError(
                f"The given scene_obs allows none of the tasks {', '.join(tasks)}; name more tasks= for the "
                "environment, or give another scene_obs."
            )
        return allowed[int(self.np_random.integers(len(allowed)))]

    def _give(self, task: str, instruction: str | None = None) -> None:
        """Ask for ``task`` from the present state on."""
        self._task = task
        self._instruction = self._instruction_for(task) if instruction is None else instruction
        self._start = self._present_state()
        self._task_steps = 0

    def _instruction_for(self, task: str) -> str:
        """The words to ask for a task in."""
        choices = (self._annotations.by_task or self._texts)[task]
        return choices[0] if len(choices) == 1 else choices[int(self.np_random.integers(len(choices)))]

    def _judge(self) -> tuple[float, bool, bool]:
        """Reward, terminated and truncated of the step just taken."""
        self._is_success = bool(self._task) and is_done(self._task, self._start, self._present_state())
        out_of_time = self._task_steps >= self._max_steps
        return float(self._is_success), self._is_success, out_of_time and not self._is_success

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": self._is_success,
            "task": self._task,
            "instruction": self._instruction,
            "renderer": self.renderer,
        }

    def _observe(self) -> Observation:
        simulator = self._running()
        # counted from the start of the task: a new task in a chain is looked at right away
        if self._task_steps % self._render_every == 0:
            self._images = self.images()
        if self.render_mode == "human":
            self.render()
        return {
            **{camera: image.copy() for camera, image in self._images.items()},
            "robot_obs": simulator.robot_obs.astype(np.float32),
            "instruction": encode_instruction(self._instruction),
        }

    def _running(self) -> Simulator:
        if self._simulator is None or self._state is None:
            raise gym.error.ResetNeeded(
                "There is no episode; call env.reset() first. A reset that raises an error begins none."
            )
        return self._simulator

    def _present_state(self) -> StateInfo:
        self._running()
        assert self._state is not None
        return self._state


def positive(name: str, value: Any) -> int:
    """The value, if it is a whole number of at least 1. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
    return int(value)


def _check_instruction(instruction: str) -> None:
    encode_instruction(instruction)
    if not instruction.strip():
        raise ValueError("The instruction is blank: give words, or leave it out for one of the task's own.")
