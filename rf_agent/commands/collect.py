"""`rf-agent collect`: demonstrations into an HDF5 file."""

from __future__ import annotations

from rf_agent.demos.collect import CollectConfig as Args
from rf_agent.demos.collect import collect
from rf_agent.progress import RichReporter

__all__ = ["Args", "run"]


def run(args: Args) -> None:
    """Collect, with a progress bar, and say what the file holds."""
    with RichReporter("collect") as reporter:
        report = collect(args, reporter)
        for task, number in report.demos.items():
            failed = report.failures.get(task, 0)
            reporter.log(f"  {task:<28} {number:4d} demos" + (f", {failed} failed attempts left out" if failed else ""))
        lost = {task: number for task, number in report.failures.items() if task not in report.demos}
        for task, number in lost.items():
            reporter.log(f"  {task:<28}    0 demos, {number} failed attempts left out")
        reporter.log(f"{report.output}: {sum(report.demos.values())} demonstrations, {report.samples} new steps")
    if not report.demos:
        raise RuntimeError("nothing was demonstrated: every attempt failed; raise --chains or --attempts")
    if report.missing:
        names = ", ".join(report.missing)
        raise RuntimeError(
            f"the expert gave up on {sum(report.missing.values())} demonstrations of {names} "
            f"after {args.attempts} scenes each: raise --attempts, or leave these tasks out with --tasks"
        )
