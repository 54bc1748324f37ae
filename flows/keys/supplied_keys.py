"""Keys that a person brings to a command, and what every ceremony ends with: publication."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows.context import Context
from flows.errors import Misconfigured
from flows.keys.published_policy import publish_policy
from flows.keys.signed_history import SignedPayload
from flows.trust import key_access
from security.errors import BadKey
from security.keys.keyfiles import read_passphrase
from security.keys.pairs import Role, RoleSigner
from security.keys.sources import find_source_kind
from security.policy.edition import Ceremony
from storage.errors import Unavailable
from storage.versions.moments import moment_of


@dataclass(frozen=True)
class BroughtKey:
    """Where a person says that a key is, and what unlocks it; without a source, where it is set."""

    source: str | None
    passphrase_file: Path | None = None

    def signer(self, keys: Path, role: Role = "root") -> RoleSigner:
        """The key. Raises: BadKey, saying how to bring one that is kept offline."""
        if self.source is not None:
            phrase = self._passphrase(self.source)
            return key_access.key_reader(phrase).read_signer(self.source, role)
        try:
            return key_access.read_signer(keys, role)
        except BadKey as error:
            raise BadKey(
                f"the {role}'s key is not at hand: {error}",
                remedy=f"bring it, and name where it is: --{role}-key file:FOLDER",
            ) from error

    def _passphrase(self, source: str) -> str | None:
        if find_source_kind(source) != "file" or self.passphrase_file is None:
            return None
        return read_passphrase(self.passphrase_file)


def publish(context: Context) -> None:
    """Put the keys folder's policy into the releases repository, for every verifier to see.

    Raises: Unavailable, saying that the keys themselves are changed; Refused, Untrusted.
    """
    try:
        if context.pipeline.releases not in context.lake.fs.repositories():
            return
        published = context.acting(context.actor, command="headrace keys")
        publish_policy(published.read_policy_again())
    except Unavailable as error:
        raise Unavailable(
            f"The keys here are changed, but their policy is not published yet: {error}",
            remedy="Give the same command again when the lake answers.",
        ) from error


def parse_moment(text: str) -> datetime:
    """A time as people write it. Raises: Misconfigured."""
    found = moment_of(text)
    if found is None:
        raise Misconfigured(
            f"{text!r} is not a time.", remedy="Write ISO 8601, as in 2026-11-24T12:00:00Z."
        )
    return found


def describe_ceremony(done: Ceremony, kept: Sequence[SignedPayload]) -> Mapping[str, object]:
    """A ceremony for a program to read."""
    trust, rules = done.policy.trust, done.policy.rules
    return {
        "already": done.already,
        "retired": done.retired or None,
        "enrolled": done.enrolled or None,
        "edition": [trust.epoch, trust.version, rules.version],
        "kept": [{"at": str(one.at), "path": one.path, "digest": one.digest} for one in kept],
    }
