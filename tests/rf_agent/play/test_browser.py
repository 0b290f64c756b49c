"""The page in a browser: somebody types an instruction, sees the robot move, and sees the tick."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("uvicorn")
expect, sync_playwright = sync_api.expect, sync_api.sync_playwright

ROOT = Path(__file__).parents[3]
SECONDS = 60
"""For what takes one or two where the machine does nothing else."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server with the expert at PyBullet's table."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "envs"), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [sys.executable, "-m", "rf_agent.cli", "play", "--policy", "expert", "--port", "0", "--recordings"]
        + [str(tmp_path_factory.mktemp("recordings"))],
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
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * SECONDS)
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    _wait(page, lambda: _frames(page) > 0)
    yield page
    page.close()
    assert not errors
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)


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


def test_an_instruction_moves_the_robot_and_ends_in_a_tick(page):
    before = _pixels(page)
    _wait(page, lambda: page.locator("#suggestions button").count() > 0)
    page.locator("#suggestions button").first.click()  # one that the state allows
    _wait(page, lambda: _frames(page) > 5)
    assert _pixels(page) != before
    expect(page.locator("#asked li.done .mark")).to_have_text("✓", timeout=1000 * SECONDS)
    expect(page.locator("#verdict")).to_have_text("✓ done")


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_of_the_page(page, width, scheme, tmp_path):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    page.keyboard.press("h")
    expect(page.locator("#drive")).to_be_visible(timeout=1000 * SECONDS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button')].filter((e) => e.offsetParent !== null
        && !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 20_000
