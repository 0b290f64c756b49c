"""Configurations of the heads that act by a latent plan: those of MCIL and HULC."""

from __future__ import annotations

from dataclasses import dataclass

from rf_agent.config import ConfigError, HeadConfig


@dataclass
class PlanHeadConfig(HeadConfig):
    """What MCIL and HULC have in common. `hidden` and `layers` are those of the recurrent decoder, `mlp` are layers
    between it and the actions; `window` is also for how many observation steps a plan is kept when acting."""

    goal: int = 32
    """Width of the latent goal space, in which language and images say the same."""
    goal_hidden: int = 2048
    """Width of the two hidden layers of each goal encoder."""
    proposal: tuple[int, ...] = (2048, 2048, 2048, 2048)
    """Hidden widths of the prior over plans."""
    recognition_hidden: int = 2048
    """Width of the posterior over plans: of each direction of MCIL's RNN, of the feed-forward layers of HULC's
    transformer."""
    recognition_layers: int = 2
    """Its layers."""
    mixtures: int = 10
    """Logistic distributions that are mixed for every entry of an action."""
    bins: int = 256
    """Values that an entry is rounded to in the likelihood."""
    beta: float = 0.01
    """Weight of the divergence between posterior and prior."""

    def check(self) -> None:
        """As `HeadConfig.check`."""
        super().check()
        positive = {"goal": 1, "goal_hidden": 1, "recognition_hidden": 1, "recognition_layers": 1, "mixtures": 1}
        for name, least in (positive | {"bins": 2}).items():
            if getattr(self, name) < least:
                raise ConfigError(f"head.{name} is {getattr(self, name)}, but it must be at least {least}.")
        if self.state_dropout:
            raise ConfigError(
                f"head.state_dropout is {self.state_dropout}, but a head that acts by a plan always reads the "
                "state that it was made for: set it to 0."
            )
        if self.beta < 0:
            raise ConfigError(f"head.beta is {self.beta}, but a weight is not negative; 0 leaves the prior untrained.")


@dataclass
class MCILHeadConfig(PlanHeadConfig):
    """MCIL's head: a Gaussian plan, recognised by a bidirectional RNN."""

    type: str = "mcil"
    plan: int = 256
    """Numbers of a plan."""

    def check(self) -> None:
        """As `HeadConfig.check`."""
        super().check()
        if self.plan < 1:
            raise ConfigError(f"head.plan is {self.plan}, but a plan has at least 1 number.")


@dataclass
class HULCHeadConfig(PlanHeadConfig):
    """HULC's head: a plan of categorical variables, recognised by a transformer that has `heads` attention heads.

    Without `gripper_frame` it acts in the world's frame, with any robot. Then `proprioception` must be off, too: the
    head reads nothing but the gripper's orientation of the robot's state.
    """

    type: str = "hulc"
    categoricals: int = 32
    """Categorical variables of a plan."""
    classes: int = 32
    """Values of each of them."""
    balance: float = 0.8
    """Share of the divergence's gradient that moves the prior; the rest moves the posterior (KL balancing)."""
    sequence: int = 4096
    """Width of the embedding of a whole window."""
    contrastive: float = 3.0
    """Weight of the contrastive loss between windows and instructions; 0 for none."""
    gripper_frame: bool = True
    """Predict motions as the gripper sees them instead of the world: for CALVIN's robot alone."""
    local: bool = True
    """The decoder sees the last view alone, the camera at the gripper; the plan is made of all of them."""
    proprioception: bool = True
    """Read the gripper's orientation; goes with `gripper_frame`."""

    def check(self) -> None:
        """As `HeadConfig.check`."""
        super().check()
        for name, least in (("categoricals", 1), ("classes", 2), ("sequence", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"head.{name} is {getattr(self, name)}, but it must be at least {least}.")
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"head.balance is {self.balance}, but it is a share: give a number from 0 to 1.")
        if self.contrastive < 0:
            raise ConfigError(f"head.contrastive is {self.contrastive}, but a weight is not negative; 0 is none.")
        if self.gripper_frame != self.proprioception:
            raise ConfigError(
                f"head.gripper_frame is {self.gripper_frame} and head.proprioception {self.proprioception}, but the "
                "head reads the robot's state for the gripper's frame and for nothing else: set both, or neither."
            )
