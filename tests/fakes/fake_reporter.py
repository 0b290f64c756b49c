"""A reporter for tests."""

from rf_agent.progress import Silent


class Heard(Silent):
    """Keeps the lines that a job logs."""

    def __init__(self):
        self.lines = []

    def log(self, text):
        self.lines.append(text)
