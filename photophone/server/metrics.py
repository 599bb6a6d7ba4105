"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
ROWS = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counters of one app.

    Args:
        replica: its name among others that answer at the same address, a further label of all that is shown; None:
            there are no others.

    Attributes:
        requests: answered, by route and status.
        times: of requests until the end of the answer, by route.
        cancelled: jobs that nobody waited for any more, by kind.
        batches: texts or images that were made together, by kind.
        seconds: of sound that was made, by kind.
    """

    def __init__(self, replica: str | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self._shown = registry if replica is None else CollectorRegistry()
        if replica is not None:
            self._shown.register(_Labelled(registry, replica))
        self.requests = Counter("photophone_requests", "Answered requests", ["route", "status"], registry=registry)
        self.times = Histogram("photophone_request_seconds", "Time until the end of the answer", ["route"],
                               buckets=SECONDS, registry=registry)
        self.cancelled = Counter("photophone_cancelled", "Jobs that nobody waited for any more", ["kind"],
                                 registry=registry)
        self.batches = Histogram("photophone_batch_rows", "Texts or images made together", ["kind"], buckets=ROWS,
                                 registry=registry)
        self.seconds = Counter("photophone_audio_seconds", "Sound that was made", ["kind"], registry=registry)
        self._waiting = Gauge("photophone_waiting", "Jobs that wait", ["kind"], registry=registry)
        self._running = Gauge("photophone_running", "Jobs that are worked on", ["kind"], registry=registry)

    def watch(self, kind: str, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        """Show what these functions give, as the jobs of a kind that wait and that are worked on."""
        self._waiting.labels(kind).set_function(waiting)
        self._running.labels(kind).set_function(running)
        for counted in (self.cancelled, self.batches, self.seconds):
            counted.labels(kind)  # is shown from the beginning

    def text(self) -> bytes:
        """All of it in the format of Prometheus."""
        return generate_latest(self._shown)


class _Labelled(Collector):
    """All of a registry, with a label ``replica``."""

    def __init__(self, registry: CollectorRegistry, replica: str) -> None:
        self.registry, self.replica = registry, replica

    def collect(self) -> Iterator[Metric]:
        for metric in self.registry.collect():
            metric.samples = [sample._replace(labels={**sample.labels, "replica": self.replica})
                              for sample in metric.samples]
            yield metric
