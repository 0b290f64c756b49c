"""Train a policy of the bundled one's size from nothing: images, demonstrations, imitation, its own mistakes, a score.

    python examples/train_tiny.py runs/tiny                          # scenes A to D, as the bundled policy
    python examples/train_tiny.py runs/abc --scenes A B C            # ABC to D: scene D is never seen
    python examples/train_tiny.py runs/calvin --world Calvin         # the real CALVIN, of the clone CALVIN_ENV_ROOT
    python examples/train_tiny.py runs/rehearsal --scale 0.004       # all of it in some minutes, good for nothing

Needs `pip install -c constraints.txt -e '.[train]'`. Each step is a command of `rf-agent`, which is printed. The same
line goes on where it was stopped. By what its parts take, two CPU cores need about six hours; it has not been run in
full yet. `--device cuda` shortens training, but not collection; so does `--mixed-precision bf16` on CPUs that have it.
In the end it plays chains in scene D.
The policy is OUTPUT/second/policy, and what was measured is in OUTPUT/chains_D.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rf_agent.demos.scene_images import scene_file
from rf_agent.errors import UserError
from rf_agent.progress import RichReporter
from rf_agent.reproduce.pipeline import Pipeline
from rf_agent.reproduce.stages import Stage

WEAK = ("stack_block", "unstack_block", "place_in_slider", "place_in_drawer", "push_into_drawer")
"""Tasks that need exact motions; they get more demonstrations."""
STATE = (
    *("head.proprioception=true", "head.state_dropout=0.1", "state.entries=[0,1,2,3,4,5]", "state.angles=[3,4,5]"),
    *("state.binary=null", "state.normalization=mean_std"),
)
"""The policy reads the gripper's pose, where an observation has it."""


class Recipe:
    """The stages of one policy.

    Args:
        scenes: those that it learns in.
        world: `PlayTable` or `Calvin`.
        scale: factor of all numbers of images, demonstrations, steps and chains.
        mixed_precision: number format in pre-training and training, as of `rf-agent train`.
    """

    def __init__(self, scenes: list[str], world: str, scale: float, mixed_precision: str = "auto") -> None:
        self.scenes, self.world, self.scale = scenes, world, scale
        self.precision = ("--mixed-precision", mixed_precision)
        self.options = ("--env-options", "renderer=tiny") if world == "Calvin" else ()

    def envs(self, kind: str = "") -> list[str]:
        """Environments of the training scenes."""
        return [f"rf/{self.world}{kind}{scene}-v0" for scene in self.scenes]

    def count(self, number: int, least: int = 1) -> str:
        """A number, scaled."""
        return str(max(least, round(self.scale * number)))

    def collect(self, name: str, kind: str, *words: str, policy: Stage | None = None) -> Stage:
        """Demonstrations, by the expert or with a policy that acts."""
        acting = () if policy is None else ("--policy", f"{policy.folder}/policy", "--patience", "120")
        command = ("collect", "--env", *self.envs(kind), *self.options, *words, "--image-size", "112", *acting)
        return Stage(name, command, () if policy is None else (policy,), file="demos.hdf5")

    def train(self, name: str, start: Stage, demos: list[Stage], steps: int, *words: str) -> Stage:
        """A policy that goes on from `start`."""
        checkpoint = f"{start.folder}/{'vlm' if start.kind == 'pretrain' else 'policy'}"
        command = ("train", "--demos", *(stage.output for stage in demos), "--init", checkpoint, *words)
        command += ("--steps", self.count(steps), "--evaluations", "4", *self.precision)
        return Stage(name, command, (start, *demos))

    def stages(self) -> list[Stage]:
        """All of them; the last one measures the policy."""
        each = len(self.scenes)
        # tables drawn at random, so that it looks where things are instead of remembering it of a few scenes
        drawn = ["rf/PlayTableRandom-v0"] if self.world == "PlayTable" else []
        count = self.count(10_000 * (len(drawn) + each), 64)
        seen = ("--env", *drawn, *self.envs(), *self.options, "--image-count", count)
        learning = ("--batch-size", "32", "--learning-rate", "1.5e-3", "--color-jitter", "0.2")
        vlm = Stage("vlm", ("pretrain", *seen, *learning, "--steps", self.count(6000), *self.precision))
        # what it goes on being asked about while it learns to act
        images = [f"{vlm.folder}/{scene_file(env)}.hdf5" for env in drawn]
        together = ("--vlm-lr-scale", "0.5", *(("--scene-images", *images) if images else ()))

        resets = self.collect("resets", "", "--episodes-per-task", self.count(48 // each), "--seed", "11")
        weak = ("--tasks", *WEAK, "--episodes-per-task", self.count(160 // each), "--seed", "12")
        exact = self.collect("exact", "", *weak)
        chains = self.collect("chains", "Chain", "--chains", self.count(800 // each), "--seed", "21")
        demos = [resets, exact, chains]
        head = self.train("head", vlm, demos, 1000, "--trainable", "head", "--override", *STATE)
        first = self.train("first", head, demos, 4000, *together)

        mistakes = ("--chains", self.count(240 // each), "--seed", "31")
        more = ("--tasks", *WEAK, "turn_on_lightbulb", "--episodes-per-task", self.count(120 // each), "--seed", "32")
        demos = [
            *demos,
            self.collect("mistakes", "Chain", *mistakes, policy=first),
            self.collect("exact_mistakes", "", *more, policy=first),
        ]
        second = self.train("second", first, demos, 8000, *together)

        played = ("--policy", f"{second.folder}/policy", "--chains", self.count(1000), *self.options)
        return [Stage("chains_D", ("evaluate", "--env", f"rf/{self.world}ChainD-v0", *played), (second,))]


def main() -> None:
    """Run what is left of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of everything that is made")
    parser.add_argument("--scenes", nargs="+", choices=list("ABCD"), default=list("ABCD"), help="scenes to learn in")
    parser.add_argument("--world", choices=("PlayTable", "Calvin"), default="PlayTable", help="simulator")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all numbers (default: 1)")
    parser.add_argument("--workers", type=int, help="simulator processes (default: all cores)")
    parser.add_argument("--device", default="auto", help="where networks compute (default: auto)")
    parser.add_argument("--mixed-precision", default="auto", help="number format in training (default: auto)")
    parser.add_argument("--jobs", type=int, default=1, help="commands that run at once and share the cores")
    args = parser.parse_args()
    if not args.scale > 0:
        parser.error(f"--scale is {args.scale}: give a number above 0")
    try:
        with RichReporter("train_tiny") as reporter:
            pipeline = Pipeline(args.output, args.workers, args.device, args.jobs, reporter=reporter)
            pipeline.run(Recipe(args.scenes, args.world, args.scale, args.mixed_precision).stages())
    except (UserError, ValueError) as error:
        raise SystemExit(f"train_tiny: {error}") from error


if __name__ == "__main__":
    main()
