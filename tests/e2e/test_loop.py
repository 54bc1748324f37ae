"""The whole loop on one machine: deployments, worker, events, service, and the pages to see it.

Two months of flights arrive, a model is trained on what was known in the middle of the second
and serves the rest of it. Everything is what `headrace up` starts; nothing is stood in for.
"""

import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket
from typing import Any, TypeVar

import httpx
import polars as pl
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from examples.flights.feed import delivery
from examples.flights.service import Service
from examples.flights.traffic import replay, requests
from flows.context import Context, open_run
from flows.data import branches
from flows.data.contracts import row_keys
from flows.events import announce
from flows.machine import down, up
from flows.machine.process_environment import overlay
from flows.monitor import ledger
from flows.monitor.decide import Decision, make_decision_id
from flows.monitor.evidence import JudgedWindow, MonitorEvidence
from flows.monitor.flow import DETECTED
from flows.reconcile import flow as reconcile
from flows.reconcile import open_work
from flows.release.register import find_registration
from flows.settings import Settings
from flows.tables import PREDICTIONS
from flows.trust.installation import Trusted
from security.release.index import TIMESTAMP_TYPE
from storage import registry
from storage.lake import Pin
from storage.landing import deliver
from storage.registry import candidates, layout
from storage.registry.details import CandidateDetails
from storage.runs import Job, Run, commit_once, records
from storage.runs.records import Record
from storage.versions.merge_by_key import merge_branch

ROOT = Path(__file__).parents[2]
CUTOFF = datetime(2013, 2, 15, tzinfo=UTC)
END = datetime(2013, 3, 1, tzinfo=UTC)
# Before giving up, on a machine that may be busy with other things; nothing is measured by it.
PATIENCE_S = 400.0
CHROMIUM = shutil.which("chromium")
# Without these the browser spends its time on hosts that a closed network refuses.
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="headrace up needs /proc to know its own"
)
T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """One installation that is up, with its pipeline's lake and its Prefect server's API."""

    settings: Settings
    context: Context
    api: httpx.Client

    @property
    def repository(self) -> str:
        return self.context.pipeline.repository

    @property
    def data(self) -> Pin:
        return self.context.lake.pin(self.repository)

    def run(self, deployment: str, **parameters: Any) -> FlowRun:
        """Through the server, the work pool and the worker; back when it is done."""
        run = run_deployment(
            deployment, parameters=parameters, timeout=PATIENCE_S, poll_interval=0.3
        )
        assert isinstance(run, FlowRun)
        assert run.state is not None
        assert run.state.is_completed(), run.state.message
        return run

    def ask(self, kind: str, **filters: Any) -> list[dict[str, Any]]:
        """Everything of a kind, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            body = {"limit": 200, "offset": len(found), **filters}
            reply = self.api.post(f"/{kind}/filter", json=body).raise_for_status()
            found += reply.json()
            if len(reply.json()) < 200:
                return found

    def runs_of(self, deployment: str, **parameters: str) -> list[dict[str, Any]]:
        """Flow runs of a deployment that were started with these parameters."""
        found = self.ask("flow_runs", deployments={"name": {"any_": [deployment]}})
        return [r for r in found if parameters.items() <= r["parameters"].items()]

    def trainings(self, ref: str = "main", decision: str = "") -> list[Record]:
        """Records of training on the ref, of those for the decision if one is named."""
        found = records.at(
            self.context.lake, self.context.lake.pin(self.repository, ref), stage="train"
        )
        return [r for r in found if not decision or r.details["decision"] == decision]

    def first_training(self) -> Record:
        """The one that `trained` started, the oldest of all."""
        return self.trainings()[-1]

    def verdict(self, candidate: str, ref: str = "main") -> Record | None:
        """What the gates found of a candidate, as the data's own runs have it."""
        head, run = self.context.lake.pin(self.repository, ref), layout.gate_run(candidate)
        return records.find(self.context.lake, head.repository, head.commit, stage="gate", run=run)

    def release(self, candidate: str) -> str | None:
        """The release that came of a candidate."""
        found = find_registration(self.context.lake, self.context.pipeline.name, candidate)
        return str(found.details["release"]) if found else None

    def decide_to_retrain(self, evidence_rows: int) -> str:
        """Put a drift decision into the ledger, as monitor would; its id. No event is sent."""
        evidence = evidence_of(self.context.pipeline.name, evidence_rows)
        decision = decision_on(evidence)

        def body(run: Run) -> None:
            ledger.write_entry(run, ledger.LedgerEntry(decision, evidence))
            run.details.update(decision=decision.id, action=decision.action)

        commit_once(
            self.context.lake,
            Job(self.repository, "monitor", records.run_id("monitor", decision.id)),
            body,
        )
        return decision.id


def evidence_of(pipeline: str, rows: int) -> MonitorEvidence:
    return MonitorEvidence(
        pipeline=pipeline,
        release=f"{pipeline}/1",
        window=JudgedWindow(CUTOFF, END, rows=rows, labelled_rows=rows),
        breaches=(),
        drift=(),
        measured=None,
        challenger=None,
        estimated=None,
        advantage=None,
        loss_rise=None,
        bias=None,
        estimated_rise=None,
        forecast=None,
    )


def decision_on(evidence: MonitorEvidence) -> Decision:
    return Decision(
        id=make_decision_id(evidence),
        pipeline=evidence.pipeline,
        release=evidence.release,
        window_start=evidence.window.start,
        window_end=evidence.window.end,
        evidence_digest=evidence.digest,
        action="retrain",
        reason="challenger",
        alarm=True,
        witness="challenger",
        level=2,
        statistic=9.0,
        threshold=2.0,
        explanation="a fresh challenger does better",
        notes=(),
    )


def until(look: Callable[[], T | None], what: str) -> T:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {PATIENCE_S:.0f} s for {what}")


def free_ports(count: int) -> list[int]:
    sockets = [socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def surroundings_of(settings: Settings) -> Iterator[None]:
    """This process's environment and Prefect's settings, as a flow run of `settings` has them."""
    server = {PREFECT_API_URL: settings.prefect_api_url, PREFECT_HOME: settings.home / "prefect"}
    with pytest.MonkeyPatch.context() as patch, temporary_settings(updates=server):
        for name in ("LAKEFS_ENDPOINT", "LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY"):
            patch.delenv(name, raising=False)
        for name, value in overlay(settings).items():
            patch.setenv(name, value)
        # A run that queues behind another asks again after 30 s by default.
        patch.setenv("PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS", "1")
        yield


def still_the_clock(api: httpx.Client) -> None:
    """No schedule's run may come in between: what starts here is started by a test or an event."""
    for one in api.post("/deployments/filter", json={}).raise_for_status().json():
        for schedule in one["schedules"]:
            path = f"/deployments/{one['id']}/schedules/{schedule['id']}"
            api.patch(path, json={"active": False}).raise_for_status()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    lake, prefect, service = free_ports(3)
    settings = Settings(
        root=ROOT,
        home=tmp_path_factory.mktemp("installation") / ".headrace",
        lake_port=lake,
        prefect_port=prefect,
        service_port=service,
        lake_endpoint=None,
    )
    with (
        surroundings_of(settings),
        httpx.Client(base_url=settings.prefect_api_url, trust_env=False, timeout=30) as api,
    ):
        try:
            up(settings)
            still_the_clock(api)
            yield Machine(settings, open_run(), api)
        finally:
            down(settings)


@pytest.fixture(scope="module")
def arrived(machine: Machine) -> Machine:
    """January and February lie on main."""
    for month in (1, 2):
        for dataset, frame in delivery(month).items():
            buffer = io.BytesIO()
            frame.write_parquet(buffer)
            files = {"part-0.parquet": buffer.getvalue()}
            deliver(machine.context.lake, machine.repository, dataset, f"2013-{month:02d}", files)
    machine.run("ingest/ingest")
    return machine


@pytest.fixture(scope="module")
def trained(arrived: Machine) -> Machine:
    """The first model was trained for a request and answers by itself."""
    arrived.run("train/train", request="first", cutoff=CUTOFF.isoformat())
    serving = Service(arrived.settings.service_url)
    (record,) = arrived.trainings()
    verdict = until(lambda: arrived.verdict(record.run_id), "the verdict on the first candidate")
    assert verdict.details["passed"], verdict.details["outcome"]
    until(lambda: serving.release() == "flights/1" or None, "flights/1 to serve")
    assert arrived.release(record.run_id) == "flights/1"
    return arrived


def test_both_months_landed_through_the_worker(arrived: Machine) -> None:
    (run,) = arrived.runs_of("ingest")
    assert run["state_type"] == "COMPLETED"
    assert run["work_pool_name"] == "local"
    found = records.at(arrived.context.lake, arrived.data, stage="ingest")
    assert len(found) == 8
    assert {r.orchestrator["prefect_flow_run_id"] for r in found} == {run["id"]}
    wanted = sum(delivery(month)["flights"].height for month in (1, 2))
    rows = arrived.context.frames(arrived.data)["flights"].select(pl.len()).collect().item()
    assert rows == wanted


def test_each_role_is_started_by_the_automation_that_heard_of_the_one_before(
    trained: Machine,
) -> None:
    candidate = trained.first_training().run_id
    chain = {
        "gate": ("judge-what-was-trained", {"candidate": candidate}),
        "serve": ("release-what-passed", {"candidate": candidate}),
        "timestamp": ("timestamp-what-was-published", {"environment": "production"}),
    }
    for deployment, (automation, parameters) in chain.items():
        runs = until(lambda d=deployment, p=parameters: trained.runs_of(d, **p), deployment)
        assert runs[0]["created_by"]["type"] == "AUTOMATION"
        assert automation in runs[0]["created_by"]["display_value"]


def test_every_deployment_is_given_its_own_role_and_no_other(trained: Machine) -> None:
    roles = {
        one["name"]: one["job_variables"]["env"]["HEADRACE_ROLES"]
        for one in trained.ask("deployments")
    }
    assert roles == {
        "ingest": "none",
        "train": "trainer",
        "gate": "gatekeeper",
        "serve": "releaser",
        "timestamp": "timestamp",
        "monitor": "serving",
        "reconcile": "none",
    }


def test_a_new_index_gets_its_timestamp_from_the_deployment_that_may(trained: Machine) -> None:
    pin = trained.context.lake.pin(trained.context.pipeline.releases)
    trusted = Trusted.load(trained.settings.keys)

    def stamped() -> bytes | None:
        head = trained.context.lake.pin(pin.repository)
        return trusted.timestamp(trained.context.lake, head, "production", 1)

    stamp = until(stamped, "the first index's timestamp")
    trusted.policy.verify(stamp, role="timestamp", payload_type=TIMESTAMP_TYPE)


def test_a_second_start_for_the_same_request_says_already_merged(trained: Machine) -> None:
    before = trained.data
    run = trained.run("train/train", request="first", cutoff=CUTOFF.isoformat())
    assert run.state is not None
    assert str(run.state.message).startswith("already merged as ")
    assert trained.data == before


def test_what_was_served_is_recorded_and_judged(trained: Machine) -> None:
    context = trained.context
    batches = requests(context.pipeline, context.frames(trained.data), start=CUTOFF, end=END)
    answered = replay(trained.settings.service_url, batches, name="second-half")
    (release,) = answered
    Service(trained.settings.service_url).await_delivered(PATIENCE_S)
    trained.run("ingest/ingest")
    predictions = context.scan(trained.data, PREDICTIONS)
    assert predictions is not None
    assert predictions.select(pl.len()).collect().item() == answered[release] > 10_000

    window = {"start": CUTOFF.isoformat(), "end": END.isoformat(), "request": "second-half"}
    trained.run("monitor/monitor", **window)
    run_id = records.run_id("monitor", context.pipeline.name, "second-half")
    data = trained.data
    record = records.find(context.lake, data.repository, data.commit, stage="monitor", run=run_id)
    assert record is not None
    assert record.counts["served"] == answered[release]
    entries = {e.decision.id: e for e in ledger.read_entries(context.lake, data)}
    entry = entries[record.details["decision"]]
    assert entry.decision.release == release
    assert entry.evidence.measured is not None
    assert 0.1 < entry.evidence.measured.log_loss < 1.0


def test_a_drift_event_starts_training_by_its_automation_and_five_of_them_train_once(
    trained: Machine,
) -> None:
    decision = trained.decide_to_retrain(evidence_rows=5001)
    for _ in range(5):
        announce(DETECTED, pipeline=trained.context.pipeline.name, payload={"decision": decision})

    def all_done() -> list[dict[str, Any]] | None:
        runs = trained.runs_of("train", decision=decision)
        done = [r for r in runs if r["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]
        return runs if len(done) == 5 else None

    runs = until(all_done, "five runs of train for one decision")
    assert {r["state_type"] for r in runs} == {"COMPLETED"}
    assert {r["created_by"]["type"] for r in runs} == {"AUTOMATION"}
    assert all("retrain-on-drift" in r["created_by"]["display_value"] for r in runs)
    messages = [r["state"]["message"] for r in runs]
    assert sum(m.startswith("already merged as ") for m in messages) == 4
    (record,) = trained.trainings(decision=decision)
    until(lambda: trained.verdict(record.run_id), "its one verdict")
    assert record.orchestrator["prefect_flow_run_id"] in {r["id"] for r in runs}
    assert record.details["cutoff"] <= END.isoformat()


def test_a_decision_whose_event_was_lost_is_trained_once_by_reconciling(
    trained: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = trained.decide_to_retrain(evidence_rows=5002)
    assert "0 retrainings" in reconciled(), "a young decision is left to its event"
    assert trained.runs_of("train", decision=decision) == []

    monkeypatch.setattr(open_work, "GRACE", timedelta(0))
    assert "1 retrainings" in reconciled()
    assert "1 retrainings" in reconciled(), "nobody has answered yet, so it asks again"
    until(
        lambda: trained.trainings(decision=decision), "the training of a decision without an event"
    )
    runs = trained.runs_of("train", decision=decision)
    keys = {str(run["idempotency_key"]) for run in runs}
    # One key an hour: only a test that meets the turn of the hour sees two.
    assert len(keys) == len(runs) <= 2
    assert all(key.startswith(f"train:{decision}:") for key in keys)
    assert len(trained.trainings(decision=decision)) == 1
    assert "0 retrainings" in reconciled()
    assert len(trained.runs_of("train", decision=decision)) == len(runs)


def test_a_training_that_died_after_it_put_its_candidate_forward_is_carried_on(
    trained: Machine,
) -> None:
    """The candidate of a run that never merged its record; nothing is fitted a second time."""
    context, first = trained.context, trained.first_training()
    run_id = records.run_id("train", context.pipeline.name, "request", "died")
    releases = context.lake.pin(context.pipeline.releases)
    said = candidates.candidate_record(context.lake, releases, first.run_id)
    assert said is not None
    stands = candidates.put(
        context.lake,
        context.pipeline.name,
        run_id,
        ROOT / "docs" / "images",
        details=CandidateDetails.of(said),
        inputs={"data": Pin.parse(said.inputs["data"])},
    )
    run = trained.run("train/train", request="died", cutoff=CUTOFF.isoformat())
    assert run.state is not None
    assert run.state.message == f"candidate {run_id[:12]}"
    tasks = trained.ask("task_runs", flow_runs={"id": {"any_": [str(run.id)]}})
    assert tasks == []
    (record,) = (r for r in trained.trainings() if r.run_id == run_id)
    assert record.metrics == stands.record.details["training"]["metrics"]
    # What was put there was no candidate at all: the gate says so once, and the champion stays.
    verdict = until(lambda: trained.verdict(run_id), "the verdict on what is no candidate")
    assert not verdict.details["passed"]
    assert "the folder's files are not those of a candidate" in verdict.details["outcome"]
    assert trained.release(run_id) is None
    again = run_deployment(
        "gate/gate", parameters={"candidate": run_id}, timeout=PATIENCE_S, poll_interval=0.3
    )
    assert again.state.is_failed()
    assert again.state.message == verdict.details["outcome"]


def test_a_window_in_which_the_release_served_nothing_is_monitored_once(trained: Machine) -> None:
    window = {"start": CUTOFF.isoformat(), "end": END.isoformat(), "request": "twice"}
    first = trained.run("monitor/monitor", **window)
    before = trained.data
    second = trained.run("monitor/monitor", **window)
    assert first.state is not None
    assert second.state is not None
    assert second.state.message == f"already merged: {first.state.message}"
    assert trained.data == before


def reconciled() -> str:
    """The deployment's own function, here, so that its grace period can be shortened."""
    state = reconcile.reconcile(return_state=True)
    assert state.is_completed(), state.message
    return str(state.message)


def test_training_on_a_users_branch_leaves_main_alone_until_it_is_merged(
    trained: Machine,
) -> None:
    lake, repository = trained.context.lake, trained.repository
    branches.create(lake, repository, "idea", source="main")
    before = trained.data
    mine = {"on": "idea", "request": "mine", "cutoff": CUTOFF.isoformat()}
    trained.run("train/train", **mine)
    assert trained.data == before
    there = {r.run_id: r for r in trained.trainings()}
    (on_branch,) = (r for r in trained.trainings("idea") if r.run_id not in there)
    assert on_branch.inputs["data"] == str(before)
    again = trained.run("train/train", **mine)
    assert again.state is not None
    assert str(again.state.message).startswith(f"already merged as {on_branch.attempt}")
    candidate = on_branch.run_id
    verdict = until(lambda: trained.verdict(candidate, "idea"), "the verdict, on the branch")
    assert verdict.details["branch"] == "idea"

    merge_branch(lake, repository, "idea", keys=row_keys(trained.context.pipeline))
    now = {r.run_id: r for r in trained.trainings()}
    assert now == {**there, candidate: on_branch}
    assert trained.verdict(candidate) == verdict
    # What was tried on a branch may be released, and is promoted by nobody.
    records_of_indexes = records.at(lake, registry.head(lake, repository), stage="serve")
    assert trained.release(candidate) not in {r.details["release"] for r in records_of_indexes}


def secrets_of(settings: Settings) -> list[str]:
    """The lake's secret, and one long line out of every private key."""
    key = json.loads(settings.lake_credentials_file.read_text())
    found = [str(key["secret_access_key"])]
    for path in settings.keys.rglob("*"):
        if path.is_file() and "PRIVATE KEY" in (text := path.read_text(errors="replace")):
            lines = [line for line in text.splitlines() if line and "-----" not in line]
            # The first line of a key is its kind's, the same in every key; the last is its own.
            found.append(max(lines[-2:], key=len))
    return found


def test_no_secret_is_in_anything_prefect_keeps_or_a_log(trained: Machine) -> None:
    secrets = secrets_of(trained.settings)
    assert len(secrets) > 6
    told = {kind: trained.ask(kind) for kind in ("flow_runs", "task_runs", "artifacts", "logs")}
    assert all(told.values()), {kind: len(found) for kind, found in told.items()}
    files = {p.name: p for p in (trained.settings.home / "logs").glob("*.log")}
    assert {"lake.log", "prefect.log", "worker.log", "service.log"} <= files.keys()
    # The database also holds what the API does not show: events, blocks, states.
    databases = (trained.settings.home / "prefect").glob("prefect.db*")
    places = {kind: json.dumps(found).encode() for kind, found in told.items()}
    places |= {p.name: p.read_bytes() for p in (*files.values(), *databases)}
    assert b"train" in places["prefect.db"] + places.get("prefect.db-wal", b"")
    leaks = [place for place, held in places.items() for s in secrets if s.encode() in held]
    assert leaks == []


def page(url: str, folder: Path) -> str:
    """The page's text and markup once its scripts have run."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *QUIET,
            f"--user-data-dir={folder}",
            "--virtual-time-budget=20000",
            "--window-size=1400,1200",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian's package is called chromium)"
)


@needs_chromium
def test_the_runs_page_shows_the_runs(trained: Machine, tmp_path: Path) -> None:
    trained.run("ingest/ingest")
    # The page begins with the newest; a loop that turned a while has more than it shows at once.
    run = max(trained.runs_of("ingest"), key=lambda one: str(one["start_time"]))
    for _ in range(3):
        # The page fetches what it shows; a busy machine may not have answered it in time.
        shown = page(f"{trained.settings.prefect_url}/runs", tmp_path)
        if run["name"] in shown:
            break
    assert run["name"] in shown
    assert "ingest" in shown
    assert "Completed" in shown


@needs_chromium
def test_a_gate_runs_artifact_page_shows_its_gates(trained: Machine, tmp_path: Path) -> None:
    record = trained.verdict(trained.first_training().run_id)
    assert record is not None
    run = record.orchestrator["prefect_flow_run_id"]
    artifacts = trained.ask("artifacts", artifacts={"flow_run_id": {"any_": [run]}})
    by_key = {one["key"]: one["id"] for one in artifacts}
    assert by_key.keys() == {"gates", "model-card", "calibration", "links"}
    gates = page(f"{trained.settings.prefect_url}/artifacts/artifact/{by_key['gates']}", tmp_path)
    assert "roc_auc" in gates
    assert "at least 0.65" in gates
    links = page(f"{trained.settings.prefect_url}/artifacts/artifact/{by_key['links']}", tmp_path)
    assert record.path in links
    assert record.inputs["data"] in links
