"""The documentation is true: its Python runs, its commands are understood or run, its links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import demo_files
import gymnasium as gym
import numpy as np
import pytest
import yaml
from doc_blocks import PAGES, ROOT, blocks, check, commands, spans

from rf_agent.cli import main
from rf_agent.demos import Demonstration, write_demonstrations

LANGUAGES = {"python", "bash", "text"}
PYTHON_PAGES = [name for name, path in PAGES.items() if any(block.language == "python" for block in blocks(path))]
SIMULATED = {"README", "getting-started", "environments", "evaluation", "extending"}
"""Pages whose Python makes a play table."""
pybullet = pytest.mark.skipif(importlib.util.find_spec("pybullet") is None, reason="PyBullet is not installed")


# --- what is written down ---


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_its_language(page):
    for block in blocks(PAGES[page]):
        assert block.language in LANGUAGES, f"{page}:{block.line}: a block of {block.language or 'no'} language"


@pytest.mark.parametrize("page", PAGES)
def test_commands_would_be_understood(page, tmp_path):
    for block in blocks(PAGES[page]):
        if block.language == "bash":
            called = commands(block.code, tmp_path)
            assert called, f"{page}:{block.line}: the block calls nothing"
            for words in called:
                check(words)


@pytest.mark.parametrize("page", ["README", "measurements"])
def test_the_commands_of_the_numbers_would_be_understood(page, tmp_path):
    found = [*spans(PAGES[page])]
    assert len(found) >= 4
    for span in found:
        for words in commands(span, tmp_path):
            check(words)


@pytest.mark.parametrize(
    "line",
    [
        "rf-agent train --demo mine.hdf5 --output runs/mine",
        "rf-agent fly --policy expert",
        "rf-agent evaluate --env rf/PlayTableE-v0 --output runs/x",
        "rf-agent evaluate --env rf/PlayTableD-v0 --tasks open_the_drawer --output runs/x",
        "rf-agent train --demos mine.hdf5 --preset roboflamingo-huge --output runs/x",
        "rf-agent train --demos mine.hdf5 --override head.kind=gpt --output runs/x",
        "rf-agent rollout --policy roboflamingo-small",
        "accelerate launch -m rf_agent.cli train --demo mine.hdf5 --output runs/mine",
        "python examples/none.py",
        "python examples/tour.py --hours 3",
        "python examples/rollout.py --film",
        "python -m lerobot_policy_roboflamingo.convert to-lerobot x --into y",
        "pip install '.[everything]'",
        "make everything",
        "lerobot-eval --env.wind=3",
        "curl https://example.org",
        "for x in 1 2; do rf-agent doctor",
    ],
)
def test_a_wrong_command_is_found(line, tmp_path):
    with pytest.raises((AssertionError, ValueError)):
        for words in commands(line, tmp_path):
            check(words)


# --- Python ---


@pytest.mark.parametrize("page", [pytest.param(p, marks=pybullet if p in SIMULATED else ()) for p in PYTHON_PAGES])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """Its blocks, in order, in one namespace. A block of text after one of Python is what that prints."""
    monkeypatch.chdir(tmp_path)
    found = blocks(PAGES[page])
    names: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(registries())
        replace = PREPARE.get(page, lambda names, stack: {})(names, stack)
        for number, block in enumerate(found):
            if block.language != "python":
                continue
            code = block.code
            for old, new in replace.items():
                code = code.replace(old, new)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * block.line + code, str(PAGES[page]), "exec"), names)
            if found[number + 1 : number + 2] and found[number + 1].language == "text":
                assert printed.getvalue() == found[number + 1].code
            if page == "your-robot" and Path("mine.hdf5").exists() and not Path("runs").exists():
                train_in_small("mine.hdf5", "runs/mine")
    CONCLUDE.get(page, lambda names: None)(names)


@contextlib.contextmanager
def registries():
    """What a page registers is forgotten afterwards."""
    from rf_agent.nn.fusion import FUSIONS
    from rf_agent.nn.heads import HEADS
    from rf_agent.nn.losses import POSE_LOSSES

    known = [(registry, dict(registry)) for registry in (FUSIONS, HEADS, POSE_LOSSES, gym.registry)]
    try:
        yield
    finally:
        for registry, before in known:
            for name in registry.keys() - before.keys():
                del registry[name]


def train_in_small(demos, output):
    from rf_agent.training import TrainConfig, train

    small = {"preset": "roboflamingo-test", "device": "cpu", "threads": 1, "sequence_length": 6}
    train(TrainConfig(demos=(Path(demos),), output=Path(output), steps=1, batch_size=1, validation_fraction=0, **small))


def robots_arrays(names, stack):
    rng, steps = np.random.default_rng(0), 20
    names["frames"], names["wrist_frames"] = rng.integers(0, 255, (2, steps, 32, 32, 3)).astype(np.uint8)
    names["actions"] = rng.normal(size=(steps, 4)).astype(np.float32)
    names["actions"][:, 3] = np.arange(steps) > 10
    names["state"] = rng.normal(size=(steps, 6)).astype(np.float32)
    return {}


def a_file(names, stack):
    Path("runs").mkdir()
    demo_files.make_store(Path("runs/demos.hdf5"))
    return {}


def a_run(names, stack):
    demo_files.make_store(Path("mine.hdf5"))
    small = 'steps=2, batch_size=2, sequence_length=6, preset="roboflamingo-test", device="cpu", threads=1'
    return {"steps=1000": small}


def a_server(names, stack):
    """One of ours, and what stands in for `openpi_client`, which needs another NumPy."""
    from rf_agent import RoboFlamingoPolicy
    from rf_agent.serving.server import PolicyServer

    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", ["open the drawer"], seed=0)
    server = stack.enter_context(PolicyServer(policy, port=0, api_key="..."))
    names |= {"image": np.zeros((200, 200, 3), np.uint8), "wrist": np.zeros((84, 84, 3), np.uint8), "first": True}
    names |= {"state": np.zeros(15, np.float32)}
    monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
    for name, classes in {
        "action_chunk_broker": [ActionChunkBroker],
        "websocket_client_policy": [WebsocketClientPolicy],
    }.items():
        module = types.ModuleType(f"openpi_client.{name}")
        for one in classes:
            setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "openpi_client", types.ModuleType("openpi_client"))
    port = server.url.rpartition(":")[2]
    return {"192.168.0.7:8000": f"127.0.0.1:{port}", '"192.168.0.7", 8000': f'"127.0.0.1", {port}'}


class WebsocketClientPolicy:
    """As openpi's: what the server sends at first are its metadata, then every message is answered."""

    def __init__(self, host, port, api_key=None):
        from websockets.sync.client import connect

        from rf_agent.serving.codec import unpack

        headers = {"Authorization": f"Api-Key {api_key}"}
        self.connection = connect(f"ws://{host}:{port}", compression=None, additional_headers=headers).__enter__()
        self.metadata = unpack(self.connection.recv())

    def get_server_metadata(self):
        return self.metadata

    def infer(self, observation):
        from rf_agent.serving.codec import pack, unpack

        self.connection.send(pack(observation))
        return unpack(self.connection.recv(10))


class ActionChunkBroker:
    """As openpi's, for the first action of a chunk."""

    def __init__(self, policy, action_horizon):
        self.policy, self.was_reset = policy, False
        assert action_horizon == 2  # that of roboflamingo-test

    def reset(self):
        self.was_reset = True

    def infer(self, observation):
        assert self.was_reset or not observation["reset"]  # else it would hand out what is left of the last episode
        return {"actions": self.policy.infer(observation)["actions"][0]}


PREPARE = {
    "your-robot": robots_arrays,
    "your-data": a_file,
    "training": a_run,
    "extending": a_run,
    "serving": a_server,
}


def succeeded(names):
    assert names["info"]["is_success"]


def trained_with_both(names):
    succeeded(names)
    config = (names["report"].output / "config.json").read_text()
    assert '"type": "gru"' in config and '"pose": "log_cosh"' in config


CONCLUDE = {
    "README": succeeded,
    "getting-started": succeeded,
    "extending": trained_with_both,
    "evaluation": lambda names: names["results"]["success_rate"]["1"]["rate"] == 0 or pytest.fail("it stood still"),
    "your-robot": lambda names: names["action"].shape == (4,) or pytest.fail("another robot"),
    "serving": lambda names: names["action"].shape == (7,) or pytest.fail("another robot"),
}


# --- the first half hour ---

SMALL = {"--episodes": "1", "--episodes-per-task": "1", "--steps": "2", "--batch-size": "2", "--video-episodes": "1"}
MORE = {
    "rollout": ["--env-options", "max_steps=20", "--device", "cpu"],
    "evaluate": ["--env-options", "max_steps=9", "--workers", "1", "--device", "cpu"],
    "collect": ["--workers", "1"],
    "train": ["--device", "cpu", "--threads", "1"],
    "diagnose": ["--episodes", "1", "--device", "cpu"],
}


@pybullet
@pytest.mark.slow
def test_getting_started_is_what_a_reader_would_do(tmp_path, monkeypatch, capfd):
    """All commands of the page in its order, with fewer episodes and steps."""
    every = [
        words
        for block in blocks(PAGES["getting-started"])
        if block.language == "bash"
        for words in commands(block.code, tmp_path)
    ]
    monkeypatch.chdir(tmp_path)
    done = []
    for program, *words in every:
        if program != "rf-agent":
            continue
        for option, value in SMALL.items():
            if option in words:
                words[words.index(option) + 1] = value
        with pytest.raises(SystemExit) as ended:
            main([*words, *MORE.get(words[0], [])])
        assert ended.value.code == 0, f"{words}: {capfd.readouterr().err}"
        done.append(words[0])
    order = [
        "doctor",
        "rollout",
        "rollout",
        "collect",
        "inspect",
        "train",
        "evaluate",
        "evaluate",
        "report",
        "diagnose",
    ]
    assert done == order
    page = Path("runs/report.html").read_text(encoding="utf-8")
    assert "before" in page and "after" in page
    for file in (
        "red.mp4",
        "demos.png",
        "drawer/policy/model.safetensors",
        "after/results.json",
        "diagnosis/diagnosis.json",
    ):
        assert (tmp_path / "runs" / file).stat().st_size > 100


def test_inspect_a_robots_own_file(tmp_path, monkeypatch, capfd):
    """The commands of your-robot.md, on its own file."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    robots_arrays(names, None)
    demo = Demonstration({"front": names["frames"]}, names["actions"], "reach the red ball", "reach")
    write_demonstrations("mine.hdf5", [demo], fps=20, gripper=3)
    (inspect, *_) = [block.code for block in blocks(PAGES["your-robot"]) if "rf-agent inspect" in block.code]
    (words,) = commands(inspect, tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words[1:])
    assert ended.value.code == 0 and (tmp_path / "mine.png").exists()
    assert "No problems found." in capfd.readouterr().out


# --- the site ---

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def navigation(entries):
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from navigation(target) if isinstance(target, list) else [target]


def test_the_site_has_every_page():
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    listed = [*navigation(SITE["nav"])]
    assert sorted(listed) == sorted(there)


def anchors(path: Path) -> set[str]:
    """Of the headings of a page."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("path", [*PAGES.values(), *sorted((ROOT / "docs" / "api").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{path.name} links to {target}"


def test_what_the_reference_shows_is_there():
    names = [
        n for p in (ROOT / "docs" / "api").glob("*.md") for n in re.findall(r"^::: (\S+)$", p.read_text(), re.MULTILINE)
    ]
    assert len(names) > 60
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            shown = getattr(importlib.import_module(module), attribute)
        except AttributeError:
            shown = importlib.import_module(name)
        assert shown.__doc__, f"{name} has no docstring"


def test_the_picture_says_the_shapes_of_the_bundled_policy():
    """concepts.md prints them, so the picture is compared with the page."""
    picture = (ROOT / "docs" / "images" / "observation-to-action.svg").read_text(encoding="utf-8")
    (printed,) = [block.code for block in blocks(PAGES["concepts"]) if block.language == "text"]
    shapes = [line.replace("(1, ", "(", 1) for line in printed.splitlines()]
    for shape in (*shapes[:4], "(192,)"):
        assert shape in picture


def test_no_page_names_a_place_of_this_machine():
    for path in PAGES.values():
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users)/", path.read_text(encoding="utf-8")), path.name


def test_the_tests_find_what_they_collect():
    assert len(PAGES) >= 18 and len(PYTHON_PAGES) >= 8
    assert os.path.basename(PAGES["README"]) == "README.md"
