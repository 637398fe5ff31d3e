"""What a server counts, for Prometheus. No label holds anything that a client has written."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from p2r.serving.answering import WalkedAnswer, find_state
from p2r.serving.line import RequestLine
from p2r.types import Completion

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0)


class Metrics:
    """The counters of one server.

    Args:
        line: whose length is shown.
    """

    def __init__(self, line: RequestLine) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "p2r_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "p2r_request_seconds", "Seconds of a request.", ("path",), buckets=SECONDS, registry=self._registry
        )
        self._stage_seconds = Histogram(
            "p2r_stage_seconds",
            "Seconds of the model in a stage.",
            ("stage",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter("p2r_tokens", "Tokens read and written.", ("kind",), registry=self._registry)
        self._walks = Counter(
            "p2r_walks", "Walks by mode and by what was found.", ("mode", "state"), registry=self._registry
        )
        running: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("p2r_requests_running", "Requests that are answered now.", lambda: line.num_running),
            ("p2r_requests_waiting", "Requests that wait.", lambda: line.num_inside - line.num_running),
        )
        for name, text, count in running:
            Gauge(name, text, registry=self._registry).set_function(count)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that has ended; its status is 0 where the client has gone before there was one."""
        self._requests.labels(path, status or "gone").inc()
        self._seconds.labels(path).observe(seconds)

    def count_walk(self, answer: WalkedAnswer) -> None:
        """Count a walk that has answered."""
        trace = answer.trace
        assert trace.perception is not None
        self._walks.labels(answer.mode, find_state(trace.perception)).inc()
        for stage, completion in (("look", trace.perception.completion), ("answer", trace.reasoning)):
            if completion is not None:
                self._stage_seconds.labels(stage).observe(sum(call.seconds for call in completion.calls))
                for call in completion.calls:
                    self.count_tokens(call)

    def count_tokens(self, call: Completion) -> None:
        """Count the tokens of a call."""
        self._tokens.labels("read").inc(call.usage.prompt_tokens or 0)
        self._tokens.labels("written").inc(call.usage.generated_tokens or 0)

    def write(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self._registry)
