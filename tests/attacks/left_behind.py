"""A whole run of the loop to search: a lake, Prefect's server, and four stages' real flows.

Prefect is told to keep every result it may, by pickle, and to log all it can; keys are locked
with a passphrase, and three of the flows fail with a traceback.
"""

import base64
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from examples.flights import feed
from flows.cli.main import assemble
from flows.trust.installation import Trusted
from security.keys.pairs import ROLES
from security.policy.key_homes import load_recipient, load_signer
from security.release.bundle import open_bundle
from security.release.verify import verify_release
from storage import registry
from storage.lake import Lake
from storage.lake.client import Access
from storage.runs import Job, Run, commit_once
from tests.conftest import KEY, SECRET, free_port, start_embedded, wait_for

ROOT = Path(__file__).parents[2]
NAME = "attacked"
DEFINITION = f"""
from dataclasses import replace
from examples.flights.pipeline import pipeline as flights
from flows.pipeline import Gate

gates = (Gate("roc_auc", ">=", "0.55"), Gate("onnx_max_abs_diff", "<=", "0.00001"))
settings = {{**flights.hyperparameters, "max_iter": 20}}
pipeline = replace(flights, name={NAME!r}, gates=gates, hyperparameters=settings)
"""


@dataclass(frozen=True)
class WholeRun:
    """What a run left: folders, output, and the secrets that it was given."""

    folder: Path
    lake: Lake
    told: Mapping[str, dict[str, str]]
    secrets: Mapping[str, bytes] = field(repr=False)

    @property
    def home(self) -> Path:
        return self.folder / ".headrace"

    @property
    def storage(self) -> Path:
        return self.folder / "results"

    @property
    def trusted(self) -> Trusted:
        return Trusted.load(self.home / "keys")

    @property
    def passphrase(self) -> str:
        return (self.folder / "phrase").read_text().strip()

    def holds(self, what: bytes) -> list[str]:
        """Every place that holds these bytes."""
        return [place for place, data in self.places.items() if what in data]

    @cached_property
    def places(self) -> Mapping[str, bytes]:
        """Whatever the run wrote: files, and objects as the lake hands them out."""
        folders = (self.folder / "prefect", self.home / "lake", self.folder / "output")
        files = [path for place in folders for path in place.rglob("*") if path.is_file()]
        written = {str(path.relative_to(self.folder)): path.read_bytes() for path in files}
        errors = {p.name: base64.b64decode(p.read_bytes()) for p in self.storage.iterdir()}
        return written | errors | dict(self.objects())

    def objects(self) -> Iterator[tuple[str, bytes]]:
        fs = self.lake.fs
        for repository in (NAME, f"{NAME}-releases"):
            for found in fs.objects(repository, "main"):
                if not found.path.endswith(".parquet"):
                    yield f"{repository}/{found.path}", fs.get(repository, "main", found.path)

    def ask(self, query: str) -> list[Any]:
        """Of Prefect's own database."""
        with closing(sqlite3.connect(self.folder / "prefect" / "prefect.db")) as held:
            return held.execute(query).fetchall()

    def model(self, into: Path) -> Mapping[str, bytes]:
        """The served model's files in the clear, as the prediction service opens them."""
        pin = registry.head(self.lake, NAME)
        folder = registry.download(self.lake, pin, f"models/{NAME}/1", into / "release")
        verified = verify_release(folder, policy=self.trusted.policy)
        recipient = load_recipient(self.home / "keys", passphrase=self.passphrase)
        plain = open_bundle(folder, verified.release, recipient=recipient, into=into / "plain")
        return {path.name: path.read_bytes() for path in plain.iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeRun]:
    folder = tmp_path_factory.mktemp("whole")
    home, port, phrase = folder / ".headrace", free_port(), folder / "phrase"
    for name in ("output", "results", ".headrace"):
        (folder / name).mkdir(mode=0o700)
    make_project(folder)
    lake_process = start_embedded(home / "lake", port)
    try:
        lake = Lake(Access(f"http://127.0.0.1:{port}", KEY, SECRET))
        environment = surroundings(folder, lake.access)
        secrets = set_up(lake, environment, phrase, home)
        with prefect_server(folder, environment), flows_log(folder).open("wb") as log:
            done = subprocess.run(
                [sys.executable, str(Path(__file__).with_name("whole_run.py"))],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=log,
                check=False,
                timeout=500,
            )
        (folder / "output" / "told.json").write_bytes(done.stdout)
        assert done.returncode == 0, flows_log(folder).read_text()[-5000:]
        lines = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == b"{"]
        yield WholeRun(folder, lake, {line["step"]: line for line in lines}, secrets)
    finally:
        lake_process.terminate()
        lake_process.wait(20)


def flows_log(folder: Path) -> Path:
    return folder / "output" / "flows.log"


@contextmanager
def prefect_server(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A real one, with the services that record task runs and events."""
    url = environment["PREFECT_API_URL"]
    port = url.removesuffix("/api").rsplit(":", 1)[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", port, "--no-ui"]
    with (folder / "output" / "prefect.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log
        )
        try:
            wait_for(f"{url}/health", process=process, seconds=200)
            yield
        finally:
            process.terminate()
            process.wait(60)


def make_project(folder: Path) -> None:
    """The user's own: a pipeline, a lock and a commit that a release can name."""
    for name in ("prefect.yaml", "requirements.lock"):
        (folder / name).touch()
    (folder / "attacked_pipeline.py").write_text(DEFINITION)
    git = ("git", "-c", "user.name=ana", "-c", "user.email=ana@example.org", "-C", str(folder))
    for command in (("init",), ("add", "attacked_pipeline.py"), ("commit", "-m", "A pipeline")):
        subprocess.run([*git, *command], check=True, capture_output=True)


def surroundings(folder: Path, access: Access) -> dict[str, str]:
    return {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        "HEADRACE_ROOT": str(folder),
        "HEADRACE_HOME": str(folder / ".headrace"),
        "HEADRACE_PIPELINE": "attacked_pipeline:pipeline",
        "HEADRACE_PASSPHRASE_FILE": str(folder / "phrase"),
        "LAKEFS_ENDPOINT": access.endpoint,
        "LAKEFS_ACCESS_KEY_ID": access.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": access.secret_access_key,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_PROFILES_PATH": str(folder / "prefect" / "profiles.toml"),
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOCAL_STORAGE_PATH": str(folder / "results"),
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "PREFECT_TASKS_DEFAULT_PERSIST_RESULT": "true",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "pickle",
        "DO_NOT_TRACK": "1",
    }


def set_up(
    lake: Lake, environment: dict[str, str], phrase: Path, home: Path
) -> Mapping[str, bytes]:
    """January on main, keys that are locked, a scoped key of the lake; every secret of it."""

    def headrace(*arguments: str, **changes: str | None) -> str:
        done = CliRunner().invoke(assemble(), arguments, env={**environment, **changes})
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(environment["HEADRACE_ROOT"])
        lake.create_pipeline(NAME)
        headrace("keys", "init", "--passphrase-file", str(phrase))
        scoped = headrace(
            "lake", "keys", "create", "desk", "--read", NAME, "--json", LAKEFS_ENDPOINT=None
        )
        commit_once(lake, Job(NAME, "ingest", "ab" * 32), january)
        forgotten = feed.delivery(1)["planes"]["tailnum"][0]
        forget = ("data", "forget", "--dataset", "planes", "--key", f"tailnum={forgotten}")
        headrace(*forget, "--reason", "a request", "--yes")
    secret = phrase.read_text().strip()
    found = {
        "the passphrase": secret.encode(),
        "the lake's secret": SECRET.encode(),
        "the scoped key's secret": json.loads(scoped)["secret_access_key"].encode(),
        "forget.key": bytes.fromhex((home / "forget.key").read_text()),
        "the lake's sealing key": (home / "lake.key").read_bytes(),
    }
    for role in ROLES:
        halves = load_signer(home / "keys", role, passphrase=secret).private_halves()
        found |= {f"{role}: {name}": key.private_bytes_raw() for name, key in halves.items()}
    for name in ("serving", "gatekeeper"):
        halves = load_recipient(home / "keys", name, passphrase=secret).private_halves()
        found |= {f"{name}: {kind}": key.private_bytes_raw() for kind, key in halves.items()}
    return found


def january(run: Run) -> None:
    for name, frame in feed.delivery(1).items():
        run.append(name, frame)
