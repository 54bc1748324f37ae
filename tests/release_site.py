"""A pipeline with real keys and two releases in a lake, for tests of what people do with them."""

import io
import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import random
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from examples.flights.pipeline import pipeline as flights
from flows.audit import append_events, registration_events
from flows.cli.main import assemble
from flows.context import Context
from flows.ingest.land import land, survey
from flows.pipeline import Gate, Pipeline
from flows.release.promote import Promotion, promote
from flows.release.rollback import (
    EnvironmentRollback,
    RollbackRequest,
    plan_rollback,
    roll_back_environment,
)
from flows.release.timestamp import refresh_timestamp
from flows.settings import Settings
from flows.trust.installation import Trusted
from security.policy.key_homes import load_signer
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.bundle import seal
from security.release.signing import (
    Measurement,
    ReleaseTerms,
    sign_gates,
    sign_provenance,
    sign_release,
)
from security.release.statement import Build, DataPin
from storage import registry, tables
from storage.lake import Lake, Pin
from storage.landing import deliver, take_stock
from storage.registry import ReleaseDraft, ReleaseRef, register
from storage.registry.details import RegisterDetails
from tests.tiny_model import tiny_model

GATES = (Gate("log_loss", "<=", "0.5"),)
MEASURED = {"log_loss": "0.41", "log_loss_excess": "-0.01"}


def context_of(lake: Lake, pipeline: Pipeline, keys: Path, *, actor: str = "") -> Context:
    """A context whose keys are in `keys`, as a process with that home has it."""
    assert keys.name == "keys"
    home = keys.parent
    settings = Settings(root=home.parent, home=home, lake_endpoint=None)
    return Context(settings, lake, pipeline, actor)


@dataclass(frozen=True)
class Site:
    lake: Lake
    pipeline: Pipeline
    environment: dict[str, str]
    keys: Path
    work: Path

    @property
    def measured(self) -> dict[str, str]:
        return MEASURED

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(assemble(), arguments, env=self.environment)

    def read(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def context(self, actor: str = "") -> Context:
        return context_of(self.lake, self.pipeline, self.keys, actor=actor)

    @property
    def policy(self) -> TrustPolicy:
        return TrustPolicy.load(self.keys, root=load_root(self.keys / "root.json"))

    def land(self, *tails: str) -> Pin:
        frame = pl.DataFrame(
            {"tailnum": tails, "year_built": 1999.0, "seats": 150.0, "engines": 2.0}
        )
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        repository = self.pipeline.repository
        deliver(self.lake, repository, "planes", tails[0], {"p.parquet": buffer.getvalue()})
        (one,) = survey(self.lake, self.pipeline, take_stock(self.lake, repository)).waiting
        return Pin(repository, land(self.lake, self.pipeline, one).commit)

    def rows(self) -> set[str]:
        pin = self.lake.pin(self.pipeline.repository)
        return set(tables.scan(self.lake, pin, "planes").collect()["tailnum"])

    def register(self, data: Pin) -> ReleaseRef:
        work = self.work / uuid.uuid4().hex
        plain = work / "plain"
        plain.mkdir(parents=True)
        files = {}
        for name, content in tiny_model(random()).items():
            files[name] = plain / name
            files[name].write_bytes(content)
        folder, policy = work / "release", self.policy
        bundle = seal(files, recipients=policy.recipients, out=folder)
        build = self.build(data)
        sign_provenance(folder, build, bundle.sealed, signer=load_signer(self.keys, "trainer"))
        sign_gates(
            folder,
            Measurement(model=self.pipeline.name, files=files, values=MEASURED),
            policy=policy,
            signer=load_signer(self.keys, "gatekeeper"),
        )

        def sign(version: int) -> Path:
            sign_release(
                folder,
                ReleaseTerms(
                    version=version,
                    card="# Model card: late flights\n",
                    created="2013-07-01T00:00:00Z",
                    created_by="train",
                    reason="request a",
                ),
                policy=policy,
                signer=load_signer(self.keys, "releaser"),
            )
            return folder

        ref, _ = register(
            self.lake,
            self.pipeline.name,
            ReleaseDraft(
                sign,
                lambda ref: RegisterDetails(release=str(ref)),
                lambda run, ref, folder: append_events(
                    run, *registration_events(folder, ref, policy, "ana")
                ),
            ),
            run_id=uuid.uuid4().hex,
            inputs={"data": data},
        )
        return ref

    def build(self, data: Pin) -> Build:
        return Build(
            run_id="train-1",
            pipeline=self.pipeline.name,
            model=self.pipeline.name,
            data={"data": DataPin(data.repository, data.commit)},
            code_commit="0123456789abcdef0123456789abcdef01234567",
            code_clean=True,
            lock_sha256="11" * 32,
            definition_sha256="22" * 32,
            hyperparameters={"max_iter": 100},
            features_sha256="33" * 32,
            schema_sha256="44" * 32,
            started="2013-07-01T00:00:00Z",
            finished="2013-07-01T00:01:00Z",
        )

    def promote(
        self, ref: ReleaseRef, reason: str = "registered", actor: str = "serve"
    ) -> Promotion:
        return promote(self.context(actor), ref, environment="production", reason=reason)

    def timestamp(self) -> bool:
        return refresh_timestamp(self.context(), environment="production")

    def roll_back(self, reason: str, **options: Any) -> EnvironmentRollback:
        context = self.context("ana")
        asked = RollbackRequest("production", reason, **options)
        return roll_back_environment(context, plan_rollback(context, asked))

    def damage(self, ref: ReleaseRef) -> None:
        """Flip one byte of the sealed model, as somebody with write access to the lake could."""
        path = f"{ref.path}/payload/model.onnx.sealed"
        pin = registry.head(self.lake, self.pipeline.name)
        data = bytearray(self.lake.fs.get(pin.repository, pin.commit, path))
        data[len(data) // 2] ^= 1
        self.overwrite({path: bytes(data)})

    def overwrite(self, files: dict[str, bytes | None]) -> None:
        """Write or delete files of the releases past every stage."""
        fs, repository = self.lake.fs, self.pipeline.releases
        fs.create_branch(repository, "attack", source="main")
        for path, data in files.items():
            if data is None:
                fs.delete(repository, "attack", path)
            else:
                fs.put(repository, "attack", path, data)
        fs.commit(repository, "attack", message="x", metadata={})
        fs.merge(repository, "attack", into="main", message="x", metadata={})
        fs.delete_branch(repository, "attack")

    def served(self) -> str:
        pin = registry.head(self.lake, self.pipeline.name)
        found = Trusted.load(self.keys).newest_index(self.lake, pin, "production")
        assert found is not None
        return f"{found.index.number}: {found.index.release.version}"


@pytest.fixture
def site(lake: Lake, tmp_path: Path) -> Iterator[Site]:
    name = f"t-{uuid.uuid4().hex[:12]}"
    module = name.replace("-", "_")
    (tmp_path / "prefect.yaml").touch()
    (tmp_path / f"{module}.py").write_text(
        "from dataclasses import replace\n"
        "from examples.flights.pipeline import pipeline as flights\n"
        "from flows.pipeline import Gate\n"
        f"pipeline = replace(flights, name={name!r}, gates=(Gate('log_loss', '<=', '0.5'),))\n"
    )
    lake.create_pipeline(name)
    environment = {
        "HEADRACE_ROOT": str(tmp_path),
        "HEADRACE_PIPELINE": f"{module}:pipeline",
        "LAKEFS_ENDPOINT": lake.access.endpoint,
        "LAKEFS_ACCESS_KEY_ID": lake.access.access_key_id,
        "LAKEFS_SECRET_ACCESS_KEY": lake.access.secret_access_key,
    }
    pipeline = replace(flights, name=name, gates=GATES)
    (tmp_path / "work").mkdir()
    made = Site(lake, pipeline, environment, tmp_path / ".headrace" / "keys", tmp_path / "work")
    assert made.run("keys", "init").exit_code == 0
    yield made
    shutil.rmtree(tmp_path / ".headrace")


@dataclass(frozen=True)
class Served:
    """Two releases, each trained on a commit of its own; production runs the second."""

    site: Site
    old: ReleaseRef
    new: ReleaseRef


@pytest.fixture
def served(site: Site) -> Served:
    old = site.register(site.land("N1", "N2"))
    site.promote(old)
    new = site.register(site.land("N3"))
    site.promote(new)
    return Served(site, old, new)
