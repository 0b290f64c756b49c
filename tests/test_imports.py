"""Who may import whom. Imports inside functions and for type checkers count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"rf_agent": ROOT / "rf_agent", "rf_envs": ROOT / "envs" / "rf_envs"}


def modules(name: str, folder: Path) -> dict[str, Path]:
    """All modules of a package by dotted name."""
    found = {}
    for path in folder.rglob("*.py"):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join((name, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def imported(source: str, known: set[str]) -> Iterator[str]:
    """What a module's source imports: modules of `known` where there is one, else the name as it is written."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports are not used here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def graph(sources: dict[str, str]) -> dict[str, set[str]]:
    known = set(sources)
    return {name: {other for other in imported(text, known) if other != name} for name, text in sources.items()}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Some modules that import each other in a circle, first and last the same; empty without one."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges[name] & edges.keys()):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


SOURCES = {
    name: path.read_text(encoding="utf-8")
    for package, folder in PACKAGES.items()
    for name, path in modules(package, folder).items()
}


def of(prefix: str) -> dict[str, set[str]]:
    return {name: others for name, others in graph(SOURCES).items() if f"{name}.".startswith(f"{prefix}.")}


def test_a_circle_is_found():
    sources = {
        "p.a": "from p import b",
        "p.b": "def f():\n    from p.c import x",
        "p.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import y",
        "p.d": "import p.a",
    }
    assert circle(graph(sources)) == ["p.a", "p.b", "p.c", "p.a"]
    assert circle(graph(sources | {"p.c": "import numpy"})) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other(package):
    assert circle(of(package)) == []


def test_the_packages_meet_only_through_gymnasium():
    assert len(of("rf_agent")) > 50 and len(of("rf_envs")) > 30  # what is walked is there
    for package, other in (("rf_agent", "rf_envs"), ("rf_envs", "rf_agent")):
        guests = {name for name, others in of(package).items() for o in others if o.split(".")[0] == other}
        assert not guests


def test_the_network_needs_torch_transformers_and_the_configuration_alone():
    import sys

    allowed = {"torch", "transformers", *sys.stdlib_module_names}
    for name, others in of("rf_agent.nn").items():
        strangers = {o for o in others if o.split(".")[0] not in allowed}
        assert {o for o in strangers if not o.startswith("rf_agent.nn") and o != "rf_agent.config"} == set(), name
