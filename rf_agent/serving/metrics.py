"""Counters of a server, as text in Prometheus' exposition format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Numbers, counted by size.

    Args:
        bounds: upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a number."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterator[str]:
        """The lines of this histogram."""
        total = 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.9g}"
        yield f"{name}_count {total}"


class Metrics:
    """What a server has done. It belongs to the server's event loop."""

    def __init__(self) -> None:
        self.connections = 0
        """Open now."""
        self.opened = 0
        self.refused: Counter[str] = Counter()
        """Connections that were not let in, by reason."""
        self.requests: Counter[str] = Counter()
        """`answered`, `refused` (not an observation of this policy) and `failed` (the policy's fault)."""
        self.request_seconds = Histogram(SECONDS)
        self.policy_seconds = Histogram(SECONDS)
        self.batch_size = Histogram(SIZES)

    def text(self) -> str:
        """All of it, in Prometheus' format."""
        lines: list[str] = []

        def add(name: str, kind: str, purpose: str, values: Iterator[str]) -> None:
            lines.extend([f"# HELP {name} {purpose}", f"# TYPE {name} {kind}", *values])

        def labelled(name: str, label: str, counts: Counter[str]) -> Iterator[str]:
            return (f'{name}{{{label}="{value}"}} {count}' for value, count in sorted(counts.items()))

        add("rf_connections", "gauge", "Open connections.", iter([f"rf_connections {self.connections}"]))
        add("rf_connections_total", "counter", "Connections let in.", iter([f"rf_connections_total {self.opened}"]))
        name = "rf_connections_refused_total"
        add(name, "counter", "Connections not let in.", labelled(name, "reason", self.refused))
        add("rf_requests_total", "counter", "Messages.", labelled("rf_requests_total", "outcome", self.requests))
        for name, purpose, histogram in (
            ("rf_request_seconds", "From a message's arrival until its answer is sent.", self.request_seconds),
            ("rf_policy_seconds", "Time of the policy for the batch of a request.", self.policy_seconds),
            ("rf_batch_size", "Observations in the batch of a request.", self.batch_size),
        ):
            add(name, "histogram", purpose, histogram.lines(name))
        return "\n".join(lines) + "\n"
