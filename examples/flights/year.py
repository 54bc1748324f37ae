"""The year as the lake's records tell it: one line a month."""

from dataclasses import dataclass

from examples.flights.feed import MONTHS, YEAR
from flows.context import Context
from flows.monitor import ledger
from flows.monitor.decide import Decision
from flows.tables import PREDICTIONS
from storage import registry
from storage.lake import Pin
from storage.registry import layout
from storage.runs import records
from storage.runs.records import Record


@dataclass(frozen=True)
class Month:
    """What arrived in a month, who served it, how well, and what came of it.

    Losses are log loss in nats a prediction; None where nothing was served.
    """

    month: int
    delivered: int
    kept: int
    quarantined: int
    decision: Decision | None
    champion: float | None
    challenger: float | None
    triggered: str


def year(context: Context) -> list[Month]:
    """Every month that has arrived, from the records on main."""
    data = context.lake.pin(context.pipeline.repository)
    ingested = records.at(context.lake, data, stage="ingest")
    monitored = {r.run_id: r for r in records.at(context.lake, data, stage="monitor")}
    trained = {r.details["decision"]: r for r in records.at(context.lake, data, stage="train")}
    released = _released(context)
    decisions = {e.decision.id: e.decision for e in ledger.read_entries(context.lake, data)}
    found = []
    for month in MONTHS:
        arrived = [r for r in ingested if _is_feed_of(r, month)]
        judged = monitored.get(records.run_id("monitor", context.pipeline.name, request(month)))
        decision = decisions.get(str(judged.details["decision"])) if judged else None
        found.append(_month(month, arrived, judged, decision, trained, released))
    return [month for month in found if month.delivered]


def request(month: int) -> str:
    """What names a month's monitoring run."""
    return f"{YEAR}-{month:02d}"


def rows_of(context: Context, pin: Pin) -> dict[str, int]:
    """Rows of every dataset of the pipeline at a commit."""
    from storage.tables import snapshot

    return {
        d.name: snapshot(context.lake, pin.repository, pin.commit, d.name).rows
        for d in context.pipeline.datasets
    }


def _released(context: Context) -> dict[str, str]:
    """Training to the release that came of it."""
    pin = registry.head(context.lake, context.pipeline.name)
    found = records.at(context.lake, pin, stage=layout.REGISTER)
    return {str(r.details["candidate"]): str(r.details["release"]) for r in found}


def _is_feed_of(record: Record, month: int) -> bool:
    named = str(record.details["batch"]).startswith(request(month))
    return named and record.details["dataset"] != PREDICTIONS


def _month(
    month: int,
    arrived: list[Record],
    judged: Record | None,
    decision: Decision | None,
    trained: dict[str, Record],
    released: dict[str, str],
) -> Month:
    answer = trained.get(decision.id) if decision else None
    return Month(
        month=month,
        delivered=sum(r.counts["delivered"] for r in arrived),
        kept=sum(r.counts["kept"] for r in arrived),
        quarantined=sum(r.counts["quarantined"] for r in arrived),
        decision=decision,
        champion=judged.metrics.get("champion:log_loss") if judged else None,
        challenger=judged.metrics.get("challenger:log_loss") if judged else None,
        triggered=released.get(answer.run_id, "champion stays") if answer else "",
    )
