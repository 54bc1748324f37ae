"""Trainer, gatekeeper and releaser, each with its own key, on a real lake: what each believes.

Attacks 23 and 63 of the threat model: no role signs for another, and none signs what it is told.
"""

import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from examples.flights import feed
from examples.flights.pipeline import pipeline as flights
from flows.context import Context
from flows.errors import EmptyWindow
from flows.gate.opening import OpenedCandidate, open_candidate
from flows.gate.verdict import Trial, Verdict, measure_gates, sign_verdict
from flows.keys.first_keys import make_keys
from flows.learn.dataset import prepare_split
from flows.learn.exported import PROFILE, SKOPS
from flows.learn.fit import fit
from flows.pipeline import Gate, Pipeline
from flows.reconcile import flow as reconcile
from flows.reconcile import open_work
from flows.release.promote import explain_no_promotion, promote
from flows.release.register import (
    find_registration,
    read_release,
    register_candidate,
)
from flows.train.candidate import Candidate, make_candidate
from flows.train.seal import Trained, sealed_candidate
from flows.trust.installation import Trusted
from flows.trust.key_access import read_recipient, read_signer
from security.errors import BadKey, CannotDecrypt, Untrusted
from security.keys.pairs import Role
from security.policy.gates import GateEvidence, parse_evidence
from security.release.candidate import verify_gated_candidate
from security.release.index import Index, NamedRelease
from security.release.signing import Measurement, sign_gates
from security.release.statement import Build, DataPin, ModelRelease, SealedBundle, SealedFile
from security.release.verify import GATES, PROVENANCE, read_statement, verify_release
from storage import registry, tables
from storage.errors import NotFound
from storage.lake import Lake, Pin
from storage.registry import ReleaseRef, candidates, layout
from storage.registry.details import Judgement, VerdictDetails
from storage.runs import Job, Run, commit_once
from storage.runs.details import Details
from storage.runs.records import Record
from storage.tables.manifests import manifests
from tests.release_site import context_of

CUTOFF = datetime(2013, 2, 1, tzinfo=UTC)
CODE = {"code_commit": "ab" * 20, "code_clean": "true", "lock": "cd" * 32}


@dataclass(frozen=True)
class House:
    """A pipeline whose January lies on main, its keys, and what each role does with it."""

    lake: Lake
    pipeline: Pipeline
    keys: Path
    work: Path
    data: Pin
    manifests: dict[str, str]
    made: Candidate

    @property
    def trusted(self) -> Trusted:
        return Trusted.load(self.keys)

    def context(self, actor: str = "") -> Context:
        return context_of(self.lake, self.pipeline, self.keys, actor=actor)

    def folder(self) -> Path:
        made = self.work / uuid.uuid4().hex
        made.mkdir(mode=0o700)
        return made

    def trained(self, **changes: Any) -> Trained:
        facts: dict[str, Any] = {
            "run_id": uuid.uuid4().hex * 2,
            "pipeline": self.pipeline,
            "data": {"data": self.data},
            "data_sha256": self.manifests,
            "branch": "main",
            "cutoff": CUTOFF,
            "code": CODE,
            "hyperparameters": self.pipeline.hyperparameters,
            "started": CUTOFF,
            "files": self.made.files,
            "reason": "request a",
        }
        return Trained(**(facts | changes))

    def put(self, trained: Trained, *, role: Role = "trainer", **details: Any) -> str:
        key = read_signer(self.keys, role)
        folder = sealed_candidate(trained, self.trusted.policy, signer=key, work=self.folder())
        self.put_folder(trained.run_id, folder, **details)
        return trained.run_id

    def put_folder(self, candidate: str, folder: Path, **details: Any) -> None:
        inputs = {"data": self.data}
        name = self.pipeline.name
        said = Details(later=details)
        candidates.put(self.lake, name, candidate, folder, details=said, inputs=inputs)

    def open(self, candidate: str, *, keys: Path | None = None) -> OpenedCandidate:
        pin = registry.head(self.lake, self.pipeline.name)
        return open_candidate(
            self.lake,
            self.pipeline,
            pin,
            candidate,
            policy=self.trusted.policy,
            recipient=read_recipient(keys or self.keys, "gatekeeper"),
            work=self.folder(),
        )

    def judge(self, candidate: str) -> Verdict:
        opened, policy = self.open(candidate), self.trusted.policy
        frames = {d.name: tables.scan(self.lake, opened.data, d.name) for d in flights.datasets}
        split = prepare_split(self.pipeline, frames, cutoff=opened.cutoff)
        evidence = measure_gates(self.pipeline, Trial(opened, split, None))
        key = read_signer(self.keys, "gatekeeper")
        verdict, _ = sign_verdict(
            self.pipeline, Trial(opened, split, None), evidence, policy=policy, signer=key
        )
        self.put_verdict(candidate, verdict)
        return verdict

    def put_verdict(self, candidate: str, verdict: Verdict) -> Record:
        details = VerdictDetails(
            candidate=candidate,
            passed=verdict.passed,
            refused=verdict.refused,
            outcome=verdict.outcome,
            judged=Judgement(
                counts=verdict.counts, metrics=verdict.metrics, details=verdict.details
            ),
        )
        name = self.pipeline.name
        return candidates.put_verdict(
            self.lake, name, candidate, verdict.files, details=details, inputs={}
        ).record

    def register(self, candidate: str) -> Record:
        return register_candidate(self.context(), candidate)

    def promote(self, release: str) -> None:
        context, ref = self.context("serve"), ReleaseRef.parse(release)
        promote(context, ref, environment="production", reason="a test")

    def versions(self) -> list[int]:
        pin = registry.head(self.lake, self.pipeline.name)
        return registry.versions(self.lake, pin, self.pipeline.name)

    def evidence(self, candidate: str) -> GateEvidence:
        pin = registry.head(self.lake, self.pipeline.name)
        path = layout.candidate_folder(candidate)
        folder = registry.download(self.lake, pin, path, self.folder())
        signed = read_statement(folder / GATES, self.trusted.policy, "gatekeeper")
        return parse_evidence(signed.payload)[0]


def land_january(lake: Lake, pipeline: Pipeline) -> Pin:
    def body(run: Run) -> None:
        for name, frame in feed.delivery(1).items():
            run.append(name, frame)

    run_id = uuid.uuid4().hex * 2
    return commit_once(lake, Job(pipeline.repository, "ingest", run_id), body).pin


@pytest.fixture(scope="module")
def house(lake_access: Any, tmp_path_factory: pytest.TempPathFactory) -> House:
    lake, work = Lake(lake_access), tmp_path_factory.mktemp("house")
    gates = (Gate("roc_auc", ">=", "0.55"), Gate("onnx_max_abs_diff", "<=", "0.00001"))
    pipeline = replace(flights, name=f"t-{uuid.uuid4().hex[:12]}", gates=gates)
    pipeline = replace(pipeline, hyperparameters={**flights.hyperparameters, "max_iter": 30})
    lake.create_pipeline(pipeline.name)
    keys = make_keys(pipeline, work / "keys").folder
    data = land_january(lake, pipeline)
    frames = {d.name: tables.scan(lake, data, d.name) for d in pipeline.datasets}
    split = prepare_split(pipeline, frames, cutoff=CUTOFF)
    made = make_candidate(pipeline, fit(pipeline, split.train), split)
    told = manifests(lake, data, [d.name for d in pipeline.datasets])
    return House(lake, pipeline, keys, work, data, told, made)


def test_three_roles_one_after_the_other_make_a_release_that_verifies(house: House) -> None:
    trained = house.trained()
    candidate = house.put(trained, training={"metrics": dict(house.made.metrics)})
    verdict = house.judge(candidate)
    assert verdict.passed, verdict.outcome
    assert set(verdict.files) == {GATES}
    record = house.register(candidate)
    ref = ReleaseRef.parse(record.details["release"])
    pin = registry.head(house.lake, house.pipeline.name)
    folder = registry.download(house.lake, pin, ref.path, house.folder())
    verified = verify_release(
        folder, policy=house.trusted.policy, name=ref.model, version=ref.version
    )
    release = verified.release
    assert release.build.run_id == candidate
    assert (release.reason, release.created_by, release.parent) == ("request a", "serve", None)
    assert release.build.data["data"].commit == house.data.commit
    assert release.build.cutoff == "2013-02-01T00:00:00Z"
    assert record.inputs["data"] == str(house.data)


def test_claims_about_metrics_change_nothing_in_the_evidence(house: House) -> None:
    boasts = {"metrics": {"roc_auc": 0.999, "log_loss": 0.01}, "details": {"gates": "all passed"}}
    doctored = house.put(house.trained(), training=boasts)
    modest = house.put(house.trained(), training={"metrics": {"roc_auc": 0.1}})
    assert house.judge(doctored).passed
    assert house.judge(modest).passed
    values = [
        {r.metric: r.value for r in house.evidence(one).results} for one in (doctored, modest)
    ]
    assert values[0] == values[1]
    assert 0.55 < float(values[0]["roc_auc"]) < 0.9


def test_evidence_that_came_with_the_candidate_is_refused(house: House) -> None:
    """A trainer cannot put gates.dsse.json there itself, nor sign it if it could."""
    trained = house.trained()
    plain = house.folder()
    (plain / "model.onnx").write_bytes(b"x")
    key = read_signer(house.keys, "trainer")
    folder = sealed_candidate(trained, house.trusted.policy, signer=key, work=house.folder())
    with pytest.raises(BadKey, match="the trainer's key cannot sign as gatekeeper"):
        sign_gates(
            folder,
            Measurement(
                model=house.pipeline.name,
                files={"model.onnx": plain / "model.onnx"},
                values={"roc_auc": "0.99", "onnx_max_abs_diff": "0", "log_loss_excess": "-1"},
            ),
            policy=house.trusted.policy,
            signer=key,
        )
    (folder / GATES).write_bytes(b"{}")
    house.put_folder(trained.run_id, folder)
    with pytest.raises(Untrusted, match=r"not those of a candidate: 'gates\.dsse\.json'"):
        house.open(trained.run_id)
    with pytest.raises(Untrusted, match=r"gates\.dsse\.json is "):
        house.register(trained.run_id)


Change = Callable[[House], dict[str, Any]]


def off_main(house: House) -> Pin:
    """A commit that its lake holds and main never did."""
    branch = f"mine-{uuid.uuid4().hex[:6]}"
    house.lake.fs.create_branch(house.pipeline.repository, branch, source="main")
    house.lake.fs.put(house.pipeline.repository, branch, "note", b"poison", if_absent=True)
    house.lake.fs.commit(house.pipeline.repository, branch, message="mine", metadata={})
    return house.lake.pin(house.pipeline.repository, branch)


def merged(house: House) -> Pin:
    """A commit of a branch that was merged: an ancestor of main, which never stood there."""
    pin = off_main(house)
    house.lake.fs.merge(pin.repository, pin.commit, into="main", message="x", metadata={})
    assert house.lake.fs.merge_base(pin.repository, pin.commit, "main") == pin.commit
    return pin


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda h: {"data": {"data": Pin(h.data.repository, "ab" * 32)}}, "that is not there"),
        (lambda h: {"data": {"data": off_main(h)}}, "is not in the history of main"),
        (lambda h: {"data": {"data": merged(h)}}, "is not in the history of main"),
        (
            lambda h: {"data": {"data": h.lake.pin(h.pipeline.releases)}},
            "does not name one commit of",
        ),
        (lambda h: {"branch": "nowhere"}, "that is not there"),
        (lambda h: {"data_sha256": {**h.manifests, "flights": "ab" * 32}}, "names other files"),
        (lambda h: {"data_sha256": {}}, "names other files"),
        (
            lambda h: {"pipeline": replace(h.pipeline, features=h.pipeline.features[::-1])},
            "is not this gate's own",
        ),
        (
            lambda h: {"files": {**h.made.files, "encoding.json": narrower(h)}},
            "other features than the pipeline",
        ),
        (lambda h: {"files": {**h.made.files, "model.onnx": b"\x80\x04."}}, "is a pickle"),
        (lambda h: {"files": {**h.made.files, "encoding.json": b"[]"}}, "cannot be used"),
        (
            lambda h: {"files": {n: f for n, f in h.made.files.items() if n != "model.skops"}},
            r"model\.skops is missing",
        ),
    ],
    ids=[
        "a commit that does not exist",
        "a commit off main",
        "a commit that main merged and never stood at",
        "another repository",
        "a branch that does not exist",
        "other files than the commit holds",
        "no digest of its files",
        "another definition",
        "another encoding",
        "a pickle",
        "no encoding",
        "no estimator to compare with",
    ],
)
def test_a_candidate_whose_claims_do_not_hold_is_refused(
    house: House, change: Change, why: str
) -> None:
    candidate = house.put(house.trained(**change(house)))
    with pytest.raises(Untrusted, match=why):
        house.open(candidate)
    before = house.versions()
    with pytest.raises((Untrusted, NotFound)):
        house.register(candidate)
    assert house.versions() == before


def narrower(house: House) -> bytes:
    return house.made.files["encoding.json"].replace(b'"carrier"', b'"courier"')


@pytest.mark.parametrize("role", ["gatekeeper", "releaser", "timestamp", "policy"])
def test_provenance_by_another_roles_key_is_refused(house: House, role: Role) -> None:
    with pytest.raises(BadKey, match=f"the {role}'s key cannot sign as trainer"):
        house.put(house.trained(), role=role)


def test_a_candidate_put_under_another_runs_id_is_refused(house: House) -> None:
    trained, other = house.trained(), uuid.uuid4().hex * 2
    key = read_signer(house.keys, "trainer")
    folder = sealed_candidate(trained, house.trusted.policy, signer=key, work=house.folder())
    house.put_folder(other, folder)
    with pytest.raises(Untrusted, match=f"is of run {trained.run_id[:12]}"):
        house.open(other)


def test_the_gate_scores_the_sealed_bytes_and_not_what_the_trainer_scored(house: House) -> None:
    """The estimator beside the ONNX file is another model: agreement is measured, not claimed."""
    frames = {d.name: tables.scan(house.lake, house.data, d.name) for d in flights.datasets}
    split = prepare_split(house.pipeline, frames, cutoff=CUTOFF)
    inverted = split.train.with_columns(label=1 - pl.col("label"))
    other = make_candidate(house.pipeline, fit(house.pipeline, inverted), split)
    files = {**house.made.files, SKOPS: other.files[SKOPS]}
    swapped = house.put(house.trained(files=files))
    verdict = house.judge(swapped)
    assert "onnx_max_abs_diff" in verdict.outcome
    # And a model that learned the opposite fails by its own numbers, whatever was said of it.
    worse = house.put(
        house.trained(files=dict(other.files)), training={"metrics": {"roc_auc": 0.9}}
    )
    assert "roc_auc" in house.judge(worse).outcome


def test_a_failed_gate_is_signed_as_failed_and_never_released(house: House) -> None:
    frames = {d.name: tables.scan(house.lake, house.data, d.name) for d in flights.datasets}
    split = prepare_split(house.pipeline, frames, cutoff=CUTOFF)
    noise = split.train.with_columns(label=(pl.int_range(pl.len()) % 2).cast(pl.Int8))
    bad = make_candidate(house.pipeline, fit(house.pipeline, noise), split)
    candidate = house.put(house.trained(files=dict(bad.files)))
    verdict = house.judge(candidate)
    assert verdict.outcome.startswith("champion stays: roc_auc ")
    assert [r.metric for r in house.evidence(candidate).results if not r.passed]
    before = house.versions()
    with pytest.raises(Untrusted, match="a gate did not pass"):
        house.register(candidate)
    assert house.versions() == before
    assert find_registration(house.lake, house.pipeline.name, candidate) is None


def test_evidence_about_another_candidate_is_not_taken_for_this_ones(house: House) -> None:
    honest, other = house.put(house.trained()), house.trained()
    house.judge(honest)
    pin = registry.head(house.lake, house.pipeline.name)
    path = f"{layout.candidate_folder(honest)}/{GATES}"
    borrowed = house.lake.fs.get(pin.repository, pin.commit, path)
    files = {**house.made.files, PROFILE: b"{}"}
    candidate = house.put(replace(other, files=files))
    house.put_verdict(candidate, Verdict(failed=(), files={GATES: borrowed}))
    with pytest.raises(Untrusted, match="the gate evidence is about another model"):
        house.register(candidate)


def overwrite(house: House, files: dict[str, bytes]) -> None:
    """Change files of the releases past every stage, as whoever can write there could."""
    fs, repository = house.lake.fs, house.pipeline.releases
    fs.create_branch(repository, "attack", source="main")
    for path, data in files.items():
        fs.put(repository, "attack", path, data)
    fs.commit(repository, "attack", message="x", metadata={})
    fs.merge(repository, "attack", into="main", message="x", metadata={})
    fs.delete_branch(repository, "attack")


def test_provenance_that_is_exchanged_after_the_verdict_makes_no_release(house: House) -> None:
    """Judged as what was learnt on a branch, then said to have been learnt on main."""
    judged = house.trained()
    branch = f"idea-{uuid.uuid4().hex[:6]}"
    house.lake.fs.create_branch(house.pipeline.repository, branch, source="main")
    judged = replace(judged, branch=branch)
    candidate = house.put(judged)
    assert house.judge(candidate).passed
    key, path = read_signer(house.keys, "trainer"), layout.candidate_folder(candidate)
    claimed = replace(judged, branch="main")
    other = sealed_candidate(claimed, house.trusted.policy, signer=key, work=house.folder())
    changed = {
        f"{path}/{file.relative_to(other).as_posix()}": file.read_bytes()
        for file in other.rglob("*")
        if file.is_file()
    }
    assert f"{path}/{PROVENANCE}" in changed
    overwrite(house, changed)
    before = house.versions()
    with pytest.raises(Untrusted, match="about a model of another origin"):
        house.register(candidate)
    assert house.versions() == before


def test_a_record_of_another_release_is_not_believed(house: House) -> None:
    """Records are not signed: a forged one must not have any release promoted."""
    candidate, other = house.put(house.trained()), house.put(house.trained())
    assert house.judge(candidate).passed
    assert house.judge(other).passed
    honest, real = house.register(candidate), house.register(other)
    forged = replace(honest, details={**honest.details, "release": real.details["release"]})
    with pytest.raises(Untrusted, match="which was not made of it"):
        read_release(house.context(), candidate, forged)
    found = read_release(house.context(), candidate, honest)
    assert found.release.build.run_id == candidate


def test_a_cutoff_before_the_data_can_be_judged_on_nothing(house: House) -> None:
    candidate = house.put(house.trained(cutoff=datetime(2012, 1, 1, tzinfo=UTC)))
    with pytest.raises(EmptyWindow):
        house.judge(candidate)


def test_a_gatekeeper_whom_it_was_not_sealed_for_learns_nothing(house: House) -> None:
    candidate = house.put(house.trained())
    stranger = make_keys(house.pipeline, house.folder() / "keys").folder
    with pytest.raises(CannotDecrypt):
        house.open(candidate, keys=stranger)


def test_each_role_works_with_its_own_folder_and_the_public_files_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each machine of a larger set-up is given: nothing else lies there."""
    public = ("root.json", "trust.dsse.json", "rules.dsse.json")

    def machine(role: str) -> House:
        keys = house.folder() / "keys"
        keys.mkdir(mode=0o700)
        for name in public:
            shutil.copy(house.keys / name, keys / name)
        shutil.copytree(house.keys / role, keys / role)
        assert not make_keys(house.pipeline, keys).created
        monkeypatch.setenv("HEADRACE_ROLES", role)
        return replace(house, keys=keys)

    trainer = machine("trainer")
    candidate = trainer.put(trainer.trained())
    with pytest.raises(BadKey):
        trainer.judge(candidate)
    with pytest.raises(Untrusted, match="has no gate evidence"):
        trainer.register(candidate)
    gatekeeper = machine("gatekeeper")
    with pytest.raises(BadKey):
        gatekeeper.put(gatekeeper.trained())
    assert gatekeeper.judge(candidate).passed
    with pytest.raises(BadKey):
        gatekeeper.register(candidate)
    releaser = machine("releaser")
    with pytest.raises(BadKey):
        releaser.open(candidate)
    assert releaser.register(candidate).details["candidate"] == candidate


def test_starts_that_come_twice_or_at_once_leave_one_of_everything(house: House) -> None:
    """Two candidates in the same moment, then duplicate events and a killed worker's next start.

    (One candidate twice in the same moment cannot be: the deployments run one at a time.)
    """
    one, two = house.put(house.trained()), house.put(house.trained())
    assert candidates.candidate_record(
        house.lake, registry.head(house.lake, house.pipeline.name), one
    )
    before, found = house.versions(), list[str]()

    def run(candidate: str) -> None:
        house.judge(candidate)
        found.append(str(house.register(candidate).details["release"]))

    threads = [threading.Thread(target=run, args=(c,)) for c in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 2
    assert len(house.versions()) == len(before) + 2
    for candidate in (one, two, one):
        assert house.register(candidate).details["release"] in found
    assert len(house.versions()) == len(before) + 2


@pytest.mark.parametrize(
    ("branch", "against", "running", "why"),
    [
        ("main", None, None, ""),
        ("main", "11" * 32, "11" * 32, ""),
        ("idea", None, None, "it was trained on idea"),
        ("main", None, "11" * 32, "production runs t/1 now, which it was not measured against"),
        (
            "main",
            "22" * 32,
            "11" * 32,
            "production runs t/1 now, which it was not measured against",
        ),
        ("main", "22" * 32, None, "production runs nothing now, which it was not measured against"),
    ],
)
def test_a_release_is_promoted_by_itself_only_over_the_champion_it_was_measured_against(
    branch: str, against: str | None, running: str | None, why: str
) -> None:
    release = replace(statement(branch), parent=against)
    past = [index_of(NamedRelease("t", 1, running, "models/t/1"))] if running else []
    assert explain_no_promotion(release, past, "production") == why


def test_a_release_that_was_rolled_back_does_not_come_back_by_itself() -> None:
    old = NamedRelease("t", 1, "11" * 32, "models/t/1")
    release = replace(statement("main"), parent=old.digest)
    past = [index_of(old), index_of(NamedRelease.of(release)), index_of(old)]
    assert (
        explain_no_promotion(release, past, "production")
        == "production ran it before and left it for t/1"
    )
    assert explain_no_promotion(release, past[:2], "production") == "", (
        "a second start of what was done"
    )


def statement(branch: str) -> ModelRelease:
    """A release t/2 with nothing remarkable in it."""
    build = Build(
        run_id="train-2",
        pipeline="t",
        model="t",
        data={"data": DataPin("t", "ab" * 32)},
        code_commit=CODE["code_commit"],
        code_clean=True,
        lock_sha256=CODE["lock"],
        definition_sha256="22" * 32,
        hyperparameters={},
        features_sha256="33" * 32,
        schema_sha256="44" * 32,
        started="2013-07-01T00:00:00Z",
        finished="2013-07-01T00:01:00Z",
        branch=branch,
    )
    sealed = SealedBundle("55" * 32, "a", (SealedFile("m", 1, "66" * 32, 1, "77" * 32),))
    return ModelRelease(
        model="t",
        version=2,
        build=build,
        bundle=sealed,
        gates=(),
        policy_sha256="88" * 32,
        provenance_sha256="88" * 32,
        evidence_sha256="88" * 32,
        card_sha256="88" * 32,
        created="2013-07-01T00:00:00Z",
        created_by="serve",
        reason="a",
    )


def index_of(release: NamedRelease) -> Index:
    return Index(
        environment="production",
        number=1,
        release=release,
        actor="serve",
        reason="a",
        created="2013-07-01T00:00:00Z",
    )


@pytest.fixture
def waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A pipeline of its own whose records are old enough at once."""
    monkeypatch.setattr(open_work, "GRACE", timedelta(0))
    return house.context()


def find_unjudged(context: Context) -> list[str]:
    open_candidates = open_work.read_candidates(context.lake, context.pin_releases())
    return open_work.find_overdue(open_candidates.unjudged, datetime.now(UTC))


def find_unreleased(context: Context) -> list[str]:
    pin = context.pin_releases()
    return reconcile.find_unreleased(context, open_work.read_candidates(context.lake, pin), pin)


def test_what_no_event_carried_on_is_found_in_the_records_at_each_step(
    house: House, waiting: Context
) -> None:
    def unjudged() -> list[str]:
        return find_unjudged(waiting)

    def unreleased() -> list[str]:
        return find_unreleased(waiting)

    candidate = house.put(house.trained())
    assert candidate in unjudged()
    assert candidate not in unreleased()
    house.judge(candidate)
    assert candidate not in unjudged()
    assert candidate in unreleased()
    release = str(house.register(candidate).details["release"])
    assert unreleased()[-1] == candidate, "registered, and named by no index yet"
    house.promote(release)
    assert candidate not in unreleased()
    later = house.put(house.trained())
    house.judge(later)
    house.register(later)
    assert later not in unreleased(), "it was measured against the base rate, not what runs now"


def test_what_failed_or_was_refused_is_not_asked_for_again(house: House, waiting: Context) -> None:
    candidate = house.put(house.trained())
    house.put_verdict(candidate, Verdict(failed=("refused: a test",), refused=True))
    assert candidate not in find_unjudged(waiting)
    assert candidate not in find_unreleased(waiting)


def test_a_young_candidate_is_left_to_its_event(house: House) -> None:
    candidate = house.put(house.trained())
    assert candidate not in find_unjudged(house.context())


def test_a_start_is_asked_for_once_an_hour() -> None:
    at = datetime(2013, 7, 1, 10, 59, tzinfo=UTC)
    key = reconcile.hourly("train:abc", at)
    assert key == reconcile.hourly("train:abc", at.replace(minute=0))
    assert key != reconcile.hourly("train:abc", at.replace(hour=11, minute=0))
    assert key != reconcile.hourly("gate:abc", at)


def test_a_second_attempt_to_put_a_candidate_keeps_the_first(house: House) -> None:
    trained = house.trained()
    house.put(trained, training="first")
    house.put(trained, training="second")
    pin = registry.head(house.lake, house.pipeline.name)
    record = candidates.candidate_record(house.lake, pin, trained.run_id)
    assert record is not None
    assert record.details["training"] == "first"
    assert house.judge(trained.run_id).passed


def test_what_is_judged_is_verified_again_by_the_releaser(house: House, tmp_path: Path) -> None:
    candidate = house.put(house.trained())
    house.judge(candidate)
    pin = registry.head(house.lake, house.pipeline.name)
    path = layout.candidate_folder(candidate)
    folder = registry.download(house.lake, pin, path, tmp_path / "candidate")
    verify_gated_candidate(
        folder, policy=house.trusted.policy, model=house.pipeline.name, run_id=candidate
    )
    sealed = folder / "payload" / "model.onnx.sealed"
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"\0")
    with pytest.raises(Untrusted):
        verify_gated_candidate(
            folder, policy=house.trusted.policy, model=house.pipeline.name, run_id=candidate
        )
