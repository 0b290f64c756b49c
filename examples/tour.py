"""Everything once, in five minutes on two cores: environment, policy, expert, demonstrations, training, evaluation.

    python examples/tour.py [--output runs/tour]

The lines `# %%` make it a notebook in VS Code, PyCharm and Spyder.
Needs `pip install -c constraints.txt -e '.[train]'`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from rf_agent import RoboFlamingoPolicy
from rf_agent.demos import read_demonstrations
from rf_agent.demos.collect import CollectConfig, collect
from rf_agent.demos.contact_sheet import contact_sheet
from rf_agent.demos.readers import open_demos
from rf_agent.evaluation import evaluate_agent
from rf_agent.evaluation.metrics import wilson_interval
from rf_agent.evaluation.video import compose
from rf_agent.progress import RichReporter
from rf_agent.training import TrainConfig, train

ENV = "rf/PlayTableD-v0"
STUDENT = "roboflamingo-tiny-17"  # trained on 17 of the 34 tasks: on KNOWN, not on NEW
KNOWN, NEW = "open_drawer", "place_in_drawer"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--output", type=Path, default=Path("runs/tour"))
parser.add_argument("--demos", type=int, default=10)
parser.add_argument("--steps", type=int, default=150, help="of the training")
parser.add_argument("--episodes", type=int, default=10, help="of each task in an evaluation")
parser.add_argument("--max-steps", type=int, default=360, help="of an episode")
args = parser.parse_args([] if "ipykernel" in sys.modules else None)
if min(args.demos, args.steps, args.episodes, args.max_steps) < 1:
    parser.error("--demos, --steps, --episodes and --max-steps are numbers from 1 on")


@contextmanager
def chapter(title: str) -> Iterator[None]:
    """Says what comes, and how long it took."""
    print(f"\n{title}", flush=True)
    begun = time.perf_counter()
    yield
    print(f"  ({time.perf_counter() - begun:.1f} s)", flush=True)


# %%
with chapter("1. An environment: a robot arm at a table with blocks, a drawer, a sliding door and lights"):
    env: Any = gym.make(f"rf_envs:{ENV}", max_steps=args.max_steps)
    observation, info = env.reset(seed=8, options={"instruction": "pick up the red block"})
    scene = env.unwrapped.scene_obs  # where everything is, to come back to
    for key, value in observation.items():
        print(f"  {key:<13} {value.dtype} {value.shape}")
    args.output.mkdir(parents=True, exist_ok=True)
    views = observation["rgb_static"], observation["rgb_gripper"]
    Image.fromarray(compose(*views, info["instruction"], "step 0", "running")).save(args.output / "observation.png")
    print(f"  both views and the instruction: {args.output / 'observation.png'}")


# %%
def play(act: Callable[[Any], np.ndarray], **options: Any) -> None:
    """An episode, and in a line what came of it."""
    observation, info = env.reset(seed=8, options=options)
    before, steps, done = block_positions(), 0, False
    while not done:
        observation, reward, terminated, truncated, info = env.step(act(observation))
        steps, done = steps + 1, terminated or truncated
    moved = {block: float(np.linalg.norm(now - before[block])) for block, now in block_positions().items()}
    most = max(moved, key=lambda block: moved[block])
    outcome = "success" if info["is_success"] else "failure"
    print(f'  "{info["instruction"]}": {outcome} after {steps} steps; {most} moved most, {100 * moved[most]:.0f} cm')


def block_positions() -> dict[str, np.ndarray]:
    """In metres; no policy is told."""
    return {name: np.array(block["current_pos"]) for name, block in env.unwrapped.scene_info["movable_objects"].items()}


with chapter("2. The bundled policy: another colour word in the same scene, another block"):
    bundled = RoboFlamingoPolicy.from_pretrained("roboflamingo-tiny")
    for color in ("red", "blue"):
        bundled.reset()  # forget the last episode
        play(bundled.act, scene_obs=scene, instruction=f"pick up the {color} block")

# %%
with chapter(f"3. The expert: it reads the simulator's state, and solves {NEW}, which {STUDENT} does not know"):
    student = RoboFlamingoPolicy.from_pretrained(STUDENT)
    play(student.act, task=NEW)
    expert = env.unwrapped.expert()
    play(lambda observation: expert.act(), task=NEW)

# %%
with chapter(f"4. The expert demonstrates {NEW} {args.demos} times, each time in another scene"):
    file, size = args.output / f"demos-{args.demos}.hdf5", student.config.image.size
    collect(  # with one worker in this process, which a notebook needs
        CollectConfig(output=file, env=(ENV,), tasks=(NEW,), episodes_per_task=args.demos, image_size=size, workers=1)
    )
    demos = read_demonstrations(file)
    print(f"  {len(demos)} demonstrations, {sum(len(demo.actions) for demo in demos)} actions: {file}")
    for demo in demos[:3]:
        print(f'  "{demo.instruction}": {len(demo.actions)} actions, images {demo.images["rgb_static"].shape}')
    contact_sheet(open_demos(file)).save(args.output / "demos.png")
    print(f"  first, middle and last images of one: {args.output / 'demos.png'}")

# %%
with chapter(f"5. Training: {STUDENT} learns from these demonstrations"):
    run = args.output / f"run-{args.demos}-demos-{args.steps}-steps"
    config = TrainConfig(
        demos=(file,),
        output=run,
        init=STUDENT,
        steps=args.steps,
        batch_size=8,
        learning_rate=5e-4,  # half the default: it has learned before
        ema_decay=0.95,  # the weights that count are an average over about 20 steps
        validation_fraction=0,  # so few demonstrations leave none to hold out
        resume=(run / "checkpoint.pt").exists(),  # the same tour again goes on where the last one ended
    )
    with RichReporter("  train", interval=10) as reporter:
        trained_at = train(config, reporter).output

# %%
scores: dict[tuple[str, str], int] = {}
with chapter("6. Evaluation: success with its 95 % interval, in scenes that neither has seen"):
    for name, policy in {"before": STUDENT, "after": str(trained_at)}.items():
        options = {"max_steps": args.max_steps}
        results = evaluate_agent(policy, ENV, tasks=(NEW, KNOWN), episodes_per_task=args.episodes, env_options=options)
        for task, count in results["tasks"].items():
            scores[name, task] = count["success"]
            low, high = wilson_interval(count["success"], count["total"])
            print(f"  {name:<7} {task:<16} {count['success']} of {count['total']} [{low:.0%}, {high:.0%}]", flush=True)

gain = {task: scores["after", task] - scores["before", task] for task in (NEW, KNOWN)}
print(f"""
{args.demos} demonstrations in {args.steps} steps {"teach" if gain[NEW] > 0 else "do not teach"} {NEW}, and the policy
{"forgets" if gain[KNOWN] < 0 else "keeps"} {KNOWN}. roboflamingo-tiny saw demonstrations of all its tasks. From here:

  rf-agent rollout  --policy {trained_at} --tasks {NEW} --output {args.output / "after.mp4"}
  rf-agent evaluate --policy {trained_at} --tasks {NEW} --env {ENV} --output {args.output / "scores"}
  rf-agent report   {args.output / "scores"} --output {args.output / "report.html"}
  rf-agent diagnose --policy {trained_at} --demos {file} --env {ENV}
  rf-agent serve    --policy {trained_at}
  rf-agent play     --policy {trained_at}

To read: docs/training.md, docs/evaluation.md, docs/serving.md. Your own robot: examples/custom_env.py.""")
