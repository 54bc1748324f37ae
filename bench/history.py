"""What a run costs with 10, 1,000 and 10,000 runs behind it: requests to the lake, and time.

    python bench/history.py [--sizes 10 1000 10000] [--rounds 5] [--without-compaction]

The history is made below the HTTP surface: records, sealed batches, decisions with grades,
candidates and releases that are valid, one commit a run. Then everything is measured through the
client, as the flows call it. `ingest` takes one new small batch, from its survey to its merge;
`monitor` is what it reads of the ledger; `reconcile` one look at both repositories; `runs` and
`data log` what the commands read by default. What was compacted is all but the last ten runs, as
`reconcile` leaves it; `--without-compaction` reads as a lake of before does, or one that never
reconciles. Requests are the lake's own count and free of noise; times are medians. The last
column is the figure: the largest history over the smallest.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import httpx
from lake_server import KEY, SECRET, serving

from examples.flights.feed import delivery
from examples.flights.pipeline import pipeline as flights
from flows.cli.commands.runs import find_releases
from flows.data import history
from flows.ingest.land import land, survey
from flows.monitor.ledger import read_gradable, read_history
from flows.pipeline import Pipeline
from flows.reconcile import open_work
from storage.embedded.graph import branches, heads, repositories
from storage.embedded.graph.heads import Message
from storage.embedded.graph.ranges import ObjectEntry, make_entry
from storage.embedded.graph.refs import get_branch
from storage.embedded.graph.staging import stage
from storage.embedded.lake import EmbeddedLake
from storage.lake import Lake, Pin
from storage.lake.client import Access
from storage.landing import Batch, File, deliver, take_stock
from storage.runs import records
from storage.runs.compaction import compact
from storage.runs.reaper import STAGE_DEADLINE, reap
from storage.waiting_batches import INGEST, run_of

SIZES = [10, 1000, 10_000]
# Of ten runs, seven ingest; the rest are of the loop.
KINDS = ["ingest"] * 7 + ["monitor", "train", "release"]
NEW = 10
START = datetime(2013, 1, 1, tzinfo=UTC)
SHOWN = 20
_COUNTED = r"^(?:api|gateway)_request_duration_seconds_count(?:{.*})? (\S+)$"
Files = Mapping[str, bytes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-compaction", action="store_true")
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    found = {}
    for size in sorted(given.sizes):
        with tempfile.TemporaryDirectory() as folder:
            found[size] = measure(Path(folder), size, given.rounds, not given.without_compaction)
    report(found)


def report(found: Mapping[int, Mapping[str, tuple[float, float]]]) -> None:
    """Requests and milliseconds of each, and the ratio of the largest history to the smallest."""
    sizes = sorted(found)
    head = "".join(f"{f'{size:,} runs':>24}" for size in sizes)
    print(f"{'':10}{head}{'ratio':>24}")
    for name in found[sizes[0]]:
        cells = "".join(f"{_cell(*found[size][name]):>24}" for size in sizes)
        first, last = found[sizes[0]][name], found[sizes[-1]][name]
        ratio = f"{last[0] / first[0]:.2f} req, {last[1] / first[1]:.2f} time"
        print(f"{name:10}{cells}{ratio:>24}")


def _cell(requests: float, seconds: float) -> str:
    return f"{requests:,.0f} req {seconds * 1000:,.0f} ms"


def measure(
    folder: Path, size: int, rounds: int, is_compacted: bool
) -> dict[str, tuple[float, float]]:
    """Name of a step to its requests and seconds, medians."""
    repository = "flights"
    pipeline = flights
    make_repositories(folder, repository, pipeline.releases)
    make_history(folder, repository, range(size - NEW))
    with serving(folder) as (server, _):
        url = f"http://{server.host}"
        lake = Lake(Access(url, KEY, SECRET))
        begun = time.perf_counter()
        if is_compacted:
            open_work.compact_records(
                lake, lake.pin(repository), lake.pin(pipeline.releases), by=None
            )
        print(f"{size:,} runs: compacted in {time.perf_counter() - begun:.1f} s")
    make_history(folder, repository, range(size - NEW, size))
    with serving(folder) as (server, _):
        url = f"http://{server.host}"
        lake = Lake(Access(url, KEY, SECRET))
        # It protects main, which the history was committed to directly.
        lake.create_pipeline(repository)
        steps = make_steps(lake, pipeline)
        return {name: time_steps(url, step, rounds) for name, step in steps.items()}


def time_steps(url: str, step: Callable[[], None], rounds: int) -> tuple[float, float]:
    step()
    requests, seconds = [], []
    for _ in range(rounds):
        before, begun = count_requests(url), time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
        requests.append(count_requests(url) - before)
    return statistics.median(requests), statistics.median(seconds)


def count_requests(url: str) -> int:
    """What the lake answered so far, over REST and S3."""
    text = httpx.get(f"{url}/metrics", auth=(KEY, SECRET)).raise_for_status().text
    counts = re.findall(
        r"^(?:api|gateway)_request_duration_seconds_count(?:{.*})? (\S+)$", text, re.M
    )
    return int(sum(float(count) for count in counts))


def make_steps(lake: Lake, pipeline: Pipeline) -> dict[str, Callable[[], None]]:
    """Each step as its flow or command takes it."""
    repository, releases = pipeline.repository, pipeline.releases
    frame = delivery(1)["flights"].head(2000)
    numbers = iter(range(1000))

    def ingest() -> None:
        number = next(numbers)
        buffer = BytesIO()
        frame.slice(number * 10, 10).write_parquet(buffer)
        deliver(lake, repository, "flights", f"new{number}", {"part-0.parquet": buffer.getvalue()})
        (batch,) = survey(lake, pipeline, take_stock(lake, repository)).waiting
        land(lake, pipeline, batch)

    def monitor() -> None:
        pin = lake.pin(repository)
        read_gradable(lake, pin)
        read_history(lake, pin)

    def reconcile() -> None:
        now, data, released = datetime.now(UTC), lake.pin(repository), lake.pin(releases)
        open_work.find_unanswered(lake, data, now)
        open_work.read_candidates(lake, released)
        for name in (repository, releases):
            reap(lake, name, older_than=STAGE_DEADLINE)
            compact(lake, name, [], enough=1 << 30)

    def list_runs() -> None:
        found = records.read_newest(lake, lake.pin(repository), limit=SHOWN)
        find_releases(lake, lake.pin(releases), found)

    def list_log() -> None:
        history.log(lake, lake.pin(repository), limit=SHOWN)

    return {
        "monitor": monitor,
        "reconcile": reconcile,
        "runs": list_runs,
        "data log": list_log,
        "ingest": ingest,
    }


def make_repositories(folder: Path, *names: str) -> None:
    """Empty repositories with a landing branch."""
    lake = EmbeddedLake(folder)
    for name in names:

        def create(view: object, name: str = name) -> None:
            space = f"local://{name}"
            repositories.create_repository(view.rows, name, space, "main", read_only=False)  # type: ignore[attr-defined]
            branches.create_branch(view, name, "landing", "main", hidden=False, force=False)  # type: ignore[arg-type]

        lake.write(create)
    lake.close()


def make_history(folder: Path, repository: str, numbers: range) -> None:
    """One commit a run, on the data's main or the releases' main; batches are sealed before."""
    lake = EmbeddedLake(folder)
    releases = f"{repository}-releases"
    for where, branch, files, labels in make_commits(repository, releases, numbers):
        entries = {path: put_blob(lake, data) for path, data in files.items()}

        def fill(view: object, where: str = where, branch: str = branch) -> None:
            area = get_branch(view.rows, where, branch).area  # type: ignore[attr-defined]
            for path, one in entries.items():  # noqa: B023 -- called at once
                stage(view.rows, area, path, one)  # type: ignore[attr-defined]

        lake.write(fill)
        heads.commit(lake, where, branch, Message("bench", "bench", labels))
    lake.close()


def make_commits(
    repository: str, releases: str, numbers: range
) -> Iterator[tuple[str, str, Files, Mapping[str, str]]]:
    landed: dict[str, bytes] = {}
    for number in numbers:
        if KINDS[number % len(KINDS)] == "ingest":
            landed |= make_batch(number)
    if landed:
        yield repository, "landing", landed, {}
    for number in numbers:
        kind = KINDS[number % len(KINDS)]
        if kind == "release":
            for files, labels in make_release(number):
                yield releases, "main", files, labels
        else:
            files, labels = {"ingest": make_ingest, "monitor": make_decision, "train": make_train}[
                kind
            ](number)
            yield repository, "main", files, labels


def make_batch(number: int) -> Files:
    folder = f"landing/flights/b{number:06}"
    return {f"{folder}/part-0": b"%d" % number, f"{folder}/_READY": seal(number)}


def seal(number: int) -> bytes:
    files = [{"name": "part-0", "size": len(b"%d" % number), "sha256": f"{number:064x}"}]
    return json.dumps({"files": files}, sort_keys=True).encode()


def make_ingest(number: int) -> tuple[Files, Mapping[str, str]]:
    file = File("part-0", len(b"%d" % number), f"{number:064x}")
    batch = Batch("flights", f"b{number:06}", Pin("flights", "0" * 64), (file,))
    return make_record(
        INGEST,
        run_of(batch),
        number,
        counts={"delivered": 10, "kept": 9, "quarantined": 1, "duplicates": 0},
        tables={"flights": number},
        details={
            "dataset": "flights",
            "batch": batch.id,
            "digest": batch.digest,
            "rules": {"distance_mi|min": 1},
        },
    )


def decision_of(number: int) -> str:
    return f"{number // len(KINDS):064x}"


def make_decision(number: int) -> tuple[Files, Mapping[str, str]]:
    """A decision to retrain, graded since; the newest one is not."""
    name, end = decision_of(number), START + timedelta(days=number // len(KINDS))
    said = {
        "id": name,
        "release": "flights/1",
        "window_end": end.isoformat().replace("+00:00", "Z"),
        "action": "retrain",
        "alarm": True,
        "level": 2,
    }
    entry_body = {"decision": said, "evidence": {"window": {"rows": 100}}}
    grade = {"decision_id": name, "verdict": "true-alarm"}
    files, labels = make_record(
        "monitor",
        records.run_id("monitor", str(number)),
        number,
        details={"decision": name, "action": "retrain", "explanation": "it drifted"},
        metrics={"champion:log_loss": 0.4},
    )
    more = {
        f"ledger/{name}.json": json.dumps(entry_body).encode(),
        f"ledger/{name}.grade.json": json.dumps(grade).encode(),
    }
    return {**files, **more}, labels


def make_train(number: int) -> tuple[Files, Mapping[str, str]]:
    return make_record(
        "train",
        records.run_id("train", str(number)),
        number,
        details={"decision": decision_of(number), "candidate": f"{number:064x}", "passed": True},
    )


def make_release(number: int) -> Iterator[tuple[Files, Mapping[str, str]]]:
    """A candidate that passed, was registered and promoted."""
    candidate = f"{number - 1:064x}"
    said = {"candidate": candidate, "branch": "main", "against": None}
    release = f"flights/{1 + number // len(KINDS)}"
    yield make_record("candidate", candidate, number, details={"reason": "drift"})
    gate = records.run_id("gate", candidate)
    yield make_record("gate", gate, number, details={"candidate": candidate, "passed": True})
    register = records.run_id("register", candidate)
    yield make_record("register", register, number, details={**said, "release": release})
    serve = records.run_id("serve", str(number))
    served = {"environment": "production", "release": release, "index": number}
    yield make_record("serve", serve, number, details=served)


def make_record(
    stage_name: str, run: str, number: int, **said: object
) -> tuple[Files, Mapping[str, str]]:
    record = records.Record(
        stage=stage_name,
        run_id=run,
        attempt=f"{number:016x}",
        started_at=(START + timedelta(minutes=number)).isoformat(),
        duration_s=0.5,
        base="0" * 64,
        code={"code": "ab" * 20},
        orchestrator={"prefect_flow_run": "bench"},
        **said,  # type: ignore[arg-type]
    )
    labels = {"stage": stage_name, "run_id": run, "attempt": record.attempt}
    return {record.path: record.to_json()}, labels


def put_blob(lake: EmbeddedLake, data: bytes) -> ObjectEntry:
    incoming = lake.blobs.receive()
    incoming.write(data)
    written = lake.blobs.keep(incoming)
    return make_entry(
        digest=written.digest,
        etag=written.md5,
        size=written.size,
        content_type="application/octet-stream",
        modified_s=1_700_000_000,
        metadata={},
    )


if __name__ == "__main__":
    main()
