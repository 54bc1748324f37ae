"""What Prometheus may ask the lake. Where lakeFS has a name for a number, it is lakeFS's."""

import shutil
from collections.abc import Iterator
from typing import Protocol

import apsw
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from storage.embedded.lake import EmbeddedLake
from storage.embedded.sqlite import fetch_first

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
API, GATEWAY = "api", "gateway"


class Metrics:
    """The counters of one server, and a look at its lake at every scrape."""

    def __init__(self, lake: EmbeddedLake) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_LakeCollector(lake))
        registry = self._registry
        self._answers = Counter(
            "api_requests", "Requests answered over REST.", ["code", "method"], registry=registry
        )
        help_text = "How long a request took, from its headers to the answer's last byte."
        self._seconds = {
            service: Histogram(
                f"{service}_request_duration_seconds",
                help_text,
                ["operation", "code"],
                buckets=SECONDS,
                registry=registry,
            )
            for service in (API, GATEWAY)
        }
        self.underway = Gauge(
            "lakefs_concurrent_requests", "Requests under way.", ["service"], registry=registry
        )
        self._received = Counter(
            "headrace_lake_received_bytes",
            "Bytes of bodies received.",
            ["service"],
            registry=registry,
        )
        self._sent = Counter(
            "headrace_lake_sent_bytes", "Body bytes sent.", ["service"], registry=registry
        )

        self._collections = Counter(
            "headrace_lake_gc_runs", "Garbage collections done.", registry=registry
        )
        self._removed = Counter(
            "headrace_lake_gc_removed", "What they removed.", ["kind"], registry=registry
        )
        self._freed = Counter(
            "headrace_lake_gc_freed_bytes", "Bytes they freed.", registry=registry
        )

    def count_answer(
        self,
        service: str,
        operation: str,
        method: str,
        status: int,
        *,
        seconds: float,
        received: int,
        sent: int,
    ) -> None:
        """Count one answer."""
        if service == API:
            self._answers.labels(status, method).inc()
        self._seconds[service].labels(operation, status).observe(seconds)
        self._received.labels(service).inc(received)
        self._sent.labels(service).inc(sent)

    def count_collection(self, commits: int, objects: int, octets: int) -> None:
        """Count a garbage collection."""
        self._collections.inc()
        self._removed.labels("commits").inc(commits)
        self._removed.labels("objects").inc(objects)
        self._freed.inc(octets)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


class _Registered(Protocol):
    def collect(self) -> Iterator[GaugeMetricFamily]: ...


class _LakeCollector(_Registered):
    """Numbers that are read from the lake itself."""

    def __init__(self, lake: EmbeddedLake) -> None:
        self._lake = lake

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing before the first scrape: the lake is not read to be registered."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The numbers as they are now."""
        counted = self._lake.read(lambda view: _count(view.rows))
        for name, (help_text, number) in (counted | self._measure_disk()).items():
            yield GaugeMetricFamily(f"headrace_lake_{name}", help_text, value=number)

    def _measure_disk(self) -> dict[str, tuple[str, float]]:
        graph = self._lake.root.glob("graph.sqlite*")
        size = sum(path.stat().st_size for path in graph if path.is_file())
        free = shutil.disk_usage(self._lake.root).free
        return {
            "database_bytes": ("Size of the version graph's files.", size),
            "free_bytes": ("Bytes left on the lake's disk.", free),
            "read_only": (
                "1 once the disk failed to sync: no write is taken until a restart.",
                float(bool(self._lake.health.stopped_by)),
            ),
        }


_COUNTS = {
    "repositories": ("Repositories.", "SELECT count(*) FROM repository"),
    "branches": ("Branches, those of runs included.", "SELECT count(*) FROM branch"),
    "staged_objects": ("Objects not committed yet.", "SELECT count(*) FROM staged"),
    "open_uploads": ("Uploads in parts under way.", "SELECT count(*) FROM upload"),
    "open_upload_bytes": ("Bytes of their parts.", "SELECT coalesce(sum(size), 0) FROM part"),
}


def _count(rows: apsw.Connection) -> dict[str, tuple[str, float]]:
    found = {name: (text, fetch_first(rows, query)) for name, (text, query) in _COUNTS.items()}
    return {name: (text, float(row[0]) if row else 0.0) for name, (text, row) in found.items()}
