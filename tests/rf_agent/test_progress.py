"""Progress on a terminal, and in a file."""

from rf_agent import progress
from rf_agent.progress import RichReporter


def test_the_time_left_is_that_of_the_present_part(monkeypatch, capsys):
    now = [1.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with RichReporter("images", interval=0.0) as reporter:
        for part in range(2):
            for fraction in (0.1, 0.5, 1.0):
                reporter.update(fraction, f"part {part}")
                now[0] += 100.0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("left")[1].split()[0] for line in lines] == ["?", "2:05", "0:00"] * 2


def test_a_job_that_goes_on_counts_from_where_it_began(monkeypatch, capsys):
    now = [1.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with RichReporter("train", interval=0.0) as reporter:
        for fraction in (0.5, 0.75):
            reporter.update(fraction, "")
            now[0] += 60.0
    assert "left 1:00" in capsys.readouterr().out.splitlines()[-1]
