"""An environment's next index: what it should say, and how it is signed and published.

Where the policy demands one releaser, the next index is signed and published at once. Where it
demands more, the first signs a proposal (`proposals`), and the last one publishes.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from flows import audit
from flows.context import Context
from flows.trust import key_access
from flows.trust.newest_index import verify_unseen
from security.errors import Untrusted
from security.policy.trust_policy import TrustPolicy
from security.release.index import (
    INDEX_TYPE,
    Index,
    NamedRelease,
    VerifiedIndex,
    format_moment,
    sign_index,
)
from security.release.signing import VerifiedRelease, verify_release
from storage import registry
from storage.errors import Refused
from storage.lake import Lake, Pin
from storage.registry import layout
from storage.registry.details import IndexDetails
from storage.runs import Outcome, Run

Kind = Literal["promotion", "rollback"]
EVENTS: dict[Kind, Literal["index.promoted", "index.rolled-back"]] = {
    "promotion": "index.promoted",
    "rollback": "index.rolled-back",
}


@dataclass(frozen=True, slots=True)
class NextIndex:
    """What the next index of an environment should say, and who wants it, why.

    `after` is the index that the decision was made on; a different one in its place means that
    somebody else decided meanwhile.
    """

    environment: str
    release: VerifiedRelease
    kind: Kind
    actor: str
    reason: str
    after: VerifiedIndex | None
    request_id: str

    @property
    def number(self) -> int:
        """The number that the index will have."""
        return self.after.index.number + 1 if self.after else 1

    def index(self) -> Index:
        """The index, as of now."""
        return Index(
            environment=self.environment,
            number=self.number,
            release=NamedRelease.of(self.release.release),
            actor=self.actor,
            reason=self.reason,
            created=format_moment(datetime.now(UTC)),
            previous=self.after.digest if self.after else None,
        )


def verify_registered(
    lake: Lake, pin: Pin, ref: registry.ReleaseRef, policy: TrustPolicy
) -> VerifiedRelease:
    """All numbered steps of the release's verification, on a private copy that is removed again.

    Raises: Untrusted at the first step that fails, NotFound.
    """
    with TemporaryDirectory(prefix="headrace-") as private:
        folder = registry.download(lake, pin, ref.path, Path(private) / "release")
        return verify_release(folder, policy=policy, name=ref.model, version=ref.version)


def publish_index(context: Context, following: NextIndex) -> tuple[int, Outcome]:
    """Sign and write the index; the audit log is told in the same commit.

    Raises: Refused, naming the winner, if another index came first.
    """
    releaser = key_access.read_signer(context.keys, "releaser")
    return write_index(context, following, sign_index(following.index(), releaser))


def write_index(
    context: Context,
    following: NextIndex,
    envelope: bytes,
    *,
    beside: Mapping[str, bytes] | None = None,
    events: tuple[audit.Event, ...] = (),
) -> tuple[int, Outcome]:
    """Write an index that as many releasers signed as the policy demands.

    `beside` are other files of the same commit by their path, `events` what else is to be told.
    Raises: Untrusted if signatures are missing, Refused if another index came first.
    """
    trusted, environment = context.trusted, following.environment
    policy, release = trusted.policy, name_release(NamedRelease.of(following.release.release))
    verify_unseen(envelope, environment, policy)
    told = audit.signed_event(
        policy.verify(envelope, role="releaser", payload_type=INDEX_TYPE),
        actor=following.actor,
        subject=layout.index_subject(environment, following.number),
        role="releaser",
        kind=EVENTS[following.kind],
        reason=following.reason,
        detail={"release": release},
    )

    def sign(number: int, previous: bytes | None) -> dict[str, bytes]:
        refuse_second(following, number, previous, policy)
        return {f"{number}.json": envelope}

    def also(run: Run) -> None:
        for path, data in (beside or {}).items():
            run.replace(path, data)
        audit.append_events(run, *events, told)

    def describe(number: int) -> IndexDetails:
        return IndexDetails(
            environment=environment,
            index=number,
            kind=following.kind,
            release=release,
            reason=following.reason,
            actor=following.actor,
        )

    number, outcome = registry.publish_index(
        context.lake,
        context.pipeline.name,
        environment,
        registry.IndexDraft(sign, describe, also),
        request_id=following.request_id,
        by=context.origin,
    )
    if not outcome.already:
        # Whoever wrote an index knows of it; another process here may know of a newer one by now.
        with suppress(Untrusted):
            trusted.verify_index(envelope, environment, outcome.pin.repository)
            audit.check_grown(context.lake, outcome.pin, trusted.floors)
    return number, outcome


def names_release(index: Index, release: VerifiedRelease) -> bool:
    """Whether the index names exactly this release."""
    return index.release == NamedRelease.of(release.release)


def name_release(reference: NamedRelease) -> str:
    """The release as people write it."""
    return f"{reference.model}/{reference.version}"


def make_request_id(kind: Kind, release: registry.ReleaseRef, reason: str, *, after: int) -> str:
    """What makes two starts one: a promotion by release and reason, a rollback by its place too."""
    if kind == "promotion":
        return f"promote {release}: {reason}"
    return f"roll back from index {after} to {release}: {reason}"


def refuse_second(
    following: NextIndex, number: int, previous: bytes | None, policy: TrustPolicy
) -> None:
    """Refuse to write over a decision that came in between. Raises: Refused, naming the winner."""
    if number == following.number or previous is None:
        return
    winner = verify_unseen(previous, following.environment, policy.for_predecessor()).index
    raise Refused(
        f"{winner.actor} wrote index {winner.number} of {winner.environment} meanwhile: "
        f"{name_release(winner.release)} ({winner.reason}).",
        remedy="Look at `headrace model list`, and repeat the command if it is still right.",
    )
