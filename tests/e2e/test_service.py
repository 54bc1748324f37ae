"""The prediction service as a process, against a lake, with really signed and sealed releases."""

import base64
import hashlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from flows import audit
from flows.pipeline import load_pipeline
from flows.service.models.admit import Admission, Admitted
from flows.service.models.offer import Source
from flows.tables import predictions_dataset
from security.errors import Untrusted
from security.formats.strict_json import to_bytes
from security.keys.pairs import Signer
from security.policy.documents import PairRecord, Revocation, RoleKeys, sign_trust
from security.policy.gates import GateRule
from security.policy.key_homes import init_keys, load_signer
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.bundle import seal
from security.release.index import (
    Index,
    NamedRelease,
    VerifiedIndex,
    format_moment,
    sign_index,
    sign_timestamp,
)
from security.release.provenance import Build, DataPin
from security.release.signing import (
    Measurement,
    ReleaseTerms,
    sign_gates,
    sign_provenance,
    sign_release,
)
from security.release.statement import ModelRelease
from storage import landing, registry
from storage.lake import Lake
from storage.lake.client import Access
from storage.registry.details import IndexDetails, RegisterDetails
from storage.runs import Job, Run, commit_once
from tests.tiny_model import ROW, tiny_model

ROOT = Path(__file__).parents[2]
ENVIRONMENT = "production"

DEFINITION = """
from datetime import timedelta
from flows.pipeline import Pipeline

def unused(*_):
    raise RuntimeError("serving needs neither data nor an estimator")

pipeline = Pipeline(
    name={name!r}, key="trip", datasets=(), entities=unused, labels=unused, views=(),
    features=("carrier", "distance_mi"), categorical=("carrier",), estimator=unused,
    hyperparameters={{}}, gates=(), holdout=timedelta(days=1), positive="late", base_rate=0.2,
)
"""


@dataclass
class House:
    """One pipeline's keys and releases, signed as the stages sign them."""

    lake: Lake
    name: str
    folder: Path
    policy: TrustPolicy
    signed: dict[int, ModelRelease] = field(default_factory=dict)

    @property
    def keys(self) -> Path:
        return self.folder / "home" / "keys"

    def register(self, score: float, *, tamper: Callable[[Path], None] | None = None) -> int:
        """Register the next version, which answers `score` to every row."""
        work = self.folder / secrets.token_hex(4)
        files = tiny_model(score)
        plain = {name: work / "plain" / name for name in files}
        (work / "plain").mkdir(parents=True)
        for name, content in files.items():
            plain[name].write_bytes(content)
        release = work / "release"
        bundle = seal(plain, recipients=self.policy.recipients, out=release)
        build = Build(
            run_id=secrets.token_hex(8),
            pipeline=self.name,
            model=self.name,
            data={"trips": DataPin(self.name, "ab" * 32)},
            code_commit="01" * 20,
            code_clean=True,
            lock_sha256="11" * 32,
            definition_sha256="22" * 32,
            hyperparameters={},
            features_sha256="33" * 32,
            schema_sha256="44" * 32,
            started="2013-07-01T00:00:00Z",
            finished="2013-07-01T00:01:00Z",
        )
        sign_provenance(release, build, bundle.sealed, signer=load_signer(self.keys, "trainer"))
        sign_gates(
            release,
            Measurement(model=self.name, files=plain, values={"log_loss": 0.4}),
            policy=self.policy,
            signer=load_signer(self.keys, "gatekeeper"),
        )

        def sign(version: int) -> Path:
            self.signed[version] = sign_release(
                release,
                ReleaseTerms(
                    version=version,
                    card="# A model\n",
                    created=format_moment(datetime.now(UTC)),
                    created_by="test",
                    reason="test",
                ),
                policy=self.policy,
                signer=load_signer(self.keys, "releaser"),
            )
            if tamper:
                tamper(release)
            return release

        ref, _ = registry.register(
            self.lake,
            self.name,
            registry.ReleaseDraft(sign, lambda ref: RegisterDetails(release=str(ref))),
            run_id=build.run_id,
            inputs={},
        )
        return ref.version

    def index(
        self, version: int, *, created: datetime | None = None, expires: datetime | None = None
    ) -> int:
        """Sign and publish the environment's next index, which names the version.

        With `expires` there is a timestamp beside it.
        """
        created = created or datetime.now(UTC)

        def sign(number: int, before: bytes | None) -> dict[str, bytes]:
            previous = (
                before
                and hashlib.sha256(base64.b64decode(json.loads(before)["payload"])).hexdigest()
            )
            index = Index(
                environment=ENVIRONMENT,
                number=number,
                release=NamedRelease.of(self.signed[version]),
                actor="test",
                reason="test",
                created=format_moment(created),
                previous=previous or None,
            )
            envelope = sign_index(index, load_signer(self.keys, "releaser"))
            if expires is None:
                return {f"{number}.json": envelope}
            digest = hashlib.sha256(to_bytes(index)).hexdigest()
            stamp = sign_timestamp(
                VerifiedIndex(index, digest, "", None),
                created=created,
                expires=expires,
                signer=load_signer(self.keys, "timestamp"),
            )
            return {f"{number}.json": envelope, f"{number}.timestamp.json": stamp}

        return self.publish(sign)

    def publish(self, sign: Callable[[int, bytes | None], dict[str, bytes]]) -> int:
        number, _ = registry.publish_index(
            self.lake,
            self.name,
            ENVIRONMENT,
            registry.IndexDraft(
                sign,
                lambda number: IndexDetails(
                    environment=ENVIRONMENT,
                    index=number,
                    kind="promotion",
                    release=f"{self.name}/1",
                    reason="test",
                    actor="ana",
                ),
            ),
            request_id=secrets.token_hex(8),
        )
        return number


@dataclass
class Running:
    """A service process and an HTTP client at it."""

    process: subprocess.Popen[str]
    client: httpx.Client
    port: int
    stderr: Path

    def status(self) -> Any:
        return self.client.get("/status").json()

    def predict(self, *rows: dict[str, Any], **headers: str) -> httpx.Response:
        body = {"dataframe_records": list(rows) or [ROW]}
        return self.client.post("/invocations", json=body, headers=headers)

    def until(self, holds: Callable[[Any], Any], *, seconds: float = 40) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status()
            if holds(status):
                return status
            time.sleep(0.05)
        raise AssertionError(f"never came to hold: {status}\n{self.stderr.read_text()[-3000:]}")

    def serves(self, release: str) -> Any:
        return self.until(lambda s: s["serving"] and s["serving"]["release"] == release)


def surroundings(house: House, **more: str) -> dict[str, str]:
    access = house.lake.access
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{house.folder}",
        "HEADRACE_ROOT": str(house.folder),
        "HEADRACE_HOME": str(house.folder / "home"),
        "HEADRACE_PIPELINE": "tiny:pipeline",
        "HEADRACE_ENVIRONMENT": ENVIRONMENT,
        "LAKEFS_ENDPOINT": access.endpoint,
        "LAKEFS_ACCESS_KEY_ID": access.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": access.secret_access_key,
        **more,
    }


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "flows.service", "--port", "0", *options]


@contextmanager
def service(house: House, *options: str, **environment: str) -> Iterator[Running]:
    stderr = house.folder / f"stderr-{secrets.token_hex(3)}"
    with stderr.open("w") as log:
        process = subprocess.Popen(
            command(*options),
            cwd=house.folder,
            env=surroundings(house, **environment),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, stderr.read_text()
        port = int(line.rsplit(":", 1)[1])
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            transport=httpx.HTTPTransport(retries=20),
            timeout=30,
        ) as client:
            yield Running(process, client, port, stderr)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(40)


@pytest.fixture
def house(lake: Lake, repo: str, tmp_path: Path) -> House:
    keys = tmp_path / "home" / "keys"
    keys.parent.mkdir(mode=0o700)
    init_keys(keys, gates={repo: (GateRule("log_loss", "<=", "0.5"),)})
    (tmp_path / "tiny.py").write_text(DEFINITION.format(name=repo))
    return House(lake, repo, tmp_path, TrustPolicy.load(keys, root=load_root(keys / "root.json")))


def admitted(house: House, *, folder: str = "serve") -> Admitted:
    """What a service with that folder admits from the lake now."""
    admission = Admission(
        environment=ENVIRONMENT, keys=house.keys, folder=house.folder / folder, key="trip"
    )
    source = Source(house.lake, house.name, ENVIRONMENT)
    offer = source.newest(source.head())
    assert offer is not None
    return admission.admit(source, offer)


def delivered(house: House) -> pl.DataFrame:
    """Every row that stands in a sealed batch of predictions."""
    pin = landing.take_stock(house.lake, house.name)
    frames = [
        pl.read_parquet(content)
        for batch in landing.batches(house.lake, pin, dataset="predictions")
        for content in landing.read(house.lake, batch).values()
    ]
    return pl.concat(frames)


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def strip_one_signature(file: Path) -> None:
    envelope = json.loads(file.read_bytes())
    envelope["signatures"].pop()
    file.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))


def test_nothing_serves_before_a_release_is_verified_and_then_it_does(house: House) -> None:
    with service(house) as running:
        assert running.client.get("/health/live").status_code == 200
        waiting = running.predict()
        assert waiting.status_code == 503
        assert waiting.headers["retry-after"] == "1"
        assert running.client.get("/v2/health/ready").status_code == 503
        version = house.register(0.25)
        house.index(version)
        running.serves(f"{house.name}/1")
        answer = running.predict()
        assert answer.json()["predictions"] == [0.25]
        assert answer.json()["release"] == f"{house.name}/1"
        assert running.client.get("/v2/health/ready").status_code == 200


def test_a_swap_under_load_fails_no_request_and_each_answer_names_its_model(house: House) -> None:
    scores = {f"{house.name}/{house.register(s)}": s for s in (0.25, 0.5, 0.75)}
    house.index(1)
    seen: list[tuple[int, str, float]] = []
    failures: list[str] = []
    with service(house) as running:
        running.serves(f"{house.name}/1")
        done = threading.Event()

        def load() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
            headers = {"content-type": "application/json"}
            body = json.dumps({"dataframe_records": [ROW] * 3})
            while not done.is_set():
                connection.request("POST", "/invocations", body, headers)
                reply = connection.getresponse()
                answer = json.loads(reply.read())
                if reply.status != 200:
                    failures.append(str(answer))
                    continue
                seen.extend((reply.status, answer["release"], s) for s in answer["predictions"])

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in (2, 3, 1):
            house.index(version)
            running.serves(f"{house.name}/{version}")
            time.sleep(0.5)
        done.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert {release for _, release, _ in seen} == set(scores)
    assert all(score == scores[release] for _, release, score in seen)


@pytest.mark.parametrize(
    ("tamper", "step"),
    [
        (
            lambda folder: flip_last_byte(folder / "payload" / "model.onnx.sealed"),
            "release, step 9",
        ),
        (lambda folder: strip_one_signature(folder / "release.dsse.json"), "release, step 2"),
        (lambda folder: strip_one_signature(folder / "gates.dsse.json"), "release, step 6"),
    ],
)
def test_a_tampered_release_is_refused_and_the_one_before_keeps_serving(
    house: House, tamper: Callable[[Path], None], step: str
) -> None:
    good, bad = house.register(0.25), house.register(0.5, tamper=tamper)
    house.index(good)
    with service(house) as running:
        running.serves(f"{house.name}/{good}")
        house.index(bad)
        status = running.until(lambda s: s["refused"])
        assert status["refused"]["release"] == f"{house.name}/{bad}"
        assert status["refused"]["step"] == step
        assert status["refused"]["index"] == 2
        assert status["serving"]["release"] == f"{house.name}/{good}"
        assert running.predict().json()["predictions"] == [0.25]
        assert "headrace_refused 1.0" in running.client.get("/metrics").text
        assert f"refused {house.name}/{bad}" in running.stderr.read_text()
        house.index(good)
        assert running.until(lambda s: s["refused"] is None)["index"]["number"] == 3


def test_what_the_service_refused_reaches_the_audit_log_once(house: House) -> None:
    good = house.register(0.25)
    bad = house.register(0.5, tamper=lambda folder: (folder / "card.md").write_text("# Forged\n"))
    house.index(good)
    with service(house) as running:
        running.serves(f"{house.name}/{good}")
        house.index(bad)
        running.until(lambda s: s["refused"])
        running.until(lambda _: audit.collect_events(house.lake, house.name))
        assert audit.collect_events(house.lake, house.name) == 0
    (told,) = audit.read_log(house.lake, registry.head(house.lake, house.name)).entries
    assert (told.kind, told.subject) == ("refused", f"models/{house.name}/{bad}")
    assert told.actor == f"prediction service of {ENVIRONMENT}"
    assert told.detail == {"step": "release, step 8", "problem": "Untrusted", "index": "2"}


def test_an_old_index_offered_again_is_refused_even_by_a_fresh_process(house: House) -> None:
    for score in (0.25, 0.5):
        house.index(house.register(score))
    with service(house) as running:
        running.serves(f"{house.name}/2")
    old = house.lake.fs.get(
        f"{house.name}-releases", "main", f"environments/{ENVIRONMENT}/index/1.json"
    )
    house.publish(lambda number, _: {f"{number}.json": old})
    with service(house) as running:
        status = running.until(lambda s: s["refused"])
        assert status["refused"]["step"] == "index"
        assert "below the floor" in status["refused"]["reason"]
        assert status["serving"] is None
        assert running.predict().status_code == 503


def test_a_revoked_policy_keeps_the_loaded_model_and_raises_the_alarm(house: House) -> None:
    house.index(house.register(0.25))
    with service(house) as running:
        running.serves(f"{house.name}/1")
        trust = house.keys / "trust.dsse.json"
        strip_one_signature(trust)
        status = running.until(lambda s: s["refused"])
        assert status["refused"]["step"] == "policy"
        assert running.predict().json()["predictions"] == [0.25]


def test_predictions_survive_kill_9_and_land_as_the_predictions_table(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.index(house.register(0.25))
    rows = [{"carrier": c, "distance_mi": d} for c, d in (("AA", 1), ("ZZ", None), (None, 2.5))]
    keyed = [
        row | {"trip": f"trip-{i}", "at": "2013-07-01T12:00:00.5+02:00"}
        for i, row in enumerate(rows)
    ]
    with service(house, "--spool-idle-s", "600") as running:
        running.serves(f"{house.name}/1")
        for number in range(20):
            assert running.predict(*keyed, **{"x-request-id": f"r{number}"}).status_code == 200
        assert running.status()["predictions"] == {
            "accepted": 60, "spooled": 60, "delivered": 0, "lost": 0
        }  # fmt: skip
        assert running.status()["unknown_categories"] == {"carrier": 20}
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
    with service(house) as running:
        counts = running.until(lambda s: s["predictions"]["delivered"] == 60)["predictions"]
        assert counts == {"accepted": 60, "spooled": 0, "delivered": 60, "lost": 0}
    frame = delivered(house)
    monkeypatch.syspath_prepend(house.folder)
    monkeypatch.delitem(sys.modules, "tiny", raising=False)
    contract = predictions_dataset(load_pipeline("tiny:pipeline")).contract
    contract.validate(frame)
    assert frame.height == 60
    one = frame.filter(request_id="r7").sort("trip")
    assert one["distance_mi"].to_list() == [1.0, None, 2.5]
    assert one["carrier"].to_list() == ["AA", "ZZ", None]
    assert one["at"].unique().to_list() == [datetime(2013, 7, 1, 10, 0, 0, 500_000, tzinfo=UTC)]
    assert set(one["release"]) == {f"{house.name}/1"}


def test_a_lake_that_goes_away_stops_neither_serving_nor_the_count(
    house: House, lake_access: Access
) -> None:
    house.index(house.register(0.25))
    with (
        proxy(lake_access) as (endpoint, cut),
        service(house, "--spool-idle-s", "0.2", LAKEFS_ENDPOINT=endpoint) as running,
    ):
        running.serves(f"{house.name}/1")
        cut.set()
        running.until(lambda s: not s["lake"]["reachable"])
        for _ in range(10):
            assert running.predict().status_code == 200
        time.sleep(1.5)
        counts = running.status()["predictions"]
        assert counts == {"accepted": 10, "spooled": 10, "delivered": 0, "lost": 0}
        cut.clear()
        running.until(lambda s: s["lake"]["reachable"])
        running.until(lambda s: s["predictions"]["delivered"] == 10)
    assert delivered(house).height == 10


def test_sigterm_answers_what_is_in_flight_and_hands_the_spool_over(house: House) -> None:
    house.index(house.register(0.25))
    with service(house, "--spool-idle-s", "600") as running:
        running.serves(f"{house.name}/1")
        body = json.dumps({"dataframe_records": [ROW] * 5000}).encode()
        head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1000])
            time.sleep(0.3)
            running.process.terminate()
            time.sleep(0.3)
            client.sendall(body[-1000:])
            client.settimeout(20)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        running.process.wait(30)
    assert delivered(house).height == 5000


def test_slow_clients_are_closed_while_others_are_served(house: House) -> None:
    house.index(house.register(0.25))
    with service(house) as running:
        running.serves(f"{house.name}/1")
        starts = [
            b"POST /invoc",
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        ]
        slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
        for number, client in enumerate(slow):
            client.sendall(starts[number % 2])
        begun = time.monotonic()
        assert running.predict().status_code == 200
        assert time.monotonic() - begun < 2
        for client in slow:
            client.settimeout(20)
            # Aborted: either an end of file or a reset, never an answer.
            with suppress(ConnectionResetError):
                assert client.recv(10) == b""
            client.close()
        assert time.monotonic() - begun < 20
        assert running.predict().status_code == 200


@pytest.mark.parametrize("chunked", [True, False])
def test_an_oversized_body_is_refused_before_it_is_sent(house: House, chunked: bool) -> None:
    house.index(house.register(0.25))
    with service(house) as running:
        running.serves(f"{house.name}/1")
        sent, reply = flood(running.port, chunked=chunked)
        assert reply.startswith(b"HTTP/1.1 413"), reply[:200]
        assert sent < 32 * 2**20
        assert running.predict().status_code == 200


def test_a_start_that_cannot_work_says_why_in_two_lines(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "address already in use" in refusal_to_start(house, "--port", port)
    absent = {"LAKEFS_ENDPOINT": "http://127.0.0.1:9"}
    assert "No answer from lakeFS" in refusal_to_start(house, **absent)
    (house.keys / "serving" / "x25519.pem").chmod(0o644)
    assert "can be read by others" in refusal_to_start(house)
    house.keys.rename(house.folder / "elsewhere")
    assert "there are no keys" in refusal_to_start(house)


def test_an_index_without_a_timestamp_speaks_for_itself_for_a_day_only(house: House) -> None:
    version, now = house.register(0.25), datetime.now(UTC)
    house.index(version, created=now - timedelta(hours=23))
    assert admitted(house).stale == ""
    house.index(version, created=now - timedelta(hours=25))
    with pytest.raises(Untrusted, match="index 2 has no timestamp"):
        admitted(house)


def test_an_expired_timestamp_stops_a_fresh_replica_and_alarms_one_that_knew_the_index(
    house: House,
) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=10)
    house.index(house.register(0.25), expires=expires)
    known = admitted(house)
    assert known.stale == ""
    assert known.fresh_until == expires.replace(microsecond=0)
    time.sleep(max(0.0, (expires - datetime.now(UTC)).total_seconds()))
    assert "timestamp expired" in admitted(house).stale
    with pytest.raises(Untrusted, match="timestamp expired"):
        admitted(house, folder="another replica")


def test_an_index_under_another_number_than_its_own_is_refused(house: House) -> None:
    house.index(house.register(0.25))
    first = house.lake.fs.get(
        f"{house.name}-releases", "main", f"environments/{ENVIRONMENT}/index/1.json"
    )
    house.publish(lambda number, _: {f"{number}.json": first})
    with pytest.raises(Untrusted, match="index file 2 holds index 1"):
        admitted(house)


def test_a_release_whose_name_was_given_to_another_is_refused(house: House) -> None:
    good = house.register(0.25)
    house.index(good)
    house.signed[good] = replace(house.signed[good], reason="another")
    house.index(good)
    with pytest.raises(Untrusted, match="not the one that the index names"):
        admitted(house)


def test_a_published_policy_that_revokes_the_releaser_is_obeyed(house: House) -> None:
    house.index(house.register(0.25))
    assert admitted(house).loaded.champion.release == f"{house.name}/1"
    releaser = load_signer(house.keys, "releaser").public
    heir = RoleKeys((PairRecord.of(Signer.generate("releaser").public),))
    trust = house.policy.trust
    trust = replace(
        trust,
        version=trust.version + 1,
        roles={**trust.roles, "releaser": heir},
        revoked=(Revocation(PairRecord.of(releaser), "left the house"),),
    )
    files = {
        "policy/trust.dsse.json": sign_trust(trust, load_signer(house.keys, "root")),
        "policy/rules.dsse.json": (house.keys / "rules.dsse.json").read_bytes(),
    }

    def body(run: Run) -> None:
        for path, data in files.items():
            run.put(path, data)

    releases, run_id = f"{house.name}-releases", secrets.token_hex(32)
    commit_once(house.lake, Job(releases, "policy", run_id), body)
    with pytest.raises(Untrusted, match="was revoked"):
        admitted(house)


def test_what_a_killed_process_left_decrypted_is_removed_at_the_next_start(house: House) -> None:
    left = house.folder / "home" / "serve" / ENVIRONMENT / "admit-left"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"plain")
    with service(house):
        assert not left.exists()


def refusal_to_start(house: House, *options: str, **environment: str) -> str:
    done = subprocess.run(
        command(*options),
        cwd=house.folder,
        env=surroundings(house, **environment),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, done.stderr
    return lines[0]


def flood(port: int, *, chunked: bool) -> tuple[int, bytes]:
    """Send up to 64 MiB, as a client that ignores answers would; bytes sent and the answer."""
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    part, sent = b"[" * 65_536, 0
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % 2**26
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head + length + b"\r\n\r\n")
        try:
            while sent < 2**26:
                frame = b"%x\r\n" % len(part) + part + b"\r\n" if chunked else part
                client.sendall(frame)
                sent += len(part)
        except (ConnectionResetError, BrokenPipeError):
            pass
        try:
            return sent, client.recv(4096)
        except ConnectionResetError:
            return sent, b""


@contextmanager
def proxy(target: Access) -> Iterator[tuple[str, threading.Event]]:
    """A TCP relay in front of the lake; while the event is set it refuses everything."""
    host, port = target.endpoint.removeprefix("http://").rstrip("/").split(":")
    cut, listening = threading.Event(), socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.2)
    closing = threading.Event()

    def relay(source: socket.socket, sink: socket.socket) -> None:
        try:
            while not cut.is_set() and (data := source.recv(65_536)):
                sink.sendall(b"" if cut.is_set() else data)
        except OSError:
            pass
        for one in (source, sink):
            one.close()

    def accept() -> None:
        while not closing.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                # Nobody came within the timeout, or the test is over.
                continue
            if cut.is_set():
                client.close()
                continue
            upstream = socket.create_connection((host, int(port)))
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=relay, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", cut
    finally:
        closing.set()
        listening.close()
