"""Pre-training of a small VLM on images of the table, so that imitation starts from one that has seen it.

The paper starts from OpenFlamingo; a policy small enough for a CPU has no such ancestor.
`rf_agent.training.vl_objective` says what is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rf_agent.demos.grounding import SceneImageSet
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.presets import preset
from rf_agent.progress import Reporter, Silent
from rf_agent.training.loop import Loop
from rf_agent.training.settings import choose_device, command, prepare_output
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


def pretrain(config: PretrainConfig, reporter: Reporter | None = None) -> PretrainReport:
    """Pre-train a VLM; writes `config.output / "vlm"` (a policy checkpoint) and the curves.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad data or settings, before anything is written.
    """
    reporter = reporter or Silent()
    prepare_output(config)
    device = choose_device(config)
    policy = None if config.init is None else RoboFlamingoPolicy.from_pretrained(config.init, "cpu")
    data = SceneImageSet(config.images, policy.config if policy else preset(config.preset))
    if policy is None:
        policy = RoboFlamingoPolicy.from_preset(config.preset, data.corpus(), seed=config.seed)
    policy.to(device).requires_grad_(True)
    objective = PretrainObjective(config, policy, data)
    loop = Loop(config, objective.model, objective.loss, objective.evaluate, reporter)
    scalars = loop.run()
    report = PretrainReport(config.output / "vlm", objective.grounding, scalars)
    policy.eval().save_pretrained(report.output, card=_card(config, report))
    reporter.log(report.table())
    return report


def _card(config: PretrainConfig, report: PretrainReport) -> str:
    return (
        f"# {config.preset}, pre-trained VLM\n\n"
        "Its policy head is untrained: `rf-agent train --init` starts from it.\n\n"
        f"    {command('pretrain', config)}\n\n```\n{report.table()}\n```\n"
    )
