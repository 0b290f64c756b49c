"""Settings of a run that takes a second."""

from rf_agent.training.loop import Loop
from rf_agent.training.trainer import TrainConfig


def run_settings(demos, output, **changes):
    settings = {"preset": "roboflamingo-test", "steps": 8, "batch_size": 3, "sequence_length": 6, "threads": 1}
    settings |= {"validation_fraction": 0.3, "device": "cpu", "evaluations": 4}
    return TrainConfig(demos=(demos,), output=output, **settings | changes)


def interrupt_at(monkeypatch, step):
    """Have runs end before that step as at Ctrl-C, until the patch is undone."""
    optimise = Loop._optimise

    def interrupted(self, parts):
        if self.step == step:
            raise KeyboardInterrupt
        return optimise(self, parts)

    monkeypatch.setattr(Loop, "_optimise", interrupted)
