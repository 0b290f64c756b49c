"""One table that somebody plays at: commands in, messages and frames out. It knows no web and no process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rf_agent.errors import UserError
from rf_agent.play.actors import Actor, Cast, PolicyActor
from rf_agent.play.driving import Hand
from rf_agent.play.keeping import Keeping
from rf_agent.play.sight import Sight

TASK_STEPS = 360
"""Steps that a policy has for a task, as in CALVIN. A hand may take its time."""
SHOW_EVERY = 2
"""A frame is shown at every second step, 15 a second, and wherever a policy observes anyway."""
LATE_EVERY = 6
"""Where the machine is too slow for that: the table is shown at every so many steps at least."""
HAND = "hand"


@dataclass
class Asked:
    """Something that was asked, and what came of it."""

    number: int
    instruction: str
    task: str
    not_scored: str
    """Why nothing says whether it was done; empty where the environment's check does."""
    outcome: str = "running"
    """"running", "done", "not done" (its time was up), "ended" (time was up, and nobody knows) or "stopped"."""
    steps: int = 0


class Session:
    """A table: its environment, who acts, and what was asked.

    Args:
        make_env: makes the environment, of a scene by its letter or of its own; the last one is closed before.
        policy: as `--policy`.
        keeping: where recordings go.
        device: where the policy computes.
        now: a clock in seconds.
    """

    def __init__(
        self,
        make_env: Callable[[str | None], Any],
        policy: str,
        keeping: Keeping,
        device: str = "cpu",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_env, self._policy, self._now = make_env, policy, now
        self.keeping = keeping
        self.outbox: list[dict[str, Any]] = []
        self.paused, self.factor = False, 1.0
        self._single = 0
        self.asked: Asked | None = None
        self._count = 0
        self._chain: dict[str, Any] | None = None
        self._cast, self._begun = Cast(device), False
        self.sight = Sight()
        self.actor_name = policy
        self._seed = 0
        self.env = make_env(None)
        self.hand = Hand(getattr(self.env.unwrapped, "static_camera", None))
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
            "actors": self._actors(),
            "scenes": list(getattr(table, "scenes", ())),
            "chains": hasattr(table, "chain_start"),
            "wordings": {task: list(texts) for task, texts in wordings.items()},
            "renderer": str(getattr(table, "renderer", "")),
            "view": getattr(table, "static_camera", None) is not None,
        }

    def state(self) -> dict[str, Any]:
        """What the page shows beside the views."""
        actor = self._actor()
        return {
            "type": "state",
            "seed": self._seed,
            "scene": getattr(self.env.unwrapped, "scene", None),
            "actor": self.actor_name,
            "loading": self._cast.loading(self.actor_name),
            "paused": self.paused,
            "speed": self.factor,
            "asked": asdict(self.asked) if self.asked else None,
            "chain": self._chain,
            "action_steps": list(actor.action_steps) if actor and actor.action_steps else None,
            "path": self.sight.path if self._outcome() == "running" else None,
            "gripper": self.hand.gripper,
            **self.keeping.state(),
        }

    def views(self) -> list[np.ndarray]:
        """The images of all cameras, of this very state."""
        return self.sight.views(self.env)

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
        self._end("stopped")
        self._chain = None
        self._ask(words)

    def _do_stop(self) -> None:
        self._end("stopped")

    def _do_pause(self, on: bool) -> None:
        self.paused, self._single = on, 0

    def _do_step(self) -> None:
        self.paused, self._single = True, self._single + 1

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
        self._end("stopped")
        self._chain = None
        self.env.close()
        self.env = self._make_env(name)
        self._reset({})

    def _do_chain(self, index: int) -> None:
        table = self.env.unwrapped
        if not hasattr(table, "chain_start"):
            raise UserError(f"{self._env_id()} has no chains: give an environment such as rf/PlayTableD-v0.")
        options, tasks = table.chain_start(index, table.scene)
        self._end("stopped")
        self._reset(options)
        self._chain = {"index": index, "tasks": [list(task) for task in tasks], "completed": 0, "outcome": "running"}
        self._ask(tasks[0][1], tasks[0][0])

    def _do_actor(self, name: str) -> None:
        known = [actor["name"] for actor in self._actors()]
        if name not in known:
            raise UserError(f"There is no {name[:40]!r} to drive the robot: choose one of {', '.join(known)}.")
        self.actor_name = name
        self._rest_hand()
        self._begin()

    def _do_action_steps(self, count: int) -> None:
        actor = self._actor()
        if not isinstance(actor, PolicyActor):
            raise UserError(f"{self.actor_name} carries out one action at a time: choose a policy first.")
        actor.set_action_steps(count)

    def _do_drive(self, axes: dict[str, float], gripper: str, frame: str) -> None:
        if self.actor_name == HAND:
            self.hand.drive(axes, gripper, frame, self._now())

    def _do_video(self, on: bool) -> None:
        if on:
            self.keeping.start_film(int(self.env.metadata.get("render_fps", 30)))
            self.keeping.film_frame(self.views(), self._words(), self._outcome(), 1)
        else:
            self.keeping.stop_film()
        self.outbox += self.keeping.news()

    def _do_record(self, on: bool) -> None:
        self.keeping.record(on, self.env, self._env_id())

    def _do_keep(self) -> None:
        if self.asked is None:
            raise UserError("Nothing was asked yet: a demonstration needs an instruction.")
        self._keep(judge="person")
        self._end("stopped")

    # Time

    def warm_up(self) -> None:
        """Begin to load the policy, so that the first instruction need not wait for it."""
        self._cast.prepare(self.actor_name, self.sight.observation)

    def wants_step(self) -> bool:
        """Whether time goes on."""
        if self.paused and not self._single:
            return False
        if self.actor_name == HAND:
            return self.hand.active(self._now())
        return self._outcome() == "running" and self._actor() is not None

    def step(self, late: bool = False) -> bool:
        """One step of 1/30 s; returns whether the views are to be shown.

        Args:
            late: the clock is ahead of the table: show less.
        """
        self._single = max(0, self._single - 1)
        actor = self._actor()
        running = self._outcome() == "running"
        if (running and self.keeping.needs_images()) or (actor and actor.needs_images()):
            self.sight.look(self.env)
        observation = self.sight.observation | ({"instruction": self.asked.instruction} if self.asked else {})
        action = self.hand.act() if actor is None else actor.act(observation)
        if actor:
            self.sight.show_plan(actor.plan, self.env)
        if running:
            self.keeping.add(observation, action)
        after, reward, terminated, truncated, info = self.env.step(action)
        self.sight.step(after, self.env)
        if running:
            self._judge(float(reward), terminated, truncated, info)
        over = self._outcome() != "running" and running
        every = LATE_EVERY if late else SHOW_EVERY
        sees = not over and actor is not None and actor.needs_images()
        return over or sees or self.sight.unseen >= every or bool(self.paused)

    def shown(self) -> list[np.ndarray]:
        """The views, to be shown now; a film gets them, too."""
        views = self.views()
        self.keeping.film_frame(views, self._words(), self._outcome(), self.sight.unseen)
        self.sight.unseen = 0
        return views

    def close(self) -> None:
        """Finish recordings and release the simulator."""
        self._cast.close()
        self.keeping.stop_film()
        self.env.close()

    # Inside

    def _env_id(self) -> str:
        return self.env.spec.id if self.env.spec else type(self.env.unwrapped).__name__

    def _words(self) -> str:
        return self.asked.instruction if self.asked else ""

    def _outcome(self) -> str:
        return self.asked.outcome if self.asked else "none"

    def _actors(self) -> list[dict[str, str]]:
        found = [{"name": self._policy, "kind": "policy"}]
        if hasattr(self.env.unwrapped, "expert") and self._policy != "expert":
            found.append({"name": "expert", "kind": "expert"})
        if self.env.action_space.shape == (7,):
            found.append({"name": HAND, "kind": "hand"})
        return found

    def _reset(self, options: dict[str, Any]) -> None:
        observation, _ = self.env.reset(seed=self._seed, options=dict(options))
        if not isinstance(observation, dict):
            raise UserError(f"{self._env_id()} has no camera images in its observation: give one that has.")
        self.sight.renew(observation)
        self.asked, self.sight.unseen = None, 1
        self._rest_hand()
        self._say_possible()

    def _rest_hand(self) -> None:
        robot = self.sight.observation.get("robot_obs")
        self.hand.rest(1.0 if robot is None or len(robot) < 15 else float(robot[14]))

    def _say_possible(self) -> None:
        """Tell the page which tasks make sense now."""
        table = self.env.unwrapped
        if hasattr(table, "possible_tasks"):
            self.outbox.append({"type": "possible", "tasks": list(table.possible_tasks())})

    def _ask(self, words: str, task: str | None = None) -> None:
        table = self.env.unwrapped
        if hasattr(table, "ask"):
            observation, info = table.ask(words, task)
            not_scored = str(info.get("not_scored", ""))
        else:
            task = table.task_of(words) if hasattr(table, "task_of") else None
            options = {"instruction": words} if task is None else {"task": task}
            observation, info = self.env.reset(seed=self._seed, options=options)
            known = task is not None or info.get("instruction") == words
            not_scored = "" if known else "the environment does not know this instruction"
        self.sight.renew(observation)
        self._count += 1
        task = "" if not_scored else str(info.get("task", ""))
        self.asked = Asked(self._count, words, task, not_scored)
        if self.actor_name == "expert" and not_scored:
            self.asked.outcome = "stopped"
            self._report()
            raise UserError(f"The expert cannot do that: {not_scored}.")
        self._report()
        self.keeping.begin()
        self._begin()

    def _begin(self) -> None:
        """Whoever acts begins anew, as soon as it is there."""
        self._begun = False
        self.sight.forget_plan()
        if self.actor_name != HAND:
            self._cast.prepare(self.actor_name, self.sight.observation)

    def _actor(self) -> Actor | None:
        """Who acts, ready to; None for a hand, and for a policy that is still being loaded."""
        if self.actor_name == HAND:
            return None
        try:
            actor = self._cast.get(self.actor_name)
        except Exception as error:  # of whatever kind: a checkpoint, a package or somebody's own code
            self.problem(error)
            self._end("stopped")
            return None
        if actor is not None and not self._begun:
            actor.begin(self.env, self._seed)
            self._begun = True
        return actor

    def _judge(self, reward: float, terminated: bool, truncated: bool, info: dict[str, Any]) -> None:
        assert self.asked is not None
        self.asked.steps += 1
        success = bool(info.get("is_success", info.get("success", reward > 0 and "task" in info)))
        if success and not self.asked.not_scored:
            self._end("done")
        elif terminated or truncated or (self.actor_name != HAND and self.asked.steps >= TASK_STEPS):
            self._end("ended" if self.asked.not_scored else "not done")

    def _end(self, outcome: str) -> None:
        """What was asked ends, if it still runs; in a chain the next task follows success."""
        if self.asked is None or self.asked.outcome != "running":
            return
        self.asked.outcome = outcome
        self._report()
        if outcome == "done":
            self._keep(judge="environment")
        self.keeping.drop()
        self._say_possible()
        if self._chain and self._chain["outcome"] == "running":
            self._continue_chain(outcome)

    def _continue_chain(self, outcome: str) -> None:
        chain = self._chain
        assert chain is not None
        if outcome == "done":
            chain["completed"] += 1
        if outcome != "done" or chain["completed"] == len(chain["tasks"]):
            chain["outcome"] = outcome
            return
        task, words = chain["tasks"][chain["completed"]]
        self._ask(words, task)

    def _keep(self, judge: str) -> None:
        assert self.asked is not None
        if not self.keeping.recording:
            if judge == "person":
                raise UserError("No demonstration is being recorded: turn recording on, then ask.")
            return
        scene = getattr(self.env.unwrapped, "scene", None)
        attributes = {"seed": self._seed, "actor": self.actor_name, "judge": judge}
        self.keeping.keep(self.asked, attributes | ({} if scene is None else {"scene": scene}))
        self.outbox += self.keeping.news()

    def problem(self, error: BaseException) -> None:
        """Tell the page what went wrong, as one line."""
        self.outbox.append({"type": "problem", "text": " ".join(str(error).split()) or type(error).__name__})

    def _report(self) -> None:
        assert self.asked is not None
        self.outbox.append({"type": "asked", **asdict(self.asked)})
