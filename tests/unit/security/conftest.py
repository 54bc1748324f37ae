"""One key home and one signed release per session; tests copy the release before they attack it."""

import contextlib
import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from security.formats import envelope
from security.keys.pairs import ROLES, Recipient, Signer
from security.policy.gates import GateRule
from security.policy.key_homes import init_keys, load_recipient, load_signer
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.bundle import seal
from security.release.provenance import Build, DataPin
from security.release.signing import (
    Measurement,
    ReleaseTerms,
    sign_gates,
    sign_provenance,
    sign_release,
)

MODEL = "delays"
FILES = {
    "model.onnx": bytes(range(256)) * 300,
    "model.skops": b"skops" * 5000,
    "reference.json": b'{"rows":1}',
}


@dataclass(frozen=True)
class Home:
    folder: Path
    policy: TrustPolicy
    signers: dict[str, Signer]
    recipient: Recipient

    def make_release(
        self,
        plain: Path,
        out: Path,
        *,
        files: dict[str, bytes] | None = None,
        measured: dict[str, float] | None = None,
        build: Build | None = None,
        version: int = 1,
        policy: TrustPolicy | None = None,
    ) -> Any:
        policy = policy or self.policy
        paths = write_files(plain, files or FILES)
        bundle = seal(paths, recipients=policy.recipients, out=out)
        build = build or BUILD
        sign_provenance(out, build, bundle.sealed, signer=self.signers["trainer"])
        values = measured or {"log_loss": 0.41, "roc_auc": 0.73}
        sign_gates(
            out,
            Measurement(model=build.model, files=paths, values=values, build=build),
            policy=policy,
            signer=self.signers["gatekeeper"],
        )
        return sign_release(
            out,
            ReleaseTerms(
                version=version,
                card="# Delays\n",
                created="2013-07-01T00:00:00Z",
                created_by="ana",
                reason="monthly retraining",
            ),
            policy=policy,
            signer=self.signers["releaser"],
        )


BUILD = Build(
    run_id="train-1f",
    pipeline="flights",
    model=MODEL,
    data={"flights": DataPin("flights", "ab" * 32), "weather": DataPin("flights", "cd" * 32)},
    code_commit="0123456789abcdef0123456789abcdef01234567",
    code_clean=True,
    lock_sha256="11" * 32,
    definition_sha256="22" * 32,
    hyperparameters={"learning_rate": "0.1", "max_iter": 100, "early_stopping": False},
    features_sha256="33" * 32,
    schema_sha256="44" * 32,
    started="2013-07-01T00:00:00Z",
    finished="2013-07-01T00:01:00Z",
)


def write_files(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in files}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("home") / "keys"
    gates = {MODEL: (GateRule("log_loss", "<=", "0.45"), GateRule("roc_auc", ">=", "0.7"))}
    init_keys(folder, gates=gates)
    return Home(
        folder,
        TrustPolicy.load(folder, root=load_root(folder / "root.json")),
        {role: load_signer(folder, role) for role in ROLES},
        load_recipient(folder),
    )


@pytest.fixture(scope="session")
def _released(home: Home, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("released")
    release = home.make_release(folder / "plain", folder / "1")
    return SimpleNamespace(folder=folder / "1", release=release)


@pytest.fixture
def released(_released: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A copy of a good release to attack, and what it states."""
    copy = tmp_path / "release"
    shutil.copytree(_released.folder, copy)
    return SimpleNamespace(folder=copy, release=_released.release)


@pytest.fixture
def plain_files() -> dict[str, bytes]:
    return dict(FILES)


@pytest.fixture
def build() -> Build:
    return BUILD


@pytest.fixture
def written() -> Callable[[Path, dict[str, bytes]], dict[str, Path]]:
    return write_files


@pytest.fixture
def resign() -> Callable[..., None]:
    """Change the statement inside an envelope file and sign it again."""

    def change(path: Path, signer: Signer, edit: Callable[[dict[str, Any]], None]) -> None:
        fields = json.loads(path.read_bytes())
        statement = json.loads(envelope.decode64(fields["payload"], "payload"))
        edit(statement)
        payload = json.dumps(
            statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
        path.write_bytes(envelope.sign(payload, fields["payloadType"], signer))

    return change


@pytest.fixture
def limited_files() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """While it lasts, no file can grow past so many bytes: what a full disk looks like."""

    @contextlib.contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)

    return limit
