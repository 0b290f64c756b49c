"""What an evaluation says while it runs."""

from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.evaluation.progress import Progress


class Lines:
    def __init__(self):
        self.updates = []

    def update(self, fraction, text):
        self.updates.append((fraction, text))


def episode(completed, length=5, **times):
    attempts = [Attempt("a", True)] * completed + ([Attempt("b", False)] if completed < length else [])
    return Episode(f"chain/{completed}", tuple(attempts), 100, 4.0, 0, 0, float(completed), **times)


def test_chains_show_every_rate_and_where_the_time_goes():
    reporter = Lines()
    progress = Progress(reporter, 4, 5)
    progress(episode(5, policy_seconds=1.0, render_seconds=2.0))
    progress(episode(2, policy_seconds=1.0, render_seconds=1.0))
    fraction, text = reporter.updates[-1]
    assert fraction == 0.5
    assert text.startswith("2/4, SR1-5 100 100 50 50 50 %, length 3.50, ")
    assert "steps/s" in text and text.endswith("simulator 38%, rendering 38%, policy 25%")


def test_single_tasks_show_their_share():
    progress = Progress(Lines(), 4, 1)
    progress(episode(1, 1))
    progress(episode(0, 1))
    assert "2/4, 50 % solved" in progress.text()


def test_without_successes_rewards_count():
    progress = Progress(Lines(), 2, 1)
    progress(Episode("x/0", (), 5, 0.0, 0, None, 2.5))
    assert "1/2, return 2.50" in progress.text()


def test_episodes_of_an_earlier_run_count_in_the_score_but_not_in_the_speed():
    reporter = Lines()
    progress = Progress(reporter, 4, 5)
    progress.keep([])
    assert reporter.updates == []
    progress.keep([episode(5, policy_seconds=4.0), episode(5, policy_seconds=4.0)])
    assert reporter.updates == [(0.5, "2/4, SR1-5 100 100 100 100 100 %, length 5.00, of an earlier run")]
    progress(episode(2, policy_seconds=1.0, render_seconds=1.0))
    fraction, text = reporter.updates[-1]
    assert fraction == 0.75
    assert text.startswith("3/4, SR1-5 100 100 67 67 67 %, length 4.00, ")
    assert text.endswith("simulator 50%, rendering 25%, policy 25%")
