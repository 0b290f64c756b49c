"""The page in a browser: somebody types an instruction, sees the robot move, and sees the tick."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("uvicorn")
expect, sync_playwright = sync_api.expect, sync_api.sync_playwright

ROOT = Path(__file__).parents[3]
SECONDS = 60
"""For what takes one or two where the machine does nothing else."""


@contextlib.contextmanager
def serving(policy, recordings):
    """The address of a server with PyBullet's table."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [sys.executable, "-m", "rf_agent.cli", "play", "--policy", policy, "--port", "0"]
        + ["--recordings", str(recordings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        cwd=ROOT,
    )
    assert server.stdout is not None and server.stderr is not None
    line = server.stdout.readline()
    found = re.search(r"http://[\d.:]+", line)
    if not found:
        server.kill()
        pytest.fail(f"no address: {line}{server.stderr.read()}")
    yield found[0]
    server.send_signal(signal.SIGINT)
    assert server.wait(SECONDS) == 0
    assert "Traceback" not in server.stderr.read()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server where the expert acts."""
    with serving("expert", tmp_path_factory.mktemp("recordings")) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, address, script=""):
    """The page in a tab of its own, in which nothing goes wrong and which asks nobody else for anything.

    Args:
        script: runs before the page's own.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * SECONDS)
    page.add_init_script(script)
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    yield page
    page.close()
    assert not errors
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as page:
        page.goto(address)
        _wait(page, lambda: _frames(page) > 0)
        yield page


HELLO = {
    "type": "hello",
    "policy": "expert",
    "actors": [
        {"name": "expert", "kind": "policy", "label": "Expert"},
        {"name": "hand", "kind": "hand", "label": "My hand"},
    ],
    "scenes": [],
    "chains": False,
    "wordings": {},
    "renderer": "",
    "view": False,
}
ASKED = {"number": 1, "instruction": "go", "task": "", "not_scored": "", "outcome": "running", "steps": 3}
STATE = {
    "type": "state",
    "env": "fake/Task-v0",
    "seed": 0,
    "scene": None,
    "actor": "expert",
    "loading": False,
    "paused": False,
    "speed": 1.0,
    "rate": 0.0,
    "asked": None,
    "chain": None,
    "action_steps": None,
    "path": None,
    "gripper": "open",
    "keep": False,
    "video": False,
    "record": False,
    "kept": 0,
}
"""Messages of a table, as `rf_agent.play.session` makes them."""


class Pretended:
    """A table that says what a test wants it to, and hears what the page says."""

    def __init__(self, page, address, **hello):
        self.heard, self._socket = [], None
        page.route_web_socket(re.compile("/table$"), self._open)
        page.goto(address)
        _wait(page, lambda: self._socket is not None)
        self.say(HELLO | hello)

    def _open(self, socket):
        self._socket = socket
        socket.on_message(lambda text: self.heard.append(json.loads(text)))

    def say(self, message, **changes):
        self._socket.send(json.dumps(message | changes))

    def end(self, code):
        self._socket.close(code=code)


def _frames(page):
    return int(page.evaluate("document.body.dataset.frames || 0"))


def _pixels(page):
    return page.evaluate("document.getElementById('static').toDataURL()")


def _wait(page, true, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        page.wait_for_timeout(20)


def _ask(page, text):
    page.fill("#instruction", text)
    page.press("#instruction", "Enter")


def test_a_typed_instruction_moves_the_robot_and_ends_in_a_tick(page):
    words = "press the button and turn off the green light"  # which is on at first, with seed 0
    assert words in page.locator("#wordings option").evaluate_all("options => options.map((option) => option.value)")
    before, frames = _pixels(page), _frames(page)
    page.keyboard.press("/")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    expect(page.locator("#asked li span").nth(1)).to_have_text(words, timeout=1000 * SECONDS)
    _wait(page, lambda: _frames(page) > frames + 3)
    assert _pixels(page) != before
    expect(page.locator("#asked li.done .mark")).to_have_text("✓", timeout=1000 * SECONDS)
    expect(page.locator("#verdict")).to_have_text("✓ done")


def test_a_suggestion_is_asked_for(page):
    _wait(page, lambda: page.locator("#suggestions button").count() > 0)
    words = page.locator("#suggestions button").first.inner_text()
    page.locator("#suggestions button").first.click()
    expect(page.locator("#asked li span").nth(1)).to_have_text(words, timeout=1000 * SECONDS)
    page.click("#stop")


def test_the_bundled_policy_shows_where_it_goes(browser, tmp_path):
    with serving("roboflamingo-tiny", tmp_path) as address, opened(browser, address) as page:
        page.goto(address)
        _wait(page, lambda: _frames(page) > 0)
        expect(page.locator("#steps-row")).to_be_visible(timeout=1000 * SECONDS)  # it has been loaded
        expect(page.locator("#action-steps-value")).to_have_text("3 of 3")
        page.focus("#action-steps")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#action-steps-value")).to_have_text("2 of 3", timeout=1000 * SECONDS)
        before, frames = _pixels(page), _frames(page)
        _ask(page, "open the drawer")
        _wait(page, lambda: len((page.get_attribute("#path", "points") or "").split()) == 4)
        _wait(page, lambda: _frames(page) > frames + 3)
        assert _pixels(page) != before
        page.click("#stop")


def test_script_in_an_instruction_is_text(page):
    text = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    _ask(page, text)
    expect(page.locator("#asked li").first).to_contain_text(text, timeout=1000 * SECONDS)
    expect(page.locator("#notice-text")).to_have_text("The expert cannot do that: no known instruction asks for that.")
    assert page.evaluate("document.querySelectorAll('#asked script, #asked img').length") == 0


def test_the_keyboard_drives_the_robot(page):
    page.keyboard.press("h")
    expect(page.locator("#drive")).to_be_visible(timeout=1000 * SECONDS)
    before, frames = _pixels(page), _frames(page)
    page.keyboard.down("r")
    _wait(page, lambda: _frames(page) > frames + 3)
    page.keyboard.up("r")
    assert _pixels(page) != before
    page.keyboard.press("Space")
    expect(page.locator("#grip")).to_contain_text("Open gripper", timeout=1000 * SECONDS)


def test_a_scene_and_a_chain_can_be_chosen(page):
    page.locator("#scenes label", has_text="A").click()
    _wait(page, lambda: page.evaluate("document.querySelector('input[name=scene]:checked').value") == "A")
    page.fill("#chain", "2")
    page.press("#chain", "Enter")
    expect(page.locator("#chain-list li")).to_have_count(5, timeout=1000 * SECONDS)
    expect(page.locator("#asked li")).not_to_have_count(0)
    page.click("#stop")


def _check_width(page, width):
    """Whether everything on the page fits into the window."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """[...document.querySelectorAll('body *')].filter((e) => {
          const box = e.getBoundingClientRect(), list = e.closest('.chips, #log');
          return box.width && (!list || e === list) && (box.left < 0 || box.right > innerWidth + 0.5);
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    cut = page.evaluate(
        """[...document.querySelectorAll('button, label, h1, h2, p')].filter((e) => e.offsetParent !== null
        && e.scrollWidth > e.clientWidth + 1 && e.clientWidth).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert cut == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_of_the_page(page, width, scheme, tmp_path):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    page.keyboard.press("h")
    expect(page.locator("#drive")).to_be_visible(timeout=1000 * SECONDS)
    _check_width(page, width)
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button')].filter((e) => e.offsetParent !== null
        && !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    page.screenshot(path=tmp_path / "page.png")
    corner = np.asarray(Image.open(tmp_path / "page.png").convert("L"))[-4:, :4].mean()  # of the page itself
    assert corner > 230 if scheme == "light" else corner < 40


LONG = "PickPlaceObjectIntoTheTallContainer"


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_long_names_fit_into_the_window(browser, address, width):
    with opened(browser, address) as page:
        page.set_viewport_size({"width": width, "height": 844})
        policy = {"name": "x", "kind": "policy", "label": "checkpoint.step00020000.without-augmentation.ema.fp16"}
        table = Pretended(
            page,
            address,
            actors=[policy, *HELLO["actors"]],
            scenes=[f"{LONG}-v0", "B"],
            chains=True,
            wordings={LONG: [LONG]},
            renderer="software_rasterizer_of_the_embedded_simulator",
        )
        table.say({"type": "possible", "tasks": [LONG]})
        asked = ASKED | {"instruction": LONG, "task": LONG, "not_scored": f"there_is_no_task_named_{LONG}"}
        table.say({"type": "asked"} | asked)
        table.say({"type": "file", "kind": "video", "name": "play-20260101-120000-1-1.mp4"})
        table.say({"type": "problem", "text": f"There is no {LONG}."})
        chain = {"index": 0, "tasks": [[LONG, LONG]] * 5, "completed": 1, "outcome": "running"}
        env = "mine/ReachWithObstaclesAndDistractors-v0"
        table.say(STATE, env=env, actor="hand", scene="B", asked=asked, chain=chain, record=True, keep=True)
        expect(page.locator("#chain-list li")).to_have_count(5)
        expect(page.locator("#actors label")).to_have_text([policy["label"], "Expert", "My hand"])
        _check_width(page, width)


@pytest.mark.parametrize(("key", "sent"), [("p", "pause"), ("P", "pause"), ("h", "actor"), ("H", "actor")])
def test_keys_work_with_caps_lock_too(browser, address, key, sent):
    with opened(browser, address) as page:
        table = Pretended(page, address)
        table.say(STATE)
        expect(page.locator("#status-text")).to_have_text("ready")
        page.keyboard.press(key)
        _wait(page, lambda: [message["do"] for message in table.heard] == [sent], 10)


def test_a_slow_page_shows_the_outcome_in_the_end(browser, address):
    with opened(browser, address) as page:
        table = Pretended(page, address)
        done = ASKED | {"outcome": "done", "steps": 4}
        table.say(STATE, asked=ASKED)
        table.say({"type": "asked"} | ASKED)
        table.say({"type": "asked"} | done)
        table.say(STATE, asked=ASKED)  # an older state, which waited while the page was busy
        table.say(STATE, asked=done)
        expect(page.locator("#asked li.done .mark")).to_have_text("✓")
        expect(page.locator("#asked small")).to_have_text("done in 4 steps")


def test_the_page_keeps_the_first_reason_of_the_end(browser, address):
    with opened(browser, address) as page:
        table = Pretended(page, address)
        table.say(STATE)
        table.say({"type": "fatal", "text": "There is no such table."})
        table.say({"type": "ended", "text": "Perhaps for want of memory."})
        table.end(1011)
        expect(page.locator("#status-text")).to_have_text("not connected")
        expect(page.locator("#notice-text")).to_have_text("There is no such table.")


def test_a_person_may_keep_only_what_is_not_judged(browser, address):
    with opened(browser, address) as page:
        table = Pretended(page, address)
        table.say(STATE, asked=ASKED, record=True)
        expect(page.locator("#record")).to_have_text("● Demonstrations (0)")
        expect(page.locator("#keep")).to_be_hidden()
        unknown = ASKED | {"not_scored": "nobody knows that"}
        table.say({"type": "asked"} | unknown)
        table.say(STATE, asked=unknown, record=True, keep=True)
        page.click("#keep")
        _wait(page, lambda: {"do": "keep"} in table.heard)
        table.say({"type": "asked"} | unknown | {"outcome": "kept"})
        expect(page.locator("#asked .mark")).to_have_text("+")
        expect(page.locator("#asked small")).to_have_text("kept as done after 3 steps · not scored: nobody knows that")


GAMEPADS = """
window.held = false;
const pad = (pressed) => ({ axes: [0, 0, 0, 0], buttons: [{ pressed }] });
navigator.getGamepads = () => [null, pad(window.held), pad(false)];
"""


def test_a_button_that_is_held_on_one_of_two_gamepads_counts_once(browser, address):
    with opened(browser, address, GAMEPADS) as page:
        table = Pretended(page, address)
        table.say(STATE, actor="hand")
        expect(page.locator("#drive")).to_be_visible()
        for _ in range(2):
            page.evaluate("window.held = true")
            page.wait_for_timeout(600)
            page.evaluate("window.held = false")
            page.wait_for_timeout(200)
        assert [message["gripper"] for message in table.heard if message.get("gripper") != "keep"] == ["close"] * 2
