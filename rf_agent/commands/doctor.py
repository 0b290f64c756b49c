"""`rf-agent doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rf_agent import installation
from rf_agent.errors import UserError
from rf_agent.files import check_result_path, write_json
from rf_agent.installation import Finding
from rf_agent.versions import versions

STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


@dataclass(kw_only=True)
class Args:
    """Say what this machine can do, and what to install for the rest. Exits 0 if the bundled policy and the play
    table work."""

    calvin_root: Path | None = None
    """A clone of calvin_env; if not given, the one that CALVIN_ENV_ROOT names, or the installed package."""
    output: Path | None = None
    """A JSON file for the findings."""


def run(args: Args) -> None:
    """Diagnose, print a table and what to do. What does not work by default is an error."""
    if args.output:
        check_result_path(args.output)
    console = Console(highlight=False)
    with console.status("trying"):
        groups = installation.diagnose(args.calvin_root)
    console.print(_table(groups))
    findings = [finding for group in groups.values() for finding in group]
    rest = [finding for finding in findings if finding.state != "ok"]
    if rest:
        console.print("\nFor the rest:")
    for finding in rest:
        console.print(f"  {finding.name}: {finding.remedy}", markup=False, soft_wrap=True)
    failures = _failures(groups)
    if args.output:
        content = {"works": not failures, "versions": versions()}
        rows = {name: [asdict(finding) for finding in group] for name, group in groups.items()}
        write_json(args.output, {**content, "findings": rows})
        console.print(f"{args.output}", soft_wrap=True)
    if failures:
        raise UserError("; ".join(f"{failure.name} does not work here: {failure.detail}" for failure in failures))


def _failures(groups: dict[str, list[Finding]]) -> list[Finding]:
    """What `rf-agent rollout` without options would fail for."""
    needed = (installation.PLAY_TABLE, installation.POLICY)
    candidates = [*groups["environments"], *groups["policies"]]
    return [finding for finding in candidates if finding.name.startswith(needed) and finding.state != "ok"]


def _table(groups: dict[str, list[Finding]]) -> Table:
    table = Table("what", "state", "detail")
    for group, findings in groups.items():
        table.add_row(Text(group, style="bold"))
        for finding in findings:
            state = Text(finding.state, style=STYLES[finding.state])
            table.add_row(Text(f"  {finding.name}"), state, Text(finding.detail))
        table.add_section()
    return table
