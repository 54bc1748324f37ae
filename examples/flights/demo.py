"""A year of real flights through the whole loop, by the deployments and the event trigger.

Every step is idempotent: a second run finds what the first one merged and shows it again.
"""

import io
import time
from calendar import month_name
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import polars as pl
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.deployments import run_deployment

from examples.flights.faults import broken, withheld_arrivals
from examples.flights.feed import MONTHS, Feeds, delivery, month_bounds
from examples.flights.service import Service
from examples.flights.traffic import replay, requests
from examples.flights.year import request, rows_of
from flows.context import Context
from flows.errors import EmptyWindow, Misconfigured
from flows.ingest.land import survey
from flows.monitor import ledger
from flows.monitor.decide import Decision
from flows.release.register import find_registration
from flows.release.rollback import RollbackRequest, plan_rollback, roll_back_environment
from flows.tables import PREDICTIONS
from storage.errors import Conflict
from storage.landing import deliver, take_stock
from storage.registry import layout
from storage.runs import records
from storage.runs.records import Record

FIRST_LIVE_MONTH = 4
BROKEN_MONTH = 8
PATIENCE_S = 180.0

Tell = Callable[[str, str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Started:
    """A flow run as the UI shows it; `by` says what created it."""

    name: str
    state: str
    message: str
    by: str
    url: str


class Demo:
    """Delivers the months, sends the traffic, and waits for what the deployments do."""

    def __init__(self, context: Context, tell: Tell) -> None:
        self.context = context
        self.tell = tell
        self.serving = Service(context.settings.service_url)
        self._shown_rollback = False

    def bootstrap(self) -> None:
        """January to March arrive; the first model is trained, released and served."""
        for month in range(1, FIRST_LIVE_MONTH):
            self._deliver(month, delivery(month))
        self._deliver(FIRST_LIVE_MONTH, delivery(FIRST_LIVE_MONTH))
        self._run("ingest/ingest", {})
        start, _ = month_bounds(FIRST_LIVE_MONTH)
        run = self._run("train/train", {"request": "first", "cutoff": start.isoformat()})
        self.tell("train", run.message)
        verdict, release = self._await_verdict("request", "first")
        if not release:
            outcome = verdict.details["outcome"]
            raise Misconfigured(f"The first model failed its gates: {outcome}")
        self._await_serving(release)

    def live_month(self, month: int) -> None:
        """A month's flights are asked for; the next month arrives; monitoring decides."""
        self._traffic(month)
        if month < MONTHS[-1]:
            self._deliver(month + 1, self._feeds(month + 1))
        if month == BROKEN_MONTH:
            self._put("arrivals", f"{request(month)}-late", withheld_arrivals(month))
        self.tell("ingest", self._ingest())
        self._monitor(month)

    def back_and_forward(self) -> None:
        """Take model and data back to the release before; then let the same batches land again."""
        context, environment = self.context.acting("demo"), self.context.settings.environment
        before = rows_of(context, context.lake.pin(context.pipeline.repository))
        asked = RollbackRequest(
            environment, f"demo of {datetime.now(UTC):%Y-%m-%d %H:%M:%S}", may_run_again=True
        )
        done = roll_back_environment(context, plan_rollback(context, asked))
        after = rows_of(context, context.lake.pin(context.pipeline.repository))
        undone = len(done.data.details["supersedes"]) if done.data else 0
        self.tell(
            "rollback",
            f"index {done.index}: {done.left} -> {done.release}; {undone} batches undone, "
            + ", ".join(f"{name} {before[name]:,} -> {after[name]:,} rows" for name in after),
        )
        self._await_serving(str(done.release))
        landed = self._ingest()
        restored = rows_of(context, context.lake.pin(context.pipeline.repository))
        same = "as before" if restored == before else f"NOT as before: {restored}"
        self.tell("ingest", f"{landed} Rows are {same}.")
        reason = f"forward again after index {done.index}"
        self._run("serve/serve", {"release": str(done.left), "reason": reason})
        self._await_serving(str(done.left))

    def newest_release(self) -> str:
        """What the newest index names."""
        return max(self._indexes())[1]

    def _feeds(self, month: int) -> Feeds:
        return broken(month) if month == BROKEN_MONTH else delivery(month)

    def _deliver(self, month: int, feeds: Feeds) -> None:
        sent = [self._put(name, request(month), feed) for name, feed in feeds.items()]
        note = "" if month != BROKEN_MONTH else " (arrivals fall silent, weather turns to °C)"
        self.tell("deliver", f"{sum(sent)} of {len(sent)} batches of {_name(month)}{note}")

    def _put(self, dataset: str, batch: str, frame: pl.DataFrame) -> bool:
        if frame.is_empty():
            return False
        data = _parquet(frame)
        try:
            repository = self.context.pipeline.repository
            deliver(self.context.lake, repository, dataset, batch, {"part-0.parquet": data})
        except Conflict:
            return False
        return True

    def _traffic(self, month: int) -> None:
        start, end = month_bounds(month)
        data = self.context.lake.pin(self.context.pipeline.repository)
        if self._served(start, end):
            self.tell("serve", f"{_name(month)} was asked for before")
            return
        frames = self.context.frames(data)
        batches = requests(self.context.pipeline, frames, start=start, end=end)
        try:
            answered = replay(self.context.settings.service_url, batches, name=request(month))
        except EmptyWindow as error:
            raise Misconfigured(
                f"The flights of {_name(month)} are not in the lake: a rollback took them back.",
                remedy="`headrace data log flights` names it; `headrace data rollback --all --to` "
                "the commit before it brings them back, and the demo goes on.",
            ) from error
        told = ", ".join(f"{rows:,} flights by {release}" for release, rows in answered.items())
        self.tell("serve", f"{_name(month)}: {told}")

    def _served(self, start: datetime, end: datetime) -> bool:
        data = self.context.lake.pin(self.context.pipeline.repository)
        rows = self.context.scan(data, PREDICTIONS)
        if rows is None:
            return False
        within = rows.filter(pl.col("at") >= start, pl.col("at") < end)
        served = within.select(pl.col(self.context.pipeline.key).n_unique()).collect().item()
        departing = self.context.pipeline.entities(self.context.frames(data)).filter(
            pl.col("at") >= start, pl.col("at") < end
        )
        return bool(served == departing.select(pl.len()).collect().item())

    def _ingest(self) -> str:
        """One run, or two if the service handed its last predictions over after stock-taking."""
        message = self._run("ingest/ingest", {}).message
        self.serving.await_delivered(PATIENCE_S)
        pipeline = self.context.pipeline
        if survey(
            self.context.lake, pipeline, take_stock(self.context.lake, pipeline.repository)
        ).waiting:
            message = f"{message} {self._run('ingest/ingest', {}).message}"
        return message

    def _monitor(self, month: int) -> None:
        start, end = month_bounds(month)
        named = request(month)
        run = self._run(
            "monitor/monitor",
            {"start": start.isoformat(), "end": end.isoformat(), "request": named},
        )
        decision = self._decision(named)
        self.tell("monitor", f"{decision.action}: {run.message.removeprefix('already merged: ')}")
        if decision.action == "retrain":
            self._follow(decision)

    def _decision(self, named: str) -> Decision:
        data = self.context.lake.pin(self.context.pipeline.repository)
        run_id = records.run_id("monitor", self.context.pipeline.name, named)
        record = records.find(
            self.context.lake, data.repository, data.commit, stage="monitor", run=run_id
        )
        if record is None:
            raise Misconfigured(
                f"The monitor run of {named} left no record.",
                remedy=f"Look at its log in {self.context.settings.prefect_url}.",
            )
        found = {e.decision.id: e.decision for e in ledger.read_entries(self.context.lake, data)}
        return found[record.details["decision"]]

    def _follow(self, decision: Decision) -> None:
        """The event's automation starts train, then gate, then serve; the release takes over."""
        record = self._await_record("train", self._training("decision", decision.id))
        run = _flow_run(record.orchestrator["prefect_flow_run_id"])
        self.tell("train", f"{record.details['outcome']} (created by {run.by})")
        _, release = self._await_verdict("decision", decision.id)
        if release:
            self._await_serving(release)
            self._back_and_forward_once(release)

    def _back_and_forward_once(self, release: str) -> None:
        """Where somebody took another release since, theirs stays."""
        running = self.newest_release()
        if running != release:
            remedy = f"headrace model promote {release} --reason 'drill over'"
            self.tell("rollback", f"not shown: {running} was chosen meanwhile; `{remedy}`")
        elif not self._shown_rollback:
            self._shown_rollback = True
            self.back_and_forward()

    def _training(self, kind: str, what: str) -> str:
        """The run id of a training, which names its candidate too."""
        return records.run_id("train", self.context.pipeline.name, kind, what)

    def _await_verdict(self, kind: str, what: str) -> tuple[Record, str]:
        """What the gates found, and the release that came of it; empty if the champion stays."""
        candidate, name = self._training(kind, what), self.context.pipeline.name
        verdict = self._await_record("gate", layout.gate_run(candidate))
        if not verdict.details["passed"]:
            self.tell("gate", str(verdict.details["outcome"]))
            return verdict, ""
        gates, rival = len(verdict.details["gates"]), verdict.details["against"]
        self.tell("gate", f"{gates} of {gates} passed on {_rows(verdict)}, against {rival}")
        registered = _until(
            lambda: find_registration(self.context.lake, name, candidate),
            f"the release of candidate {candidate[:12]}",
        )
        return verdict, str(registered.details["release"])

    def _await_record(self, stage: str, run_id: str) -> Record:
        repository = self.context.pipeline.repository

        def look() -> Record | None:
            head = self.context.lake.pin(repository).commit
            return records.find(self.context.lake, repository, head, stage=stage, run=run_id)

        return _until(look, f"the record of {stage} {run_id[:12]}")

    def _await_serving(self, release: str) -> None:
        """Wait for an index that names the release and, if it is the newest, for its answers."""
        index = _until(lambda: self._index_of(release), f"an index that names {release}")
        if max(self._indexes())[0] == index:
            _until(lambda: self.serving.release() == release or None, f"{release} to serve")
        now = self.serving.release()
        self.tell("serve", f"index {index} names {release}; {now} answers")

    def _index_of(self, release: str) -> int | None:
        return max((i for i, r in self._indexes() if r == release), default=None)

    def _indexes(self) -> list[tuple[int, str]]:
        pin = self.context.lake.pin(self.context.pipeline.releases)
        found = records.at(self.context.lake, pin, stage="serve")
        return [(int(r.details["index"]), str(r.details["release"])) for r in found]

    def _run(self, deployment: str, parameters: dict[str, Any]) -> Started:
        run = run_deployment(
            deployment, parameters=parameters, timeout=PATIENCE_S, poll_interval=0.3
        )
        started = _describe(run, self.context.settings.prefect_url)
        if started.state != "Completed":
            raise Misconfigured(
                f"{deployment} ended as {started.state}: {started.message}",
                remedy=f"Its log is at {started.url}",
            )
        return started


def _flow_run(run_id: str) -> Started:
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run_id)]))
        )
        return _describe(run, "")


def _describe(run: Any, ui: str) -> Started:
    state = run.state
    by = f"{run.created_by.type} {run.created_by.display_value}" if run.created_by else "a person"
    return Started(
        run.name,
        state.name if state else "unknown",
        (state.message or "") if state else "",
        by.lower().replace("_", " "),
        f"{ui}/runs/flow-run/{run.id}",
    )


def _until(look: Callable[[], T | None], what: str) -> T:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.3)
    raise Misconfigured(
        f"Waited {PATIENCE_S:.0f} s for {what}.",
        remedy="Look at the runs in the Prefect UI, or into .headrace/logs/.",
    )


def _rows(verdict: Record) -> str:
    return f"{verdict.counts['holdout']:,} held-out flights"


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _name(month: int) -> str:
    return month_name[month]
