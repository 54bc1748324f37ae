"""Who can decrypt a registered release: list, add one, or seal it anew without one.

Adding wraps the bundle's key once more; payload and signatures stay. Removing cannot take back
what a reader has: it makes a new version, sealed under a new key, that they cannot open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from flows import audit
from flows.context import Context
from flows.errors import Misconfigured
from flows.trust import key_access
from security.errors import BadKey, CannotDecrypt
from security.files import read_regular
from security.keys.keyfiles import read_recipient_folder
from security.keys.pairs import RECIPIENTS, Opener, PublicRecipient
from security.policy.trust_policy import TrustPolicy
from security.release.bundle import add_recipient, open_bundle, seal
from security.release.index import format_moment
from security.release.signing import ReleaseTerms, sign_provenance, sign_release
from security.release.stanzas import RECIPIENTS as STANZAS
from security.release.stanzas import read_stanzas
from security.release.verify import CARD, GATES, MAX_CARD_BYTES, VerifiedRelease, verify_release
from storage import registry
from storage.registry import ReleaseRef, layout
from storage.registry.details import RecipientDetails, ResealDetails
from storage.runs import Run


@dataclass(frozen=True)
class Reader:
    """Somebody who can open a release; `name` is empty if the policy does not know them."""

    id: str
    name: str


@dataclass(frozen=True)
class _Fetched:
    """A verified release in a private folder, and the policy it was verified under."""

    folder: Path
    verified: VerifiedRelease
    policy: TrustPolicy


def list_readers(context: Context, ref: ReleaseRef) -> list[Reader]:
    """Everyone for whom the release is sealed. Raises: Untrusted, NotFound."""
    with TemporaryDirectory(prefix="headrace-") as private:
        fetched = _fetch(context, ref, Path(private))
        return _read_readers(fetched.folder, fetched.policy)


def add_reader(context: Context, ref: ReleaseRef, name: str) -> tuple[list[Reader], bool]:
    """Let a recipient that the policy enrols open the release too; True if they already could.

    Raises: Untrusted for a name that is not enrolled, CannotDecrypt if no key here opens it.
    """
    with TemporaryDirectory(prefix="headrace-") as private:
        fetched = _fetch(context, ref, Path(private))
        new, before = fetched.policy.recipient(name), _read_readers(fetched.folder, fetched.policy)
        if any(reader.id == new.recipient_id for reader in before):
            return before, True
        standing = (fetched.folder / STANZAS).read_bytes()
        opener = _find_opener(context.keys, before)
        add_recipient(fetched.folder, recipient=opener, new=new)
        wrapped = (fetched.folder / STANZAS).read_bytes()
        _publish(context, ref, standing, wrapped, new)
        return _read_readers(fetched.folder, fetched.policy), False


def remove_reader(
    context: Context, ref: ReleaseRef, who: str, reason: str
) -> tuple[ReleaseRef, bool]:
    """The release's next version, sealed anew without a reader; True if it had been made before.

    Trainer and releaser sign again, each what it verified; the gate evidence is about the plain
    files, which are the same, and stays. Raises: BadKey where one of their keys is not here.
    """
    with TemporaryDirectory(prefix="headrace-") as private:
        fetched = _fetch(context, ref, Path(private))
        before = _read_readers(fetched.folder, fetched.policy)
        gone = _find_reader(before, who)
        remaining = _require_others(fetched.policy, gone)
        opener = _find_opener(context.keys, before)
        out = _seal_anew(fetched, opener, remaining, Path(private), context.keys)
        return _register(context, ref, fetched, out, gone, reason)


def _fetch(context: Context, ref: ReleaseRef, private: Path) -> _Fetched:
    policy = context.trusted.policy
    folder = registry.download(context.lake, context.pin_releases(), ref.path, private / "release")
    verified = verify_release(folder, policy=policy, name=ref.model, version=ref.version)
    return _Fetched(folder, verified, policy)


def _read_readers(folder: Path, policy: TrustPolicy) -> list[Reader]:
    known = {one.recipient.recipient_id: one.name for one in policy.trust.recipients}
    return [Reader(one.id, known.get(one.id, "")) for one in read_stanzas(folder).recipients]


def _find_opener(home: Path, listed: list[Reader]) -> Opener:
    """A key at hand that the release is sealed for, those that retired included."""
    ids = {reader.id for reader in listed}
    for opener in _find_openers(home):
        if opener.public.recipient_id in ids:
            return opener
    raise CannotDecrypt(
        "no decryption key here opens this release",
        remedy="run this where the key of one of its recipients is",
    )


def _find_openers(home: Path) -> Iterator[Opener]:
    for name in RECIPIENTS:
        try:
            yield key_access.read_recipient(home, name)
        except BadKey:
            continue
    for folder in sorted((home / "retired").glob("*/*")):
        yield read_recipient_folder(folder, passphrase=key_access.passphrase_of(f"file:{home}"))


def _find_reader(listed: list[Reader], who: str) -> Reader:
    found = [r for r in listed if r.name == who or (len(who) >= 8 and r.id.startswith(who))]
    if len(found) != 1:
        names = ", ".join(reader.name or reader.id[:12] for reader in listed)
        raise Misconfigured(
            f"{who[:70]!r} names no one reader of this release; there are {names}.",
            remedy="Give a name or an id, as `headrace model recipients list` prints it.",
        )
    return found[0]


def _require_others(policy: TrustPolicy, gone: Reader) -> tuple[PublicRecipient, ...]:
    found = tuple(one for one in policy.recipients if one.recipient_id != gone.id)
    if not found:
        raise Misconfigured(
            "Nobody whom the policy enrols would be left to open the release.",
            remedy="Enrol another key first: `headrace keys rotate` makes one.",
        )
    return found


def _seal_anew(
    fetched: _Fetched,
    opener: Opener,
    remaining: tuple[PublicRecipient, ...],
    private: Path,
    home: Path,
) -> Path:
    release = fetched.verified.release
    plain = open_bundle(fetched.folder, release, recipient=opener, into=private / "plain")
    files = {file.name: plain / file.name for file in release.bundle.files}
    bundle = seal(files, recipients=remaining, out=private / "sealed")
    sign_provenance(
        bundle.folder, release.build, bundle.sealed, signer=key_access.read_signer(home, "trainer")
    )
    (bundle.folder / GATES).write_bytes((fetched.folder / GATES).read_bytes())
    return bundle.folder


def _register(
    context: Context,
    ref: ReleaseRef,
    fetched: _Fetched,
    out: Path,
    gone: Reader,
    reason: str,
) -> tuple[ReleaseRef, bool]:
    card = read_regular(fetched.folder / CARD, max_bytes=MAX_CARD_BYTES).decode()
    releaser = key_access.read_signer(context.keys, "releaser")

    def sign(version: int) -> Path:
        sign_release(
            out,
            ReleaseTerms(
                version=version,
                card=card,
                created=format_moment(datetime.now(UTC)),
                created_by=audit.tidy_line(context.actor),
                reason=reason,
                parent=fetched.verified.digest,
            ),
            policy=fetched.policy,
            signer=releaser,
        )
        return out

    def tell(run: Run, new: ReleaseRef, signed: Path) -> None:
        removed = audit.Event(
            "recipient.removed", context.actor, new.path, reason=reason, detail={"key": gone.id}
        )
        audit.append_events(
            run, *audit.registration_events(signed, new, fetched.policy, context.actor), removed
        )

    def describe(new: ReleaseRef) -> ResealDetails:
        run = fetched.verified.release.build.run_id
        return ResealDetails(
            release=str(new), reason=reason, resealed=str(ref), without=gone.id, run=run
        )

    new, outcome = registry.register(
        context.lake,
        context.pipeline.name,
        registry.ReleaseDraft(sign, describe, tell),
        run_id=layout.reseal_run(ref, gone.id),
        inputs={"release": context.pin_releases()},
        by=context.origin,
    )
    return new, outcome.already


def _publish(
    context: Context,
    ref: ReleaseRef,
    standing: bytes,
    wrapped: bytes,
    new: PublicRecipient,
) -> None:
    path, before = f"{ref.path}/{STANZAS}", sha256(standing).hexdigest()

    def body(run: Run) -> None:
        if run.lake.fs.get(run.repository, run.branch, path) != standing:
            raise Misconfigured(
                f"Somebody else changed the recipients of {ref} meanwhile.",
                remedy="Give the command again.",
            )
        run.replace(path, wrapped)
        added = audit.Event(
            "recipient.added", context.actor, ref.path, detail={"key": new.recipient_id}
        )
        audit.append_events(run, added)
        run.describe(RecipientDetails(release=str(ref), added=new.recipient_id))

    run_id = layout.add_recipient_run(ref, new.recipient_id, before)
    context.commit_release(layout.RECIPIENTS, run_id, body)
