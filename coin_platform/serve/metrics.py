"""What Prometheus is told of the server."""

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coin_platform.clock import elapsed

_OTHER = "other"  # an address that does not exist: its text comes from the client and is not a label


class ServerMetrics:
    """Counts the answers of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "coin_serve_answers",
            "Answers by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "coin_serve_seconds",
            "Seconds from a request to the start of its answer.",
            ("route",),
            registry=self.registry,
        )

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answers.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    @property
    def answers(self) -> dict[int, int]:
        """How many answers had each status."""
        counts: Tally[int] = Tally()
        for metric in self._answers.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    counts[int(sample.labels["status"])] += int(sample.value)
        return dict(counts)


_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


class Measured:
    """Counts the answers of an application."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = elapsed()

        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", _OTHER)
                method = scope["method"] if scope["method"] in _METHODS else _OTHER
                self._metrics.count(route, method, message["status"], elapsed() - start)
            await send(message)

        await self._app(scope, receive, send_and_count)
