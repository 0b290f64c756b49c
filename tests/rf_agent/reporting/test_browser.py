"""The page in a browser, with names as long as people give them, in wide and narrow windows."""

import shutil

import pytest
from fake_runs import chain, write_run

from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.reporting.clips import choose_clips
from rf_agent.reporting.page import write_page
from rf_agent.reporting.runs import read_runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

POLICY, OTHER = "runs/checkpoint.step00020000.ema.fp16", "runs/checkpoint.step00040000.without-augmentation.fp16"
ENV = "mine/ReachWithObstaclesAndDistractors-v0"
TASKS = (
    "PickPlaceObjectIntoTheTallContainer",
    "PushTheRedBlockBehindTheTallContainer",
    "StackAllOfTheBlocksOnTheTallContainer",
    "open_the_second_drawer_of_the_tall_cupboard",
    "TurnTheTallContainerUpsideDown",
)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def played(kind, number):
    """Episodes of which some fail."""
    if kind == "chains":
        turned = [TASKS[index % 5 :] + TASKS[: index % 5] for index in range(12)]
        return [chain(index, (index + number) % 6, tasks) for index, tasks in enumerate(turned)]
    attempts = [Attempt(TASKS[index % 5], (index + number) % 3 == 0, 90 + index, "do it") for index in range(15)]
    return [Episode(f"{one.task}/{index}", (one,), one.steps, 2.0, index) for index, one in enumerate(attempts)]


@pytest.fixture(params=[("chains", 1), ("chains", 2), ("episodes", 1), ("episodes", 2)], ids=lambda p: f"{p[1]}-{p[0]}")
def report(request, tmp_path):
    """A page of one or two runs, with a video."""
    kind, count = request.param
    folders = []
    for number, policy in enumerate((POLICY, OTHER)[:count]):
        episodes = played(kind, number)
        folders.append(write_run(tmp_path / f"r{number}", episodes, policy=policy, env=ENV))
        (folders[-1] / "videos").mkdir()
        (folders[-1] / "videos" / f"{episodes[1].key.replace('/', '-')}.mp4").write_bytes(b"no video")
    runs = read_runs(folders)
    write_page(tmp_path / "report.html", runs, choose_clips(runs, 2), link=True)
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_long_names_fit_into_the_window(browser, report, width):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    outside = page.evaluate(
        """[...document.querySelectorAll('body *')].filter((e) => {
          const box = e.getBoundingClientRect(), scrolls = e.closest('.scroll');
          return box.width && (!scrolls || e === scrolls) && (box.left < 0 || box.right > innerWidth + 0.5);
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    rates = [one.bounding_box() for one in page.locator(".tasks tbody td.bar-column + td").all()]
    assert len(rates) == len(TASKS) and all(box["x"] + box["width"] <= width for box in rates)
    averages = [one.bounding_box() for one in page.locator(".chains td:last-child").all() if width == 1280]
    assert all(box["x"] + box["width"] <= width - 40 for box in averages)  # 40: the page's margin
    names = page.locator(".names tbody :is(th, td:not(.n)), .tasks tbody th, .episodes tbody th, .policy")
    letters = names.evaluate_all(
        """names => names.filter((e) => e.textContent.length > 12 && e.clientWidth < 70)
          .map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert letters == []  # a name that is broken after every third letter is no name any more
    page.close()
