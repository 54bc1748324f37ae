"""From the spool to the lake: a closed segment becomes a Parquet batch on the landing branch.

The batch's id is the segment's: a redelivery after a lost reply meets its own seal and is done.
"""

import logging
import threading
from io import BytesIO

import orjson
import polars as pl

from flows.service.predictions.segments import Columns, Segment
from flows.service.predictions.spool import Spool
from flows.tables import PREDICTIONS, Kind
from storage.errors import Conflict, StorageError
from storage.lake import Lake
from storage.landing import deliver

PERIOD_S = 0.5
RETRY_S = 5.0

log = logging.getLogger(__name__)

_TYPES: dict[Kind, pl.DataType] = {
    "String": pl.String(),
    "Float64": pl.Float64(),
    "Moment": pl.Int64(),
}


class Delivery:
    """The thread that syncs the spool twice a second and hands over what is closed.

    `problem` says why the lake did not take the last segment; empty if it did.
    """

    def __init__(self, spool: Spool, lake: Lake, *, repository: str) -> None:
        self._spool, self._lake, self._repository = spool, lake, repository
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self.problem = ""

    def start(self) -> None:
        """Begin with what an earlier process left behind."""
        self._thread.start()

    def stop(self, *, timeout_s: float) -> None:
        """Close the open segment and try once more to hand everything over."""
        self._stop.set()
        self._thread.join(timeout_s)

    def deliver_waiting(self) -> bool:
        """Hand over every closed segment; False if the lake did not take one, which stays."""
        for segment in self._spool.waiting():
            try:
                self._deliver(segment)
            except StorageError as error:
                if str(error) != self.problem:
                    log.warning("predictions stay in the spool: %s", error)
                self.problem = str(error)
                return False
            self.problem = ""
        return True

    def _run(self) -> None:
        pause = PERIOD_S
        since = 0.0
        while not self._stop.wait(PERIOD_S):
            since += PERIOD_S
            try:
                self._spool.sync()
                if since >= pause:
                    pause, since = (PERIOD_S if self.deliver_waiting() else RETRY_S), 0.0
            # The thread must outlive whatever a disk or a library does; rows stay spooled.
            # A polars panic is no Exception.
            except (Exception, pl.exceptions.PanicException):
                log.exception("delivery of predictions failed; they stay in the spool")
        self._spool.rotate()
        self.deliver_waiting()

    def _deliver(self, segment: Segment) -> None:
        frame, lost = read_segment(segment)
        if lost:
            log.error("%s: %d of %d rows cannot be read", segment.id, lost, segment.rows)
        if frame.height:
            content = BytesIO()
            frame.write_parquet(content)
            files = {f"{PREDICTIONS}.parquet": content.getvalue()}
            try:
                deliver(self._lake, self._repository, PREDICTIONS, segment.id, files)
            except Conflict:
                log.info("%s was delivered before", segment.id)
        self._spool.settle(segment, lost=lost)


def read_segment(segment: Segment) -> tuple[pl.DataFrame, int]:
    """The segment's rows with the columns of the predictions table, and how many are unreadable."""
    lines = segment.lines.read_bytes()
    try:
        return _frame(lines, segment.columns), 0
    except pl.exceptions.PolarsError:
        whole = [line for line in lines.splitlines(keepends=True) if _is_object(line)]
        return _frame(b"".join(whole), segment.columns), segment.rows - len(whole)


def _frame(lines: bytes, columns: Columns) -> pl.DataFrame:
    schema = {name: _TYPES[kind] for name, kind in columns.items()}
    if not lines:
        return pl.DataFrame(schema=schema)
    moments = [name for name, kind in columns.items() if kind == "Moment"]
    frame = pl.read_ndjson(BytesIO(lines), schema=schema)
    return frame.with_columns(pl.col(moments).cast(pl.Datetime("us", "UTC")))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
