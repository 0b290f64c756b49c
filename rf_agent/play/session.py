"""One table that somebody plays at: commands in, messages and frames out. It knows no web and no process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from rf_agent.environments import camera_images
from rf_agent.errors import UserError
from rf_agent.play.actor_loader import ActorLoader
from rf_agent.play.actors import HAND, Actor, PolicyActor, available_actors
from rf_agent.play.asking import ask, begin_again
from rf_agent.play.attempt import Chain, InstructionAttempt
from rf_agent.play.observation_cache import ObservationCache
from rf_agent.play.path import PlannedPath
from rf_agent.play.recorder import Recorder
from rf_agent.play.teleop import Teleop

TASK_STEPS = 360
"""Steps that a policy has for a task, as in CALVIN. A hand may take its time."""
SHOW_EVERY = 2
"""A frame is shown at every second step, 15 a second, and wherever a policy observes anyway."""
LATE_EVERY = 6
"""Where the machine is too slow for that: the table is shown at every so many steps at least."""


class Session:
    """A table: its environment, who acts, and what was asked.

    Args:
        make_env: makes the environment, of a scene by its letter or of its own.
        policy: as `--policy`.
        recorder: where recordings go.
        device: where the policy computes.
        now: a clock in seconds.
    """

    def __init__(
        self,
        make_env: Callable[[str | None], Any],
        policy: str,
        recorder: Recorder,
        device: str = "cpu",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_env, self._policy, self._now = make_env, policy, now
        self.recorder = recorder
        self.outbox: list[dict[str, Any]] = []
        self.paused, self.factor = False, 1.0
        self._single = 0
        self.attempt: InstructionAttempt | None = None
        self._count = 0
        self._chain: Chain | None = None
        self._loader = ActorLoader(device)
        self._begun = self._refuses = False
        """Whether the actor has begun to follow the present instruction, or could not."""
        self._since = 0
        """Steps of the attempt that had been done when the one who acts now began."""
        self.cache, self._path = ObservationCache(), PlannedPath()
        self.actor_name = policy
        self._seed = 0
        self.env = make_env(None)
        self.teleop = Teleop(getattr(self.env.unwrapped, "static_camera", None))
        self._reset({})

    # What there is

    def hello(self) -> dict[str, Any]:
        """What the page needs to know once."""
        table = self.env.unwrapped
        wordings = table.wordings() if hasattr(table, "wordings") else {}
        return {
            "type": "hello",
            "env": self._env_id(),
            "policy": self._policy,
            "actors": available_actors(self.env, self._policy),
            "scenes": list(getattr(table, "scenes", ())),
            "chains": _has_chains(table),
            "wordings": {task: list(texts) for task, texts in wordings.items()},
            "renderer": str(getattr(table, "renderer", "")),
            "view": getattr(table, "static_camera", None) is not None,
        }

    def state(self) -> dict[str, Any]:
        """What the page shows beside the views."""
        actor = self._actor()
        return {
            "type": "state",
            "env": self._env_id(),
            "seed": self._seed,
            "scene": getattr(self.env.unwrapped, "scene", None),
            "actor": self.actor_name,
            "loading": self._loader.loading(self.actor_name),
            "paused": self.paused,
            "speed": self.factor,
            "asked": asdict(self.attempt) if self.attempt else None,
            "chain": asdict(self._chain) if self._chain else None,
            "action_steps": list(actor.action_steps) if actor and actor.action_steps else None,
            "path": self._path.points if self._outcome() == "running" else None,
            "gripper": self.teleop.gripper,
            "keep": self._unjudged() and self.recorder.records_attempt,
            **self.recorder.state(),
        }

    def views(self) -> list[np.ndarray]:
        """The images of all cameras, of this very state."""
        return self.cache.views(self.env)

    # Commands

    def handle(self, command: dict[str, Any]) -> None:
        """Do what a checked message says (`rf_agent.play.messages`).

        Raises:
            UserError, ValueError: it cannot be done; the text is one sentence, and the table goes on as it was.
        """
        arguments = {key: value for key, value in command.items() if key != "do"}
        getattr(self, f"_do_{command['do']}")(**arguments)

    def _do_ask(self, instruction: str) -> None:
        words = " ".join(instruction.split())
        if not words:
            raise UserError("The instruction is empty: say what the robot should do.")
        self._ask(words)

    def _do_stop(self) -> None:
        self._end("stopped")

    def _do_pause(self, on: bool) -> None:
        self.paused, self._single = on, 0

    def _do_step(self) -> None:
        self.paused = True
        self._single += self._can_step()

    def _do_speed(self, factor: float) -> None:
        self.factor = float(factor)

    def _do_reset(self, seed: int) -> None:
        self._end("stopped")
        self._chain, self._seed = None, seed
        self._reset({})

    def _do_scene(self, name: str) -> None:
        scenes = getattr(self.env.unwrapped, "scenes", ())
        if name not in scenes:
            raise UserError(f"There is no scene {name[:20]!r}: choose one of {', '.join(scenes) or 'none'}.")
        env = self._make_env(name)
        self._end("stopped")
        self._chain = None
        self.env.close()
        self.env = env
        self._reset({})

    def _do_chain(self, index: int) -> None:
        table = self.env.unwrapped
        if not _has_chains(table):
            raise UserError(f"{self._env_id()} has no chains: give an environment such as rf/PlayTableD-v0.")
        options, tasks = table.chain_start(index, table.scene)
        self._end("stopped")
        self._chain = None
        self._reset(options)
        self._ask(tasks[0][1], tasks[0][0], Chain(index, tasks))

    def _do_actor(self, name: str) -> None:
        known = [actor["name"] for actor in available_actors(self.env, self._policy)]
        if name not in known:
            raise UserError(f"There is no {name[:40]!r} to drive the robot: choose one of {', '.join(known)}.")
        if name == "expert" and self._unjudged():
            assert self.attempt is not None
            raise UserError(f"The expert cannot do that: {self.attempt.not_scored}.")
        self.actor_name = name
        self._rest_teleop()
        self._begin()

    def _do_action_steps(self, count: int) -> None:
        actor = self._actor()
        if not isinstance(actor, PolicyActor):
            raise UserError(f"{self.actor_name} carries out one action at a time: choose a policy first.")
        actor.set_action_steps(count)

    def _do_drive(self, axes: dict[str, float], gripper: str, frame: str) -> None:
        if self.actor_name == HAND:
            self.teleop.drive(axes, gripper, frame, self._now())

    def _do_video(self, on: bool) -> None:
        if on:
            self.recorder.start_video(int(self.env.metadata.get("render_fps", 30)))
            self.recorder.add_views(self.views(), self._words(), self._outcome(), 1)
        else:
            self.recorder.stop_video()
        self.outbox += self.recorder.news()

    def _do_record(self, on: bool) -> None:
        self.recorder.record(on, self.env)

    def _do_keep(self) -> None:
        if self.attempt is None or self.attempt.outcome != "running":
            raise UserError("Nothing is being done that could be kept: ask for something first.")
        if not self.attempt.not_scored:
            raise UserError("The environment judges this task itself, and keeps what succeeds without being asked.")
        if not self.recorder.records_attempt:
            raise UserError("This attempt is not being recorded: turn recording on, then ask.")
        self._keep(judge="person")
        self._end("kept")

    # Time

    def warm_up(self) -> None:
        """Begin to load the policy, so that the first instruction need not wait for it."""
        self._loader.prepare(self.actor_name, self.cache.observation)

    def wants_step(self) -> bool:
        """Whether time goes on."""
        if not self._can_step():
            self._single = 0
            return False
        return not self.paused or self._single > 0

    def _can_step(self) -> bool:
        """Whether there is anything to do, paused or not."""
        if self.actor_name == HAND:
            return self.teleop.active(self._now())
        return self._outcome() == "running" and self._actor() is not None

    def step(self, late: bool = False) -> bool:
        """One step of 1/30 s; returns whether the views are to be shown.

        Args:
            late: the clock is ahead of the table: show less.
        """
        self._single = max(0, self._single - 1)
        actor = self._actor()
        if actor is None and self.actor_name != HAND:
            return False
        running = self._outcome() == "running"
        if (running and self.recorder.needs_images()) or (actor and actor.needs_images()):
            self.cache.look(self.env)
        observation = self.cache.observation | ({"instruction": self.attempt.instruction} if self.attempt else {})
        action = self.teleop.act() if actor is None else actor.act(observation)
        if actor:
            self._path.show(actor.plan, self.cache.observation, self.env)
        if running:
            self.recorder.add(observation, action)
        after, reward, terminated, truncated, info = self.env.step(action)
        self.cache.step(after, self.env)
        if running:
            self._judge(float(reward), terminated, truncated, info)
        over = self._outcome() != "running" and running
        every = LATE_EVERY if late else SHOW_EVERY
        sees = not over and actor is not None and actor.needs_images()
        return over or sees or self.cache.unseen >= every or bool(self.paused)

    def shown(self) -> list[np.ndarray]:
        """The views, to be shown now; a video gets them, too."""
        steps, self.cache.unseen = self.cache.unseen, 0  # at once: what cannot be drawn is not tried again and again
        views = self.views()
        self.recorder.add_views(views, self._words(), self._outcome(), steps)
        self.outbox += self.recorder.news()
        return views

    def close(self) -> None:
        """Finish recordings and release the simulator."""
        self._loader.close()
        self.recorder.stop_video()
        self.env.close()

    # Inside

    def _env_id(self) -> str:
        return self.env.spec.id if self.env.spec else type(self.env.unwrapped).__name__

    def _words(self) -> str:
        return self.attempt.instruction if self.attempt else ""

    def _outcome(self) -> str:
        return self.attempt.outcome if self.attempt else "none"

    def _unjudged(self) -> bool:
        """Whether something is being done whose outcome the environment does not judge."""
        return self.attempt is not None and self.attempt.outcome == "running" and bool(self.attempt.not_scored)

    def _reset(self, options: dict[str, Any]) -> None:
        observation, _ = self.env.reset(seed=self._seed, options=dict(options))
        if not camera_images(observation):
            raise UserError(f"{self._env_id()} has no camera images in its observation: give one that has.")
        self.cache.renew(observation)
        self.attempt, self.cache.unseen = None, 1
        self._rest_teleop()
        self._say_possible()

    def _rest_teleop(self) -> None:
        robot = self.cache.observation.get("robot_obs")
        self.teleop.rest(1.0 if robot is None or len(robot) < 15 else float(robot[14]))

    def _say_possible(self) -> None:
        """Tell the page which tasks make sense now."""
        table = self.env.unwrapped
        if hasattr(table, "possible_tasks"):
            self.outbox.append({"type": "possible", "tasks": list(table.possible_tasks())})

    def _ask(self, words: str, task: str | None = None, chain: Chain | None = None) -> None:
        asks = hasattr(self.env.unwrapped, "ask")  # elsewhere asking begins an episode, and ends what was running
        before = self.attempt if asks and self._outcome() == "running" else None
        answer = ask(self.env, words, task, self._seed)  # what is refused here ends nothing
        if before and self.actor_name == "expert" and answer.not_scored:
            answer_before = ask(self.env, before.instruction, before.task or None, self._seed)
            self.cache.renew(answer_before.observation)
            raise UserError(f"The expert cannot do that: {answer.not_scored}. It goes on with what it does.")
        self._end("stopped")
        start = begin_again(self.env) if self.recorder.recording else {}
        if start:
            answer = ask(self.env, words, task, self._seed)
        self._chain = chain
        self.cache.renew(answer.observation)
        self._count += 1
        self.attempt = InstructionAttempt(self._count, words, answer.task, answer.not_scored)
        if self.actor_name == "expert" and answer.not_scored:
            self.attempt.outcome = "stopped"
            self._report()
            if chain:
                chain.outcome = "stopped"
            raise UserError(f"The expert cannot do that: {answer.not_scored}.")
        self._report()
        self.recorder.begin(start)
        self._begin()

    def _begin(self) -> None:
        """Whoever acts begins anew, as soon as it is there."""
        self._begun = self._refuses = False
        self._path.forget()
        if self.actor_name != HAND:
            self._loader.prepare(self.actor_name, self.cache.observation)

    def _actor(self) -> Actor | None:
        """Who acts, ready to; None for a hand, for a policy that is still being loaded, and for what does not begin."""
        if self.actor_name == HAND or self._refuses:
            return None
        try:
            actor = self._loader.get(self.actor_name)
            if actor is not None and not self._begun:
                actor.begin(self.env, self._seed)
                self._begun, self._since = True, self.attempt.steps if self.attempt else 0
        except Exception as error:  # of whatever kind: a checkpoint, a package or somebody's own code
            self._refuses = True
            self.problem(error)
            self._end("stopped")
            return None
        return actor

    def _judge(self, reward: float, terminated: bool, truncated: bool, info: dict[str, Any]) -> None:
        assert self.attempt is not None
        self.attempt.steps += 1
        success = bool(info.get("is_success", info.get("success", reward > 0 and "task" in info)))
        if success and not self.attempt.not_scored:
            self._end("done")
        elif terminated or truncated or (self.actor_name != HAND and self.attempt.steps - self._since >= TASK_STEPS):
            self._end("ended" if self.attempt.not_scored else "not done")

    def _end(self, outcome: str) -> None:
        """What was asked ends, if it still runs; in a chain the next task follows success."""
        if self.attempt is None or self.attempt.outcome != "running":
            return
        self.attempt.outcome = outcome
        self._report()
        self._say_possible()
        chain = self._chain
        try:
            if outcome == "done" and self.recorder.records_attempt:
                self._keep(judge="environment")
            self.recorder.drop()
            following = chain.next_task(outcome) if chain else None
            if following:
                self._ask(following[1], following[0], chain)
        except Exception:  # a full disk, or a task that is refused
            self.recorder.drop()
            if chain and chain.outcome == "running":
                chain.outcome = "stopped"
            raise

    def _keep(self, judge: str) -> None:
        assert self.attempt is not None
        table = self.env.unwrapped
        attributes: dict[str, Any] = {"env_id": self._env_id(), "actor": self.actor_name, "judge": judge}
        if hasattr(table, "scene"):
            attributes["scene"] = table.scene
        if not hasattr(table, "ask"):  # only then does the episode begin with the instruction
            attributes["seed"] = self._seed
        self.recorder.keep(self.attempt, attributes)
        self.outbox += self.recorder.news()

    def problem(self, error: BaseException) -> None:
        """Tell the page what went wrong, as one line."""
        self.outbox.append({"type": "problem", "text": " ".join(str(error).split()) or type(error).__name__})

    def _report(self) -> None:
        assert self.attempt is not None
        self.outbox.append({"type": "asked", **asdict(self.attempt)})


def _has_chains(table: Any) -> bool:
    """Whether chains start on this table: not on one that is drawn at random, which is none of its scenes."""
    return hasattr(table, "chain_start") and table.scene in getattr(table, "scenes", (table.scene,))
