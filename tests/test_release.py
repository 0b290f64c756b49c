"""What is released: one version everywhere, and a wheel that works outside the source tree.

`RF_DIST` names a folder with a wheel and a source distribution; `make test-wheel` builds both and runs these tests.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from rf_agent import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = {"rf_agent": ROOT / "rf_agent", "rf_envs": ROOT / "envs" / "rf_envs"}
NAME = "roboflamingo-agent"
DIST = os.environ.get("RF_DIST")
built = pytest.mark.skipif(not DIST, reason="no wheel was built (RF_DIST); `make test-wheel` does")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere():
    latest = re.search(r"^## (\S+) \((.+)\)$", text("CHANGELOG.md"), re.MULTILINE)
    citation = yaml.safe_load(text("CITATION.cff"))
    assert latest is not None, "CHANGELOG.md begins with a section '## VERSION (YYYY-MM-DD)'"
    assert latest.groups() == (citation["version"], citation["date-released"])
    assert citation["version"] == __version__
    assert f'\nversion = "{__version__}"\n' in text("pyproject.toml")


def test_the_citation_names_the_paper():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the format asks for
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert paper["url"].endswith("2311.01378") and len(paper["authors"]) == 12


def one(pattern: str) -> Path:
    (path,) = Path(DIST or "").glob(pattern)
    return path.resolve()


def in_source() -> set[str]:
    """Files of the packages as git has them, by their paths in the wheel."""
    files = set()
    for name, folder in PACKAGES.items():
        listed = subprocess.run(["git", "ls-files"], cwd=folder, check=True, capture_output=True, text=True).stdout
        files |= {f"{name}/{line}" for line in listed.splitlines() if (folder / line).is_file()}
    return files


@built
def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else():
    with zipfile.ZipFile(one("*.whl")) as wheel:
        files = {name for name in wheel.namelist() if not name.endswith("/")}
    info = f"roboflamingo_agent-{__version__}.dist-info/"
    assert {name for name in files if not name.startswith(info)} == in_source()
    assert f"{info}licenses/LICENSE" in files


@built
def test_the_source_distribution_is_complete():
    """The wheel was built from it, so that nothing of the packages lacks."""
    with tarfile.open(one("*.tar.gz")) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"} <= files


def needed(lines: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions that fulfil some requirements, with all that these need in turn."""
    waiting: list[tuple[Requirement, tuple[str, ...]]] = [(Requirement(line), ()) for line in lines]
    found: dict[str, importlib.metadata.Distribution] = {}
    seen = set()
    while waiting:
        requirement, asked = waiting.pop()
        marker, name = requirement.marker, requirement.name.lower()
        key = (name, frozenset(requirement.extras))
        if key in seen or (marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *asked))):
            continue
        seen.add(key)
        found[name] = distribution = importlib.metadata.distribution(name)
        assert requirement.specifier.contains(distribution.version, prereleases=True), requirement
        waiting += [(Requirement(line), tuple(requirement.extras)) for line in distribution.requires or ()]
    return found


def top_level(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    """What a distribution has put into site-packages: files and folders."""
    site = Path(str(distribution.locate_file("")))
    for name in {Path(str(file)).parts[0] for file in distribution.files or ()}:
        if name not in ("..", "__pycache__") and (site / name).exists():
            yield site / name


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel and, linked from this one, what the wheel says that it needs.

    Nothing else can be imported there: no extras, no tools of development, no source tree. With `RF_DOWNLOAD` pip
    installs everything, as a user's does.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--quiet"]
    wheel = one("*.whl")
    if os.environ.get("RF_DOWNLOAD"):
        subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", wheel], check=True)
        return programs
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    requirements = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for distribution in needed(requirements).values():
        for path in top_level(distribution):
            if not (site / path.name).exists():
                (site / path.name).symlink_to(path)
    return programs


def output(*command: str | Path, cwd: Path) -> str:
    """What a command prints, run in a folder outside the source tree."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RF_"))}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@built
def test_the_installed_packages_are_the_wheels(installed, tmp_path):
    code = "import rf_agent, rf_envs; print(rf_agent.__file__, rf_envs.__file__, rf_agent.__version__)"
    *paths, version = output(installed / "python", "-c", code, cwd=tmp_path).split()
    assert all(path.startswith(str(installed.parent)) for path in paths) and version == __version__
    missing = subprocess.run([installed / "python", "-c", "import pytest"], cwd=tmp_path, capture_output=True)
    assert missing.returncode, "what was not asked for is not there"


@built
def test_pip_finds_what_the_wheel_needs(installed, tmp_path):
    output(installed / "python", "-m", "pip", "check", cwd=tmp_path)


@built
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="PyBullet has no wheel here")
def test_the_bundled_policy_acts_outside_the_source_tree(installed, tmp_path):
    assert output(installed / "rf-agent", "--version", cwd=tmp_path).split()[-1] == __version__
    output(installed / "rf-agent", "doctor", cwd=tmp_path)
    rolled = output(
        *(installed / "rf-agent", "rollout", "--tasks", "open_drawer", "turn_on_led", "--episodes", "2"),
        *("--output", str(tmp_path / "demo.gif")),
        cwd=tmp_path,
    )
    assert (tmp_path / "demo.gif").stat().st_size > 10_000, rolled


@built
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="PyBullet has no wheel here")
def test_a_report_has_its_templates(installed, tmp_path):
    """One episode, and the page about it."""
    folder = str(tmp_path / "run")
    tasks = ("--tasks", "turn_on_led", "--episodes-per-task", "1", "--workers", "1")
    output(installed / "rf-agent", "evaluate", "--env", "rf/PlayTableD-v0", *tasks, "--output", folder, cwd=tmp_path)
    output(installed / "rf-agent", "report", folder, "--output", str(tmp_path / "report.html"), cwd=tmp_path)
    assert "turn_on_led" in (tmp_path / "report.html").read_text(encoding="utf-8")
