"""Running stages: each once, in order, going on where it stopped, and refusing what does not belong there."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from fake_reporter import Heard

from rf_agent.commands import reproduce
from rf_agent.errors import UserError
from rf_agent.files import folder_lock
from rf_agent.progress import Silent
from rf_agent.reproduce import jobs as jobs_module
from rf_agent.reproduce import pipeline as run_module
from rf_agent.reproduce.measures import AverageLength, Row, Table
from rf_agent.reproduce.recipe import Recipe
from rf_agent.reproduce.results import Results, facts_of
from rf_agent.reproduce.run import Reproduction
from rf_agent.reproduce.stages import Stage, in_order

RECIPE = Recipe()
WRITE = (
    "import json, pathlib, sys; folder = pathlib.Path(sys.argv[1]); folder.mkdir(parents=True, exist_ok=True); "
    "(folder / 'ran').open('a').write('x'); "
    "(folder / 'results.json').write_text(json.dumps({'sequences': [{'completed': 3}], 'tasks': {}})); "
    "(folder / 'policy').mkdir(exist_ok=True); (folder / 'log.jsonl').write_text('')"
)
TRAIN = Stage("policies/a", ("train",))
EVALUATE = Stage("evaluations/a", ("evaluate",), (TRAIN,))


class Quick(Reproduction):
    """Runs a line of Python in place of each command."""

    code = WRITE

    def _arguments(self, stage, jobs):
        return [sys.executable, "-c", self.code, stage.output]


def make(folder, kind=Quick, recipe=RECIPE, **given):
    return kind(folder, recipe, reporter=Silent(), **given)


def runs(folder, stage):
    path = folder / stage.folder / "ran"
    return len(path.read_text()) if path.exists() else 0


def test_a_stage_runs_once_and_after_what_it_needs(tmp_path):
    reproduction = make(tmp_path)
    reproduction.run([EVALUATE, EVALUATE])
    assert (runs(tmp_path, TRAIN), runs(tmp_path, EVALUATE)) == (1, 1)
    again = make(tmp_path)
    again.run([EVALUATE])
    assert (runs(tmp_path, TRAIN), runs(tmp_path, EVALUATE)) == (1, 1)
    assert again.results.facts(EVALUATE) == {"completed": [3], "tasks": {}}
    assert Results.load(tmp_path / "results.json").facts(EVALUATE) == {"completed": [3], "tasks": {}}
    assert in_order((EVALUATE,)) == [TRAIN, EVALUATE]


def test_a_command_that_fails_is_named_and_runs_again(tmp_path):
    class Failing(Quick):
        code = "raise SystemExit(1)"

    with pytest.raises(UserError, match="policies/a failed, see above; .*\nrf-agent train --output policies/a"):
        make(tmp_path, Failing).run([EVALUATE])
    reproduction = make(tmp_path)
    assert not reproduction.is_done(TRAIN)
    reproduction.run([EVALUATE])
    assert runs(tmp_path, TRAIN) == 1 and reproduction.is_done(EVALUATE)


MEET = (
    "import pathlib, sys, time; folder = pathlib.Path(sys.argv[1]); here = folder.parent; "
    "(here / (folder.name + '.here')).touch(); end = time.monotonic() + 60\n"
    "while len(list(here.glob('*.here'))) < 2 and time.monotonic() < end: time.sleep(0.02)\n"
    "print('met' if len(list(here.glob('*.here'))) > 1 else 'alone'); "
)


def test_jobs_run_at_once_and_each_after_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("rf_agent.reproduce.pipeline.usable_cores", lambda: 6)
    threads = "import os; print(os.environ['OMP_NUM_THREADS']); "
    after = "import pathlib; assert pathlib.Path('policies/b/ran').exists(); "

    class Meeting(Quick):
        def _arguments(self, stage, jobs):
            begin = MEET + threads if stage.kind == "train" else after
            return [sys.executable, "-c", begin + WRITE, stage.output]

    others = [Stage(f"policies/{name}", ("train",)) for name in "bc"]
    last = Stage("evaluations/b", ("evaluate",), (others[0],))
    reproduction = make(tmp_path, Meeting, jobs=2)
    reproduction.run([last, others[1]])
    assert [(tmp_path / stage.folder / "output.txt").read_text() for stage in others] == ["met\n3\n", "met\n3\n"]
    assert reproduction.is_done(last) and Results.load(tmp_path / "results.json").facts(last) is not None
    assert reproduction._words(last, 2)[-2:] == ["--workers", "3"] == make(tmp_path, workers=3)._words(last, 2)[-2:]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert reproduction._environment(2)["OMP_NUM_THREADS"] == "1"
    with pytest.raises(UserError, match="--jobs is 0: give 1 or more"):
        make(tmp_path, jobs=0)


def test_a_command_that_nothing_can_run_beside_has_all_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("rf_agent.reproduce.pipeline.usable_cores", lambda: 6)

    class Telling(Quick):
        def _arguments(self, stage, jobs):
            tell = f"import os; print(os.environ.get('OMP_NUM_THREADS'), {self._words(stage, jobs)[4:]}); "
            return [sys.executable, "-c", tell + WRITE, stage.output]

    after = [Stage(f"evaluations/{name}", ("evaluate",), (TRAIN,)) for name in "abc"]
    make(tmp_path, Telling, jobs=2).run(after)
    said = [(tmp_path / stage.folder / "output.txt").read_text() for stage in (TRAIN, *after)]
    assert said[:3] == ["None []\n", "3 ['--workers', '3']\n", "3 ['--workers', '3']\n"]


def test_what_runs_when_another_job_fails_goes_on_and_nothing_else_begins(tmp_path):
    class Mixed(Quick):
        def _arguments(self, stage, jobs):
            if stage.folder == "policies/bad":
                return [sys.executable, "-c", "print('why'); raise SystemExit(1)"]
            code = "import pathlib, time\nwhile not pathlib.Path('told').exists(): time.sleep(0.02)\n"
            return [sys.executable, "-c", code + WRITE, stage.output]

    class Tells(Heard):
        def log(self, text):
            super().log(text)
            if "goes on" in text:  # only when the failure was said may the other command end
                (tmp_path / "told").touch()

    bad, good, third = (Stage(f"policies/{name}", ("train",)) for name in ("bad", "good", "third"))
    heard = Tells()
    with pytest.raises(UserError, match=r"policies/bad failed, see the end of .*policies/bad/output.txt; .*\nrf-agent"):
        Mixed(tmp_path, RECIPE, jobs=2, reporter=heard).run([bad, good, third])
    assert any("policies/bad failed" in line and "goes on" in line for line in heard.lines)
    reproduction = make(tmp_path)
    assert [reproduction.is_done(stage) for stage in (bad, good, third)] == [False, True, False]
    assert (tmp_path / "policies/bad/output.txt").read_text() == "why\n"


def test_a_result_that_cannot_be_read_ends_no_other_job(tmp_path):
    class Mixed(Quick):
        def _arguments(self, stage, jobs):
            code = "pass" if stage.kind == "evaluate" else "import time; time.sleep(1); " + WRITE
            return [sys.executable, "-c", code, stage.output]

    empty, good = Stage("evaluations/empty", ("evaluate",)), TRAIN
    with pytest.raises(FileNotFoundError, match=r"evaluations/empty/results\.json"):
        make(tmp_path, Mixed, jobs=2).run([empty, good])
    assert make(tmp_path).is_done(good)


def test_what_is_deleted_meanwhile_is_named(tmp_path):
    class Deleting(Quick):
        def _arguments(self, stage, jobs):
            if stage.folder == "policies/c":
                shutil.rmtree(tmp_path / "policies/a", ignore_errors=True)
            return super()._arguments(stage, jobs)

    between = Stage("policies/c", ("train",), (TRAIN,))
    last = Stage("evaluations/a", ("evaluate",), (TRAIN, between))
    with pytest.raises(UserError, match="evaluations/a needs policies/a, which was deleted meanwhile: run the same"):
        make(tmp_path, Deleting).run([last])


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("wakes", [True, False])
def test_an_interruption_ends_what_runs_and_what_is_about_to(tmp_path, monkeypatch, jobs, wakes):
    class Late(Quick):
        def _arguments(self, stage, jobs):
            if stage.folder == "policies/b":  # no process is there yet
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.5)
            return [sys.executable, "-c", "import time; time.sleep(600)"]

    monkeypatch.setattr(jobs_module, "GRACE", 0.2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in tests that run in the background
    if not wakes:  # as where it comes just before the main thread begins to wait: another thread gets it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            stages = [Stage(f"policies/{name}", ("train",)) for name in ("ab" if jobs > 1 else "b")]
            make(tmp_path, Late, jobs=jobs).run(stages)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 60
    marks = [json.loads((tmp_path / stage.folder / "stage.json").read_text()) for stage in stages]
    assert not any(mark["finished"] for mark in marks)


HEARING = (
    "import os, signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "try: os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)\n"
    "except KeyboardInterrupt: print('heard')"
)


def test_sigterm_ends_what_runs(tmp_path, monkeypatch):
    class Told(Quick):
        def _arguments(self, stage, jobs):
            return [sys.executable, "-c", HEARING]

    monkeypatch.setattr(jobs_module, "GRACE", 600.0)  # the command, which nobody has told, hears of it at once
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, Told, jobs=2).run([TRAIN])
    assert signal.getsignal(signal.SIGTERM) is before
    assert "heard" in (tmp_path / TRAIN.folder / "output.txt").read_text()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at Linux's list of open files")
def test_what_a_killed_reproduction_began_is_not_begun_twice(tmp_path):
    """Its commands go on without it; until they end, nobody else may run the same ones."""

    class Holding(Quick):
        code = (
            "import os; held = [os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd') "
            "if os.path.exists(f'/proc/self/fd/{name}')]; assert any(path.endswith('.lock') for path in held); " + WRITE
        )

    make(tmp_path, Holding).run([TRAIN])
    with folder_lock(tmp_path) as held:
        left_behind = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(held,))
    try:
        with pytest.raises(UserError, match="in .* another process is at work, or a command that one began"):
            make(tmp_path).run([EVALUATE])
    finally:
        left_behind.communicate(b"\n", timeout=60)
    make(tmp_path).run([EVALUATE])
    assert make(tmp_path).is_done(EVALUATE) and runs(tmp_path, TRAIN) == 1
    with folder_lock(tmp_path):  # what is all there can be looked at meanwhile
        make(tmp_path).run([EVALUATE])


def test_what_another_process_measured_meanwhile_is_kept(tmp_path):
    first, second = make(tmp_path), make(tmp_path)
    first.run([EVALUATE])
    other = Stage("policies/b", ("train",))
    second.run([other])
    assert Results.load(tmp_path / "results.json").stages.keys() == {"policies/a", "evaluations/a", "policies/b"}


def test_what_was_measured_before_is_forgotten_when_it_is_made_again(tmp_path):
    make(tmp_path).run([EVALUATE])
    shutil.rmtree(tmp_path / "evaluations")

    class Failing(Quick):
        code = "raise SystemExit(1)"

    with pytest.raises(UserError, match="failed"):
        make(tmp_path, Failing).run([EVALUATE])
    assert Results.load(tmp_path / "results.json").facts(EVALUATE) is None


def test_the_time_of_a_killed_reproduction_is_not_lost(tmp_path, monkeypatch):
    class Looking(Quick):
        def _arguments(self, stage, jobs):
            look = (
                "import json, pathlib, time; end = time.monotonic() + 60\n"
                "def told(): return json.loads(pathlib.Path('policies/a/stage.json').read_text())['seconds']\n"
                "while not told() and time.monotonic() < end: time.sleep(0.2)\n"
                "print(told()); "
            )
            return [sys.executable, "-c", look + WRITE, stage.output]

    monkeypatch.setattr(jobs_module, "BEAT", 0.3)
    make(tmp_path, Looking, jobs=2).run([TRAIN])
    assert 0 < float((tmp_path / "policies/a/output.txt").read_text()) < make(tmp_path).seconds(TRAIN)


def test_a_disk_that_is_full_for_a_moment_loses_no_command(tmp_path, monkeypatch):
    def full():
        raise OSError("No space left on device")

    monkeypatch.setattr(jobs_module, "BEAT", 0.1)
    words = [sys.executable, "-c", "import time; time.sleep(0.5)"]
    assert jobs_module.Commands().run(words, tmp_path, dict(os.environ), None, full) == 0


def test_training_goes_on_from_its_checkpoint(tmp_path):
    reproduction = make(tmp_path, workers=3, device="cuda")
    assert reproduction._words(TRAIN, 1) == ["rf-agent", "train", "--output", "policies/a", "--device", "cuda"]
    (tmp_path / "policies/a").mkdir(parents=True)
    (tmp_path / "policies/a/checkpoint.pt").touch()
    assert reproduction._words(TRAIN, 1)[-1] == "--resume"
    assert reproduction._words(EVALUATE, 1)[-4:] == ["--workers", "3", "--device", "cuda"]


def test_a_killed_reproduction_goes_on(tmp_path):
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from rf_agent.progress import Silent; from rf_agent.reproduce.recipe import Recipe;"
        "from rf_agent.reproduce.run import Reproduction; from rf_agent.reproduce.stages import Stage\n"
        "class Slow(Reproduction):\n"
        "    def _arguments(self, stage, jobs): return [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "Slow(Path(sys.argv[1]), Recipe(), reporter=Silent()).run([Stage('policies/a', ('train',))])"
    )
    here = os.path.dirname(os.path.dirname(os.path.dirname(run_module.__file__)))
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), here], start_new_session=True)
    mark, deadline = tmp_path / "policies/a/stage.json", time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads(mark.read_text())["finished"] is False
    reproduction = make(tmp_path)
    reproduction.run([EVALUATE])
    assert reproduction.is_done(TRAIN) and runs(tmp_path, TRAIN) == 1


def test_results_of_another_recipe_are_refused_with_the_difference(tmp_path):
    make(tmp_path).run([EVALUATE])
    with pytest.raises(UserError, match=r"another recipe, with --steps 3000 \(now 700\): give the same"):
        make(tmp_path, recipe=Recipe(steps=700))
    with pytest.raises(UserError, match=r"with --steps 3000 \(now 700\)"):
        reproduce.run(reproduce.Args(list=True, output=tmp_path, steps=700))
    old = json.loads((tmp_path / "recipe.json").read_text()) | {"short_steps": 5}
    (tmp_path / "old").mkdir()
    (tmp_path / "old/recipe.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"with --short-steps 5 \(now no option\): choose another --output"):
        make(tmp_path / "old")
    other = Stage("policies/a", ("train", "--steps", "7"))
    with pytest.raises(
        UserError, match=r"policies/a is of another recipe, made by `rf-agent train --output policies/a`"
    ):
        make(tmp_path).run([other])
    (tmp_path / "recipe.json").write_text("[")
    with pytest.raises(UserError, match="recipe.json is damaged"):
        make(tmp_path)
    with pytest.raises(UserError, match="--steps is 0: give 1 or more"):
        Recipe(steps=0)
    with pytest.raises(ValueError, match="mixed_precision is 'half': give auto, no, bf16, fp16"):
        Recipe(mixed_precision="half")


def test_a_missing_checkpoint_is_named(tmp_path):
    make(tmp_path).run([EVALUATE])
    (tmp_path / "policies/a/policy").rmdir()
    with pytest.raises(
        UserError, match=r"the checkpoint .*policies/a/policy is missing, though its stage has finished"
    ):
        make(tmp_path).run([EVALUATE])


def test_damaged_files_are_named(tmp_path):
    make(tmp_path).run([EVALUATE])
    for content in ("{}", '{"recipe": {}, "stages": [], "machine": {}}', '{"recipe": {}, "stages": {}, "machine": 3}'):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(UserError, match="is no results.json of `rf-agent reproduce`"):
            make(tmp_path)
    with pytest.raises(UserError, match="is no results.json of `rf-agent reproduce`"):
        Results.load(tmp_path)
    (tmp_path / "results.json").unlink()
    (tmp_path / "policies/a/stage.json").write_text("no")
    with pytest.raises(UserError, match="stage.json is damaged .* delete policies/a to make it again"):
        make(tmp_path).run([EVALUATE])
    with pytest.raises(UserError, match="there is no .*results.json"):
        Results.load(tmp_path / "results.json")


def test_lost_results_are_read_again_from_the_folders(tmp_path):
    make(tmp_path).run([EVALUATE])
    (tmp_path / "results.json").unlink()
    reproduction = make(tmp_path)
    reproduction.run([EVALUATE])
    assert reproduction.results.facts(EVALUATE) == {"completed": [3], "tasks": {}} and runs(tmp_path, TRAIN) == 1


def test_what_is_made_again_leaves_nothing_old_behind(tmp_path):
    make(tmp_path).run([EVALUATE])
    shutil.rmtree(tmp_path / TRAIN.folder)
    with pytest.raises(
        UserError, match="evaluations/a was made of policies/a, which is to be made again: delete .*/a, too"
    ):
        make(tmp_path).run([EVALUATE])
    shutil.rmtree(tmp_path / EVALUATE.folder)

    class Other(Quick):
        code = WRITE.replace("'completed': 3", "'completed': 4")

    reproduction = make(tmp_path, Other)
    reproduction.run([EVALUATE])
    assert reproduction.results.facts(EVALUATE)["completed"] == [4]
    assert make(tmp_path).results.facts(EVALUATE)["completed"] == [4]


def test_a_log_whose_last_line_a_crash_cut_off_is_read(tmp_path):
    rows = [{"step": 1, "split": "train", "loss": 3.0}, {"step": 1, "split": "validation", "loss": 2.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 2, "spl')
    assert facts_of(TRAIN, tmp_path) == rows[1]


def test_it_is_kept_what_code_a_command_ran_with(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "git_revision", lambda: "0123456789ab")
    make(tmp_path).run([EVALUATE])
    stages = Results.load(tmp_path / "results.json").stages
    assert {entry["revision"] for entry in stages.values()} == {"0123456789ab"}
    monkeypatch.setattr(run_module, "git_revision", lambda: None)  # an installed package
    make(tmp_path / "other").run([TRAIN])
    (entry,) = Results.load(tmp_path / "other" / "results.json").stages.values()
    assert entry["revision"] == importlib.metadata.version("roboflamingo-agent")


def test_a_table_does_not_wait_for_the_last_command_of_another(tmp_path, monkeypatch, capsys):
    """And each is shown as soon as it is measured, also where another one fails."""

    class Waiting(Quick):
        def _arguments(self, stage, jobs):
            wait = "import pathlib, time\nwhile not pathlib.Path('evaluations/b/ran').exists(): time.sleep(0.01)\n"
            code = wait + "raise SystemExit(3)" if stage.folder == "evaluations/a" else WRITE
            return [sys.executable, "-c", code, stage.output]

    def table(name):
        train = Stage(f"policies/{name}", ("train",))
        evaluate = Stage(f"evaluations/{name}", ("evaluate",), (train,))
        row = Row((name,), (AverageLength((evaluate,)),))
        return Table(name, f"Table of {name}", "Table 0", ("row", "length"), (row,), (), "")

    monkeypatch.setattr(reproduce, "Reproduction", Waiting)
    monkeypatch.setattr(reproduce, "TABLES", {"a": None, "b": None})
    monkeypatch.setattr(reproduce, "make_tables", lambda names, recipe, seeds: [table(name) for name in names])
    with pytest.raises(UserError, match="evaluations/a failed"):
        reproduce.run(reproduce.Args(tables=("a", "b"), output=tmp_path, jobs=2))
    said = capsys.readouterr().out
    assert "Table of b" in said and "Table of a" not in said
