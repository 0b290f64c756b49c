"""Who moves the robot at the play table: a policy, the expert, or chance, each as an object that says what it plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rf_agent.errors import UserError
from rf_agent.evaluation.agents import NEVER, Agent, has_network, load_agent, load_policy
from rf_agent.evaluation.custom import as_agent
from rf_agent.names import short_name

HAND = "hand"
"""The name of teleoperation among the actors; it is no `Actor`, as time waits for it."""


class Actor(Protocol):
    """Acts at one table."""

    @property
    def action_steps(self) -> tuple[int, int] | None:
        """Actions of a chunk that it carries out before it observes again, and how many there are; None: one by one."""

    @property
    def plan(self) -> NDArray[np.float32] | None:
        """The newest chunk that it predicted, one action a step (K * repeat, D), where it predicts some."""

    def begin(self, env: Any, seed: int) -> None:
        """A new instruction: forget what was before."""

    def needs_images(self) -> bool:
        """Whether the next `act` reads the cameras."""

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """The next action (D,)."""


class PolicyActor:
    """A policy of ours: it predicts a chunk, and a chosen number of its actions is carried out, each as often as the
    policy repeats its actions.

    Args:
        policy: a `RoboFlamingoPolicy`.
    """

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.plan: NDArray[np.float32] | None = None
        self._queue: list[NDArray[np.float32]] = []

    @property
    def action_steps(self) -> tuple[int, int]:
        head = self.policy.config.head
        return head.n_action_steps, head.chunk_size

    def set_action_steps(self, count: int) -> None:
        """Carry out `count` actions of each chunk from now on; its history begins anew."""
        most = self.action_steps[1]
        if count > most:
            raise UserError(f"{count} action steps were asked for, but the policy predicts {most}: choose 1 to {most}")
        self.policy.set_execution(count, self.policy.config.head.repeat)
        self._queue, self.plan = [], None

    def begin(self, env: Any, seed: int) -> None:
        self.policy.reset()
        self._queue, self.plan = [], None

    def needs_images(self) -> bool:
        return not self._queue

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        if not self._queue:
            head = self.policy.config.head
            self.plan = np.repeat(self.policy.predict_action_chunk(observation)[0], head.repeat, axis=0)
            assert self.plan is not None
            self._queue = list(self.plan[: head.n_action_steps * head.repeat])
        return self._queue.pop(0)


class AgentActor:
    """Anything else that `--policy` names; it plans nothing that could be shown."""

    action_steps = None
    plan = None

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._steps = 0

    def begin(self, env: Any, seed: int) -> None:
        self._agent.reset(env, seed)
        self._steps = 0

    def needs_images(self) -> bool:
        return self._agent.render_every < NEVER and self._steps % self._agent.render_every == 0

    def act(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        self._steps += 1
        return self._agent.act(dict(observation))


def available_actors(env: Any, policy: str) -> list[dict[str, str]]:
    """Who can act in an environment, by `name`, `kind` ("policy", "expert" or "hand") and the `label` that is shown.

    Args:
        env: the environment.
        policy: as `--policy`.
    """
    label = "Expert" if policy == "expert" else short_name(policy)
    found = [{"name": policy, "kind": "policy", "label": label}]
    if hasattr(env.unwrapped, "expert") and policy != "expert":
        found.append({"name": "expert", "kind": "expert", "label": "Expert"})
    if env.action_space.shape == (7,):
        found.append({"name": HAND, "kind": "hand", "label": "My hand"})
    return found


def load_actor(name: str, device: str = "cpu", observation: Mapping[str, Any] | None = None) -> Actor:
    """The actor that `--policy NAME` means.

    Args:
        name: see `rf_agent.evaluation.agents`.
        device: where a policy computes.
        observation: one of the environment, for a first prediction that is thrown away: it takes longer than the rest.

    Raises:
        UserError: there is no such policy, or it does not fit the observation.
    """
    if not has_network(name):
        return AgentActor(load_agent(name, device))
    policy = load_policy(name, device)
    if policy.config.head.ensemble is not None:  # a mean of chunks is no chunk that could be shown
        return AgentActor(as_agent(policy))
    if observation is not None:
        policy.predict_action_chunk(observation)
        policy.reset()
    return PolicyActor(policy)
