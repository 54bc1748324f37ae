"""A release folder's verification: one ordered list of steps; the first that fails ends it.

    release.dsse.json     releaser: the binding of everything below
    provenance.dsse.json  trainer: what the model was built from
    gates.dsse.json       gatekeeper: what was measured, against which thresholds
    card.md  recipients.json  payload/<name>.sealed

Needs no private key and decrypts nothing; `open_bundle` comes after. `opening.verify_and_open` does
both in one read.
"""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from security.errors import Untrusted
from security.files import list_names, read_regular
from security.formats.envelope import INTOTO, MAX_ENVELOPE_BYTES
from security.policy.documents import Enrolled
from security.policy.gates import find_shortfalls, parse_evidence
from security.policy.trust_policy import RULES, TRUST, TrustPolicy
from security.release.bundle import PAYLOAD, check_bundle
from security.release.provenance import Build, SealedBundle, parse_provenance
from security.release.stanzas import RECIPIENTS
from security.release.statement import ModelRelease, parse_release

RELEASE = "release.dsse.json"
PROVENANCE = "provenance.dsse.json"
GATES = "gates.dsse.json"
CARD = "card.md"
MAX_CARD_BYTES = 2**20

_FILES = {RELEASE, PROVENANCE, GATES, CARD, RECIPIENTS, PAYLOAD}
# A copied release may carry the policy that verifies it; the root never comes along.
_POLICY_FILES = {TRUST, RULES}


@dataclass(frozen=True)
class PassedStep:
    """One verification step that passed, in plain words.

    Where it was a signature's, `key_ids` are the pairs that signed as `role`.
    """

    number: int
    title: str
    finding: str
    role: str = ""
    key_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifiedRelease:
    """A release all of whose steps passed. `digest` is its identity."""

    release: ModelRelease
    digest: str
    key_id: str
    steps: tuple[PassedStep, ...]

    @property
    def signers(self) -> dict[str, tuple[str, ...]]:
        """Role to the pairs whose signatures held and were enough."""
        return {step.role: step.key_ids for step in self.steps if step.role}


Steps = Generator[PassedStep, None, VerifiedRelease]
# What step 9 does to the folder's payload; it returns the number of recipients.
PayloadCheck = Callable[[Path, SealedBundle], int]


def verify_release(
    folder: Path, *, policy: TrustPolicy, name: str | None = None, version: int | None = None
) -> VerifiedRelease:
    """Verify a release folder; needs no private key, and decrypts nothing.

    Raises: Untrusted at the first step that fails, naming the reason.
    """
    return run_steps(begin_verification(folder, policy=policy, name=name, version=version))


def run_steps(
    steps: Steps, *, on_passed: Callable[[PassedStep], object] | None = None
) -> VerifiedRelease:
    """What `steps` come to, if each of them passes; every one that did is given to `on_passed`.

    This alone drives a verification. Raises: Untrusted at the first step that fails, or if the
    steps were stopped before their end.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as done:
            if not isinstance(done.value, VerifiedRelease):
                raise Untrusted("the verification did not come to an end") from None
            return done.value
        if on_passed:
            on_passed(step)


def begin_verification(
    folder: Path,
    *,
    policy: TrustPolicy,
    name: str | None = None,
    version: int | None = None,
    payload: PayloadCheck = check_bundle,
) -> Steps:
    """The steps of `verify_release`, each yielded once it has passed.

    1. Files: exactly the files of a release, and no links.
    2. Release: signed by the releaser; a `model-release/v1` in canonical form.
    3. Identity: the model and version that were asked for.
    4. Provenance: signed by the trainer; the one the release names.
    5. Build: the data, code, lock and features in it are those of the release.
    6. Gates: signed by the gatekeeper about this payload, under the policy the release names.
    7. Thresholds: every gate of the verifier's own policy passes, re-evaluated.
    8. Card: the signed one.
    9. Payload: exact names, lengths and digests of the sealed files; recipients of this bundle.
    """
    steps: list[PassedStep] = []

    def note(
        title: str, finding: str, role: Enrolled | None = None, signed: "Signed | None" = None
    ) -> PassedStep:
        keys = signed.key_ids if signed else ()
        steps.append(PassedStep(len(steps) + 1, title, finding, role or "", keys))
        return steps[-1]

    # 1. Files.
    _check_files(folder)
    yield note("files", "exactly the files of a release")

    # 2. Release.
    signed = read_statement(folder / RELEASE, policy, "releaser")
    release = parse_release(signed.payload)
    yield note("release", f"signed as releaser by {signed.named}", "releaser", signed)

    # 3. Identity.
    _check_identity(release, name, version)
    yield note("identity", f"{release.model} version {release.version}")

    # 4. to 9.
    card = read_regular(folder / CARD, max_bytes=MAX_CARD_BYTES)
    for found in verify_bindings(folder, release, card=card, policy=policy, payload=payload):
        yield note(*found)
    return VerifiedRelease(release, signed.digest, signed.key_id, tuple(steps))


@dataclass(frozen=True)
class Signed:
    """A statement's verified bytes, and who signed them."""

    payload: bytes
    key_ids: tuple[str, ...]

    @property
    def key_id(self) -> str:
        """The first pair that signed."""
        return self.key_ids[0]

    @property
    def named(self) -> str:
        """The pairs that signed, shortened for a person."""
        return " and ".join(key[:12] for key in self.key_ids)

    @property
    def digest(self) -> str:
        """SHA-256 of the statement, never of its envelope."""
        return hashlib.sha256(self.payload).hexdigest()


Found = tuple[str, str] | tuple[str, str, Enrolled, Signed]


def verify_bindings(
    folder: Path,
    release: ModelRelease,
    *,
    card: bytes,
    policy: TrustPolicy,
    payload: PayloadCheck = check_bundle,
) -> Generator[Found, None, None]:
    """Steps 4 to 9: what a release must agree with, before it is signed and after."""
    # 4. Provenance.
    signed = read_statement(folder / PROVENANCE, policy, "trainer")
    if signed.digest != release.provenance_sha256:
        raise Untrusted(
            "the provenance is not the one that the release names", code="trust.digest_mismatch"
        )
    yield "provenance", f"signed as trainer by {signed.named}", "trainer", signed

    # 5. Build.
    if parse_provenance(signed.payload) != (release.build, release.bundle):
        raise Untrusted(
            "the release was built from other inputs than its provenance says",
            code="trust.contradictory",
        )
    if policy.rules.require_clean_code and not release.build.code_clean:
        raise Untrusted(
            "the release was built from uncommitted code, which the policy does not allow",
            remedy="commit the code and train again",
            code="trust.uncommitted_code",
        )
    yield "build", _describe_build(release.build)

    # 6. Gates.
    signed = read_statement(folder / GATES, policy, "gatekeeper")
    _check_gates(signed, release)
    under = "these rules" if release.policy_sha256 == policy.digests.rules else "earlier rules"
    yield "gates", f"signed as gatekeeper by {signed.named}, under {under}", "gatekeeper", signed

    # 7. Thresholds.
    failures = find_shortfalls(policy.gates(release.model), release.gates)
    if failures:
        raise Untrusted(f"a gate did not pass: {failures[0]}", code="trust.gate_failed")
    yield "thresholds", f"{len(release.gates)} of {len(release.gates)} hold under this policy"

    # 8. Card.
    if hashlib.sha256(card).hexdigest() != release.card_sha256:
        raise Untrusted("the model card is not the signed one", code="trust.digest_mismatch")
    yield "card", "the signed model card"

    # 9. Payload.
    size = sum(file.sealed_size for file in release.bundle.files)
    if size > policy.limits.sealed_bytes:
        raise Untrusted(
            f"the payload is larger than the policy's {policy.limits.sealed_bytes}",
            code="trust.too_large",
        )
    recipients = payload(folder, release.bundle)
    yield "payload", f"{len(release.bundle.files)} files, {size} bytes, {recipients} recipients"


def _check_files(folder: Path) -> None:
    names = list_names(folder)
    odd = sorted(names - _FILES - _POLICY_FILES) or sorted(_FILES - names)
    if odd:
        raise Untrusted(
            f"the folder's files are not those of a release: {odd[0][:80]!r}",
            code="trust.unlisted_file",
        )


def _check_identity(release: ModelRelease, name: str | None, version: int | None) -> None:
    if name not in (None, release.model) or version not in (None, release.version):
        raise Untrusted(
            f"the release is {release.model} version {release.version}, "
            f"not {name or release.model} version {version or release.version}",
            code="trust.wrong_release",
        )


def _check_gates(signed: Signed, release: ModelRelease) -> None:
    evidence, subjects = parse_evidence(signed.payload)
    if signed.digest != release.evidence_sha256:
        raise Untrusted(
            "the gate evidence is not the one that the release names", code="trust.digest_mismatch"
        )
    if subjects != release.bundle.subjects or evidence.model != release.model:
        raise Untrusted("the gate evidence is about another model", code="trust.contradictory")
    if evidence.build_sha256 not in (None, release.build.digest):
        raise Untrusted(
            "the gate evidence is about a model of another origin", code="trust.contradictory"
        )
    if (evidence.results, evidence.policy_sha256) != (release.gates, release.policy_sha256):
        raise Untrusted(
            "the release states other gates than its evidence", code="trust.contradictory"
        )


def read_statement(path: Path, policy: TrustPolicy, role: Enrolled) -> Signed:
    """An in-toto statement that a holder of `role` signed.

    Raises: Untrusted, naming the file and the reason.
    """
    envelope = read_regular(path, max_bytes=MAX_ENVELOPE_BYTES)
    try:
        verified = policy.verify(envelope, role=role, payload_type=INTOTO)
    except Untrusted as error:
        raise Untrusted(f"{path.name} is {error}", code=error.code) from error
    return Signed(verified.payload, verified.key_ids)


def _describe_build(build: Build) -> str:
    pins = ", ".join(f"{name} at {pin.commit[:12]}" for name, pin in sorted(build.data.items()))
    state = "clean" if build.code_clean else "with uncommitted changes"
    return f"from {pins or 'no data'}; code {build.code_commit[:12]}, {state}"
