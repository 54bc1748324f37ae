"""What operators see of each request: Prometheus metrics and the access log.

The outermost layer times every answer, counts it and logs it. Metrics are counted as things
happen, or read from the state when they are asked for.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.service.models.state import ServingState
from flows.service.predictions.spool import Spool
from storage.http.access_log import AccessLog

_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
# Asked every second by whoever watches; their lines would bury the others.
_UNLOGGED = ("/health", "/v2/health", "/metrics")


class ServiceMetrics:
    """One service's registry; nothing global, so that tests can have several."""

    def __init__(self, serving: ServingState, spool: Spool) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "headrace_requests",
            "Requests answered, by route and status.",
            ("route", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "headrace_request_seconds",
            "Time from the request's headers to its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._rows = Counter(
            "headrace_rows", "Rows scored, by release.", ("release",), registry=self._registry
        )
        self._shed = Counter(
            "headrace_shed", "Requests answered 503 under overload.", registry=self._registry
        )
        self.shadow_difference = Histogram(
            "headrace_shadow_difference",
            "Distance of the shadow's score to the answered one.",
            buckets=(0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1),
            registry=self._registry,
        )
        self._registry.register(_State(serving, spool))
        # Finding a labelled child takes longer than counting with it.
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def count_answer(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        found = self._children.get((route, status))
        if found is None:
            found = self._requests.labels(route, status), self._latency.labels(route)
            self._children[route, status] = found
        found[0].inc()
        found[1].observe(seconds)
        if status == 503:
            self._shed.inc()

    def count_rows(self, release: str, rows: int) -> None:
        """Count scored rows."""
        self._rows.labels(release).inc(rows)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)


class TelemetryMiddleware:
    """Wraps the application. `state` of a request collects what the log says of it."""

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics, log: AccessLog) -> None:
        self._app, self._metrics, self._log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        state = scope.setdefault("state", {})
        begun = state.setdefault("arrived", loop.time())
        state["waited_s"] = loop.time() - begun
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            self._note(scope, status, loop.time() - begun)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # A path that is no route may hold anything, and would be a metric of its own.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.count_answer(route, status, seconds)
        if route.startswith(_UNLOGGED):
            return
        state = scope["state"]
        self._log.add(
            at=datetime.now(UTC),
            method=scope["method"][:16],
            route=route,
            status=status,
            ms=round(seconds * 1000, 3),
            rows=state.get("rows", 0),
            release=state.get("release"),
            request_id=state.get("request_id"),
            rule=state.get("rule"),
        )


class _State(Collector):
    def __init__(self, serving: ServingState, spool: Spool) -> None:
        self._serving, self._spool = serving, spool

    def collect(self) -> Iterator[Metric]:
        """Everything that is state rather than an event."""
        yield from self._predictions()
        yield from self._release()
        yield from self._lake()

    def _predictions(self) -> Iterator[Metric]:
        counts = self._spool.counts
        yield _total("accepted_rows", "Rows answered.", counts.accepted)
        yield _total("delivered_rows", "Rows handed over to the lake.", counts.delivered)
        yield _total("lost_rows", "Rows that found the spool full.", counts.lost)
        yield _gauge("spooled_rows", "Rows waiting on this disk.", counts.spooled)
        yield _gauge("spooled_bytes", "Bytes waiting on this disk.", self._spool.size)
        unknown = CounterMetricFamily(
            "headrace_unknown_categories", "Values fitting never saw.", labels=["feature"]
        )
        for name, count in self._serving.count_unknown_categories().items():
            unknown.add_metric([name], count)
        yield unknown

    def _release(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "headrace_release_info", "What serves.", labels=["release", "digest", "part"]
        )
        loaded = self._serving.loaded
        if loaded:
            parts = (loaded.champion, loaded.canary, loaded.shadow)
            for part, model in zip(("champion", "canary", "shadow"), parts, strict=True):
                if model:
                    info.add_metric([model.release, model.digest, part], 1)
        yield info
        yield _gauge("index_number", "Index served.", loaded.index if loaded else 0)
        yield _gauge("refused", "1 while the newest index is refused.", self._serving.refusal)
        yield _total("refusals", "Releases or indexes refused.", self._serving.refusals)
        yield _total("swaps", "Deployments that began to serve.", self._serving.swaps)

    def _lake(self) -> Iterator[Metric]:
        now = datetime.now(UTC)
        yield _gauge(
            "index_stale", "1 if the index is not fresh.", self._serving.explain_staleness(now)
        )
        yield _gauge("lake_up", "1 if the lake answers.", not self._serving.lake_problem)
        age = GaugeMetricFamily("headrace_reconcile_age_seconds", "Since the lake last answered.")
        age.add_metric([], self._serving.age_s(now))
        yield age


def _gauge(name: str, text: str, value: object) -> GaugeMetricFamily:
    number = value if isinstance(value, int) else bool(value)
    return GaugeMetricFamily(f"headrace_{name}", text, value=float(number))


def _total(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(f"headrace_{name}", text, value=value)
