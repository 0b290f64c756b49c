"""The folder of a run: what may be written there, what must not be replaced, and what a run leaves of a killed one."""

from __future__ import annotations

import shutil
from pathlib import Path

from rf_agent.checkpoint import CONFIG, check_target
from rf_agent.checkpoint_files import CHECKPOINT
from rf_agent.config_values import first_difference
from rf_agent.errors import ConfigError, UserError
from rf_agent.policy_config import PolicyConfig
from rf_agent.training.bad_batch import BAD_BATCH
from rf_agent.training.curves import LOG, PICTURE, TENSORBOARD, WANDB_ID
from rf_agent.training.run_info import RUN
from rf_agent.training.settings import LoopConfig
from rf_agent.training.snapshots import BEST, EVALUATIONS, POLICIES, STEP

SNAPSHOTS = (BEST, "best.json", POLICIES, EVALUATIONS)
TRACES = (LOG, PICTURE, TENSORBOARD, WANDB_ID, BAD_BATCH, RUN)
"""What every run writes before its first checkpoint; its history is the last that goes."""


def prepare_output(config: LoopConfig, result: str) -> None:
    """Refuse early to overwrite a run, or to resume one that is not there.

    Args:
        config: of the run.
        result: folder of its policy, within `config.output`.

    Raises:
        FileExistsError, FileNotFoundError, CheckpointError: with what to do instead.
    """
    if config.output.exists() and not config.output.is_dir():
        raise FileExistsError(f"{config.output} is a file: choose another --output")
    check_target(config.output / result)  # else the run would end without a place for what it made
    exists = (config.output / CHECKPOINT).exists()
    if exists and not config.resume:
        raise FileExistsError(
            f"{config.output} already holds a run: add --resume to go on with it, or choose another --output"
        )
    if config.resume and not exists:
        raise FileNotFoundError(f"{config.output} holds no {CHECKPOINT} to resume: leave --resume out to start")
    if not exists and (config.output / result / CONFIG).exists():
        raise FileExistsError(f"{config.output / result} is the result of another run: choose another --output")


def check_leftovers(output: Path) -> None:
    """Refuse a folder in which a run would remove or replace what it has not made."""
    check_target(output / BEST)
    folders = (output / name for name in (POLICIES, EVALUATIONS))
    foreign = [path for folder in folders for path in folder.glob("*") if not path.name.lstrip(".").startswith(STEP)]
    if (own := output / CONFIG).exists():
        try:
            PolicyConfig.load(own)
        except ConfigError:
            foreign.append(own)
    if foreign:
        raise FileExistsError(
            f"{foreign[0]} is not of `rf-agent train`, which would replace it: choose another --output"
        )


def remove_traces(output: Path, *more: str) -> None:
    """Remove what a run left that was killed before its first checkpoint; without its history, only what `more` names
    and an old log."""
    for name in (*more, *(TRACES if (output / RUN).exists() else (LOG,))):
        old = output / name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)


def begin(output: Path, shape: PolicyConfig, resume: bool) -> None:
    """Keep the configuration that the run began with, or check that a resumed one has the same."""
    path = output / CONFIG
    if not resume:
        remove_traces(output, *SNAPSHOTS)
        shape.save(path)
    elif path.exists() and (begun := PolicyConfig.load(path)) != shape:
        key, before, now = first_difference(begun.to_dict(), shape.to_dict())
        raise UserError(
            f"{output} began with {key} {before!r}, but now it is {now!r}: resume with the same demonstrations "
            "and settings, or start another --output"
        )
