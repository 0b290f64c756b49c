"""Pre-training of a small VLM on images of the table, so that imitation starts from one that has seen it.

The paper starts from OpenFlamingo; a policy small enough for a CPU has no such ancestor.
`rf_agent.training.vl_objective` says what is learned.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from rf_agent import checkpoint
from rf_agent.demos.grounding import SceneImageSet
from rf_agent.devices import resolve_device
from rf_agent.errors import UserError, require
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.policy_config import PolicyConfig
from rf_agent.presets import find_checkpoint, preset
from rf_agent.progress import Reporter, Silent
from rf_agent.training.building import build_policy
from rf_agent.training.callbacks import Callback
from rf_agent.training.engine import choose_precision, make_accelerator
from rf_agent.training.loop import Loop
from rf_agent.training.run_folder import prepare_output, remove_traces
from rf_agent.training.run_info import RunInfo, check_same_data, contents
from rf_agent.training.settings import command
from rf_agent.training.vl_objective import PretrainConfig, PretrainObjective


@dataclass
class PretrainReport:
    """How well the pre-trained model finds objects in held-out images."""

    output: Path
    """Checkpoint directory of the model (a policy whose head is untrained)."""
    grounding: dict[str, dict[str, float]]
    """Per object: `median` and `mean` error in cm, asked for by its name; `instruction`: median, asked by
    instructions."""
    scalars: dict[str, float]
    """The last validation."""

    def table(self) -> str:
        """The grounding errors as text."""
        lines = [f"{'grounding error (cm)':<24}{'median':>8}{'mean':>8}{'by instruction':>16}"]
        for name, error in sorted(self.grounding.items()):
            by = f"{error['instruction']:16.2f}" if "instruction" in error else f"{'-':>16}"
            lines.append(f"{name:<24}{error['median']:8.2f}{error['mean']:8.2f}{by}")
        return "\n".join(lines)


def own_config(config: PretrainConfig) -> PolicyConfig:
    """The configuration of what is pre-trained: that of `init`, else of `preset`."""
    return preset(config.preset) if config.init is None else checkpoint.read_config(find_checkpoint(config.init))


def check_settings(config: PretrainConfig) -> None:
    """Refuse what cannot be pre-trained, or not here, before images are rendered for it.

    Raises:
        ImportError: accelerate is not installed.
        DeviceError, UserError: there is no such device, the machine cannot compute in the number format, a setting is
            one of imitation alone, or the policy is not made of a vision-language model.
    """
    if config.fsdp:
        raise UserError("--fsdp is for `rf-agent train`: a model small enough to pre-train here fits every process")
    if config.gradient_accumulation > 1:
        raise UserError("--gradient-accumulation is for `rf-agent train`: give a smaller --batch-size here")
    require("accelerate", "training", "'roboflamingo-agent[train]'")
    choose_precision(config.mixed_precision, resolve_device(config.device))
    own = own_config(config)
    if own.type != RoboFlamingoPolicy.config_class.type:
        given = f"--preset {config.preset}" if config.init is None else f"--init {config.init}"
        raise UserError(
            f"{given} is of type {own.type!r}, but a vision-language model is pre-trained: give a preset of "
            "RoboFlamingo; other types begin from the result with `rf-agent train --init`"
        )


def pretrain(config: PretrainConfig, reporter: Reporter | None = None) -> PretrainReport:
    """Pre-train a VLM; writes `config.output / "vlm"` (a policy checkpoint) and the curves.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad data or settings, before anything is written.
    """
    reporter = reporter or Silent()
    prepare_output(config, "vlm")
    check_settings(config)
    accelerator = make_accelerator(config)
    if config.batch_size % accelerator.num_processes:
        raise UserError(
            f"--batch-size is {config.batch_size}, which {accelerator.num_processes} processes cannot share: give a "
            "multiple of their number"
        )
    reporter = reporter if accelerator.is_main_process else Silent()
    start = None if config.init is None else RoboFlamingoPolicy.from_pretrained(config.init, "cpu")
    shape = preset(config.preset) if start is None else dataclasses.replace(start.config, trained=False, tasks=())
    data = SceneImageSet(config.images, shape)
    # a head that has learned does not fit what becomes of its vision-language model
    policy = build_policy(shape, start, data.corpus(), seed=config.seed, init_head=False, trainable="full")
    assert isinstance(policy, RoboFlamingoPolicy)
    policy.to(accelerator.device).requires_grad_(True)
    share = dataclasses.replace(config, batch_size=config.batch_size // accelerator.num_processes)
    objective = PretrainObjective(share, policy, data)

    def batches(first_step: int) -> Generator[list[tuple[list[int], float]], None, None]:
        """Of each step and process the seed of the generator with which it draws its images."""
        rank, count = accelerator.process_index, accelerator.num_processes
        for step in itertools.count(first_step):
            yield [([config.seed, step, rank], 1 / count)]

    callbacks: list[Callback] = []
    if accelerator.is_main_process:
        started = (
            config.output,
            command("pretrain", config),
            config,
            {
                "files": [],
                "scene_images": data.facts,
                "contents": contents(config),
            },
        )
        if config.resume:
            check_same_data(config.output, started[-1])
        else:
            remove_traces(config.output)
        callbacks.append(RunInfo(*started))
    loop = Loop(
        config, _Step(objective), batches, lambda _: objective.evaluate(), reporter, accelerator, callbacks=callbacks
    )
    scalars = loop.run()
    report = PretrainReport(config.output / "vlm", objective.grounding, scalars)
    if accelerator.is_main_process:
        policy.eval().save_pretrained(report.output, card=_card(config, report))
    accelerator.wait_for_everyone()
    reporter.log(report.table())
    return report


class _Step(nn.Module):
    """The objective as the module that processes share."""

    def __init__(self, objective: PretrainObjective) -> None:
        super().__init__()
        self.model, self._loss = objective.model, objective.loss

    def forward(self, seed: list[int], progress: float) -> tuple[Tensor, dict[str, Any]]:
        """Loss and scalars of images drawn by a generator with this seed."""
        return self._loss(np.random.default_rng(seed), progress)


def _card(config: PretrainConfig, report: PretrainReport) -> str:
    return (
        f"# {config.preset if config.init is None else Path(config.init).name}, pre-trained VLM\n\n"
        "Its policy head is untrained: `rf-agent train --init` starts from it.\n\n"
        f"    {command('pretrain', config)}\n\n```\n{report.table()}\n```\n"
    )
