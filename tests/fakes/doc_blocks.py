"""The code blocks of the documentation, and what can be said about a command without running it."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = {
    path.stem: path for path in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"] if "api" not in path.parts
}
"""Guides by name; the pages of the reference have no code of their own."""

STUBS = ("rf-agent", "python", "python3", "python3.12", "pip", "make", "git", "accelerate", "torchrun")
STUBS += ("lerobot-eval", "lerobot-train")
LEROBOTS = {"path", "push_to_hub", "type"}
"""Options of LeRobot's own policies that the pages name."""


class Block(NamedTuple):
    """A fenced block."""

    language: str
    code: str
    line: int


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order. Raises ValueError for a fence that is not closed."""
    found: list[Block] = []
    language, begun, code = "", 0, list[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            if begun:
                found.append(Block(language, "\n".join(code) + "\n", begun))
                begun = 0
            else:
                language, begun, code = line.strip().removeprefix("```"), number, []
        elif begun:
            code.append(line)
    if begun:
        raise ValueError(f"{path.name}:{begun}: the block is not closed")
    return found


def commands(code: str, folder: Path) -> list[list[str]]:
    """What a block of bash calls, with loops, variables and braces expanded, while every program is a stub.

    Raises:
        AssertionError: bash does not understand it, or it calls a program that the pages have no business with.
    """
    programs, record = folder / "stubs", folder / "called"
    programs.mkdir(exist_ok=True)
    for name in STUBS:
        stub = programs / name
        stub.write_text('#!/bin/bash\nprintf "%s\\x1f" "${0##*/}" "$@" >> "$RECORD"\nprintf "\\x1e" >> "$RECORD"\n')
        stub.chmod(0o755)
    for environment in (".venv", ".venv-lerobot"):
        (folder / environment / "bin").mkdir(parents=True, exist_ok=True)
        (folder / environment / "bin" / "activate").touch()
    record.write_text("")
    done = subprocess.run(
        ["/bin/bash", "-eu", "-o", "pipefail", "-c", code],
        env={"PATH": str(programs), "RECORD": str(record)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, f"{done.stderr}\nin\n{code}"
    return [line.split("\x1f")[:-1] for line in record.read_text().split("\x1e")[:-1]]


def check(words: list[str]) -> None:
    """Raise AssertionError for a command that would be refused, as far as it can be told without running it."""
    program, *rest = words
    if program in ("accelerate", "torchrun") or rest[:2] == ["-m", "rf_agent.cli"]:
        assert "rf_agent.cli" in rest, f"{words} starts nothing of ours"
        program, rest = "rf-agent", rest[rest.index("rf_agent.cli") + 1 :]
    checks = {"rf-agent": check_agent, "pip": check_pip, "make": check_make, "git": check_git}
    if program.startswith("python"):
        check_python(rest)
    elif program.startswith("lerobot-"):
        check_lerobot(rest)
    else:
        checks[program](rest)


def check_agent(words: list[str]) -> None:
    """A command line of `rf-agent`: options, presets, environments, tasks, changes, names of policies."""
    from rf_agent.cli import COMMANDS, command_module, parse
    from rf_agent.presets import BUNDLED, preset
    from rf_envs import TASKS

    assert words and words[0] in COMMANDS, f"there is no command {words}"
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            args = parse(command_module(words[0]).Args, words[0], words[1:])
    except SystemExit:
        raise AssertionError(f"rf-agent {' '.join(words)}: {complaint.getvalue()}") from None
    given: dict[str, Any] = vars(args)
    envs = given.get("env") or ()
    for env in (envs,) if isinstance(envs, str) else envs:
        if ":" not in env:
            import gymnasium

            assert env in gymnasium.registry, f"there is no environment {env}"
            unknown = set(given.get("tasks") or ()) - set(TASKS) if words[0] != "inspect" else set()
            assert not unknown, f"there are no tasks {unknown}"
    for name in (given.get("policy"), given.get("init")):
        if name and not re.search("[/:]", name):
            assert name in ("expert", "random") or (BUNDLED / name).is_dir(), f"no policy {name} is bundled"
    if words[0] in ("train", "benchmark"):
        preset(given["preset"] or "roboflamingo-tiny").changed(given.get("override") or ())


def check_pip(words: list[str]) -> None:
    """Extras, local projects and constraint files."""
    assert words[0] == "install", words
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # Python 3.10 has no tomllib
    section = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    known = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    for word in words[1:]:
        place, bracket, extras = word.partition("[")
        if bracket:
            assert set(extras.rstrip("]").split(",")) <= known, f"there is no extra {extras}"
        if place.endswith(".txt") or "/" in place or place == ".":
            assert (ROOT / place).exists(), f"there is no {place}"


def check_make(words: list[str]) -> None:
    """Targets."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for word in words:
        assert word in targets or "=" in word, f"there is no target {word}"


def check_git(words: list[str]) -> None:
    """Clones alone."""
    assert words[0] == "clone" and words[1].startswith("https://"), words


def check_python(words: list[str]) -> None:
    """Modules and scripts, and the options of the latter."""
    if words[0] == "-m":
        module = words[1]
        if module in ("venv", "pytest"):
            assert all((ROOT / word).exists() for word in words[2:] if module == "pytest")
            return
        (file,) = [
            path for path in (ROOT / "integrations").rglob("*.py") if module == f"{path.parent.name}.{path.stem}"
        ]
        words = words[2:]
    else:
        file, words = ROOT / words[0], words[1:]
    assert file.is_file(), f"there is no {file}"
    source = file.read_text(encoding="utf-8")
    if "rf_agent.cli import main" in source:
        return check_agent([file.stem, *words])
    for word in words:
        option = word.removeprefix("--").replace("-", "_")
        if word.startswith("--"):
            assert f'"{word}"' in source or re.search(rf"^    {option}:", source, re.MULTILINE), (
                f"{file.name} has no {word}"
            )


def check_lerobot(words: list[str]) -> None:
    """Options of `lerobot-eval` and `lerobot-train` that are about our policy and environments."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "integrations").rglob("*.py"))
    for option in re.findall(r"--(?:policy|env)\.(\w+)", " ".join(words)):
        assert option in LEROBOTS or re.search(rf"\b{option}\b", sources), f"no option {option}"


def spans(path: Path) -> Iterator[str]:
    """Commands in the text of a page, with their options."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from (span for span in re.findall(r"`(rf-agent [^`]*)`", text) if "--" in span)
