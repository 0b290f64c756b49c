"""Train a policy on one GPU in minutes, from demonstrations that were packed small. No simulator is needed.

    rf-agent convert pack runs/*.hdf5 --image-size 112 --output packed.hdf5     # where the demonstrations are
    python examples/train_on_gpu.py packed.hdf5 runs/gpu --minutes 30           # on the machine with the GPU

The recipe combines those of trials 8 and 9 in docs/trials.md, as a GPU can afford it: the vision tower learns too, on
images that are shifted at random, in larger batches and in bfloat16. A second start goes on where the first one was
stopped. The result is OUTPUT/policy: copy it back to evaluate it.

Needs this repository and `pip install -e '.[train,data]'`; Gymnasium, PyBullet and tyro are not used. For a rehearsal
without a GPU:

    python examples/train_on_gpu.py packed.hdf5 runs/rehearsal --steps 3 --batch-size 2 --device cpu
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rf_agent.checkpoint_files import CHECKPOINT
from rf_agent.devices import resolve_device
from rf_agent.errors import UserError
from rf_agent.progress import RichReporter
from rf_agent.training import TrainConfig, train


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demos", type=Path, nargs="+", help="packed file, or several")
    parser.add_argument("output", type=Path, help="folder of the run")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, over all starts (default: 30)")
    parser.add_argument("--steps", type=int, help="end after so many, if the minutes are not over before")
    parser.add_argument("--init", default="roboflamingo-tiny", help="policy to begin with (default: roboflamingo-tiny)")
    parser.add_argument("--batch-size", type=int, default=64, help="sequences in a step; fewer if memory runs out")
    parser.add_argument("--workers", type=int, help="processes that read ahead (default: half the cores but one)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1 or cpu (default: auto)")
    args = parser.parse_args()
    resume = (args.output / CHECKPOINT).exists()
    try:
        config = TrainConfig(
            demos=tuple(args.demos),
            output=args.output,
            minutes=args.minutes,
            steps=args.steps,
            init=args.init,
            train_vision=True,
            random_shift=(3,),  # of every view
            vlm_lr_scale=0.6,
            batch_size=args.batch_size,
            evaluations=4,
            workers=args.workers,
            device=args.device,
            resume=resume,
        )
        with RichReporter("train") as reporter:
            if resolve_device(args.device).type == "cpu":
                reporter.log("training on the CPU, which takes many times as long: --batch-size 16 is enough for it")
            if resume:
                reporter.log(f"going on with the run in {args.output}")
            report = train(config, reporter)
            reporter.log(f"Policy: {report.output}")
    except (UserError, ValueError, FileNotFoundError, PermissionError) as error:
        sys.exit(f"train_on_gpu.py: {error}")


if __name__ == "__main__":
    main()
