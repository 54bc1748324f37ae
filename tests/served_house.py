"""A pipeline's keys and releases in a lake, signed and sealed as the stages do, for its service."""

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.service.models.admit import Admission, Admitted
from flows.service.models.offer import Source
from security.formats.strict_json import to_bytes
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
from security.release.signing import (
    Measurement,
    ReleaseTerms,
    sign_gates,
    sign_provenance,
    sign_release,
)
from security.release.statement import Build, DataPin, ModelRelease
from storage import registry
from storage.lake import Lake
from storage.registry.details import IndexDetails, RegisterDetails
from storage.registry.layout import timestamp_path
from tests.tiny_model import tiny_model

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
    indexes: dict[int, VerifiedIndex] = field(default_factory=dict)

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
            digest = hashlib.sha256(to_bytes(index)).hexdigest()
            self.indexes[number] = VerifiedIndex(index, digest, "", None)
            if expires is None:
                return {f"{number}.json": envelope}
            stamp = self._stamp(number, created=created, expires=expires)
            return {f"{number}.json": envelope, f"{number}.timestamp.json": stamp}

        return self.publish(sign)

    def stamp(self, number: int, *, created: datetime, expires: datetime) -> None:
        """Sign that the index is the newest, in place of what was signed before."""
        path = timestamp_path(ENVIRONMENT, number)
        self.overwrite({path: self._stamp(number, created=created, expires=expires)})

    def overwrite(self, files: dict[str, bytes]) -> None:
        """Put files into the releases repository, as whoever can write to the lake could."""
        fs, repository = self.lake.fs, f"{self.name}-releases"
        fs.create_branch(repository, "attack", source="main")
        for path, data in files.items():
            fs.put(repository, "attack", path, data)
        fs.commit(repository, "attack", message="x", metadata={})
        fs.merge(repository, "attack", into="main", message="x", metadata={})
        fs.delete_branch(repository, "attack")

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

    def _stamp(self, number: int, *, created: datetime, expires: datetime) -> bytes:
        return sign_timestamp(
            self.indexes[number],
            created=created,
            expires=expires,
            signer=load_signer(self.keys, "timestamp"),
        )


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


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def strip_one_signature(file: Path) -> None:
    envelope = json.loads(file.read_bytes())
    envelope["signatures"].pop()
    file.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")))
