"""The HTML page: whole, self-contained, honest about what it shows, and safe against hostile names."""

import re
import time
from html.parser import HTMLParser

import pytest
from fake_runs import chains, random_chains, write_run

from rf_agent.errors import UserError
from rf_agent.evaluation.episode import task_items
from rf_agent.evaluation.metrics import Episode
from rf_agent.evaluation.runner import evaluate
from rf_agent.reporting.clips import choose_clips
from rf_agent.reporting.page import render, write_page
from rf_agent.reporting.runs import read_runs

VOID = {"meta", "wbr", "br", "hr", "img", "input", "link", "source"}


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"an attribute comes twice in {tag}"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(tmp_path, *episodes, **settings):
    folders = [write_run(tmp_path / f"r{i}", e, policy=f"p{i}", **settings) for i, e in enumerate(episodes)]
    return Page(render(read_runs(folders)))


def test_a_page_is_self_contained_and_accessible(tmp_path):
    page = page_of(tmp_path, random_chains(30), random_chains(30, seed=1))
    assert not page.all("script") and not page.all("link") and not page.all("iframe") and not page.all("img")
    for tag, attributes in page.elements:
        for name in ("src", "href", "data", "poster", "action"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert page.all("html") == [{"lang": "en"}]
    assert all(one["role"] == "img" and one["aria-label"] for one in page.all("svg"))
    assert all(one["scope"] in ("col", "row", "rowgroup") for one in page.all("th"))
    assert page.elements.count(("main", {})) == 1
    targets = {one["id"] for _, one in page.elements if "id" in one}
    assert {one["href"][1:] for one in page.all("a")} <= targets
    css = render(read_runs([tmp_path / "r0"])).split("<style>")[1].split("</style>")[0]
    assert "url(" not in css and "@import" not in css and "prefers-color-scheme: dark" in css


def test_it_says_scores_conditions_failures_and_the_papers_numbers(tmp_path):
    text = page_of(tmp_path, chains([0, 2, 2, 5])).text
    assert "2.25 of 5" in text and "1 in a row 75.0 %" in text
    assert "3 of 4 chains broke, most often at place_ in_ drawer (2 of 3 attempts failed)" in text
    assert "Paper, Table 1" in text and "RoboFlamingo, ABCD (Lang) 96.4 89.6 82.4 74.0 66.0 4.09" in text
    for condition in ("renderer tiny", "seed 0", "weights (digest) 0123456789abcdef", "python 3.", "4 of 4"):
        assert condition in text
    assert "rf-agent evaluate --video-episodes N" in text
    assert "Differences" not in text


def test_several_runs_are_compared_with_a_verdict(tmp_path):
    text = page_of(tmp_path, chains([0] * 20), chains([5] * 20)).text
    assert "p1 against p0: 20 episodes in common" in text
    assert re.search(r"average length 0\.00 5\.00 \+5\.00 \+5\.00 to \+5\.00 <0\.001 <0\.001 significant", text)
    assert "Holm's correction" in text and "The runs differ in more than the policy" not in text


def test_other_conditions_stand_on_top(tmp_path):
    folders = [
        write_run(tmp_path / "a", chains([1])),
        write_run(tmp_path / "b", chains([1]), renderer="egl", policy="b"),
    ]
    text = Page(render(read_runs(folders))).text
    assert "The runs differ in more than the policy" in text and "renderer (tiny, egl)" in text


def test_hostile_names_stay_text(tmp_path):
    bad = '<script>alert("1")</script>'
    episodes = [one.__class__(**(vars(one) | {"key": f'"><img src=x>{one.key}'})) for one in chains([1, 2])]
    folder = write_run(tmp_path / "a", [*episodes, *chains([0, 0, 3])[2:]], policy=bad, renderer=bad, finished=False)
    other = write_run(tmp_path / "b", chains([1, 2]), policy="b" + bad, env_options={"instructions": bad})
    text = render(read_runs([folder, other]))
    page = Page(text)
    assert not page.all("script") and not page.all("img")
    assert "<script" not in text and 'alert("1")' in page.text.replace("</", "")


def test_an_unfinished_run_says_so(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "a", chains([1, 2, 3]), finished=False)])
    assert "has not finished: 3 chains so far" in Page(render([run])).text


def test_enriched_instructions_are_compared_with_the_papers_enriched_rows(tmp_path):
    text = page_of(tmp_path, chains([1, 2]), env_options={"instructions": "enriched"}).text
    assert "RoboFlamingo (freeze-emb)" in text and "4.09" not in text


def test_single_tasks_have_a_page(tmp_path):
    evaluate("fake_env:fake/Task-v0", "expert", task_items(["go_left", "go_far"], 3, seed=0), tmp_path / "a")
    evaluate("fake_env:fake/Task-v0", "random", task_items(["go_left", "go_far"], 3, seed=0), tmp_path / "b")
    text = Page(render(read_runs([tmp_path / "a", tmp_path / "b"]))).text
    assert "success 50.0 %" in text and "3 of 6 episodes failed, most often at go_ far" in text
    assert "Table 9" not in text and "b against" not in text and "random against expert: 6 episodes" in text


def test_environments_without_success_show_their_return(tmp_path):
    episodes = [Episode(f"Pole/{i}", (), 9, 1.0, i, None, 1.5 * i) for i in range(3)]
    page = page_of(tmp_path, episodes, [Episode(f"Pole/{i}", (), 9, 1.0, i, None, 2.0 * i) for i in range(3)])
    assert "mean return 1.50" in page.text and "Failures" not in page.text
    assert "return 1.50 2.00 +0.50" in page.text


def test_nothing_solved_and_everything_solved(tmp_path):
    text = page_of(tmp_path, chains([0]), chains([5])).text
    assert "0 of 1 chain broke." in text and "1 of 1 chain broke" in text


@pytest.mark.parametrize("count", [1000])
def test_a_thousand_chains_are_quick_and_small(tmp_path, count):
    folders = [write_run(tmp_path / f"r{i}", random_chains(count, i), policy=f"p{i}") for i in range(2)]
    begun = time.perf_counter()
    one, two = render(read_runs(folders[:1])), render(read_runs(folders))
    assert time.perf_counter() - begun < 20  # about 2 s on a slow core
    assert len(one.encode()) < 1_000_000 and len(two.encode()) < 2_000_000
    assert Page(one).text.count("chain/") == count


@pytest.fixture
def filmed(tmp_path):
    folder = write_run(tmp_path / "run", chains([5, 0, 5, 3]))
    (folder / "videos").mkdir()
    for index in range(4):
        (folder / "videos" / f"chain-{index}.mp4").write_bytes(b"video %d" % index)
    return folder


def test_failed_chains_are_shown_first_with_their_words(filmed):
    runs = read_runs([filmed])
    clips = choose_clips(runs, 3)
    assert [clip.episode.chain for clip in clips] == [1, 3, 0]
    page = Page(render(runs, clips))
    assert [one["src"][:32] for one in page.all("video")] == ["data:video/mp4;base64,dmlkZW8gMQ"[:32]] + [
        "data:video/mp4;base64,dmlkZW8gMw"[:32],
        "data:video/mp4;base64,dmlkZW8gMA"[:32],
    ]
    assert "chain/1 0 of 5 solved do it failed after 360 steps" in page.text


def test_chosen_chains_come_first(filmed):
    clips = choose_clips(read_runs([filmed]), 1, ("chain/2",))
    assert [clip.episode.chain for clip in clips] == [2, 1]
    with pytest.raises(UserError, match="'chain/9', which has no video .recorded: chain/0.*--video-episodes"):
        choose_clips(read_runs([filmed]), 1, ("chain/9",))


def test_videos_may_stay_where_they_are(filmed, tmp_path):
    runs = read_runs([filmed])
    write_page(tmp_path / "pages" / "x.html", runs, choose_clips(runs, 1), link=True)
    (video,) = Page((tmp_path / "pages" / "x.html").read_text()).all("video")
    assert video["src"] == "../run/videos/chain-1.mp4"


def test_runs_take_turns_with_their_videos(filmed, tmp_path):
    other = write_run(tmp_path / "other", chains([0, 0]), policy="b")
    (other / "videos").mkdir()
    (other / "videos" / "chain-1.mp4").write_bytes(b"x")
    clips = choose_clips(read_runs([filmed, other]), 2)
    assert [(clip.run, clip.episode.chain) for clip in clips] == [(0, 1), (1, 1)]
