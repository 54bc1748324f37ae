"""Keys that a person brings to a command, and the record of the ceremony that they sign."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows import signing
from flows.data.moments import moment_of
from flows.errors import Misconfigured
from flows.kept import Kept, signed_before
from flows.lakes import Opened
from flows.serve.policy import publish_policy
from security.ceremony import Retirement, pair_named, retired_before
from security.edition import Ceremony, policy_in
from security.errors import BadKey
from security.index import moment_text
from security.keyfiles import read_passphrase
from security.pairs import Role, RoleSigner
from security.policy import TrustPolicy
from security.sources import kind_of, signer_from


@dataclass(frozen=True)
class Brought:
    """Where a person says that the root's key is, and what unlocks it."""

    source: str | None
    passphrase_file: Path | None

    def signer(self, keys: Path, role: Role = "root") -> RoleSigner:
        """The key. Raises: BadKey, saying how to bring one that is kept offline."""
        try:
            if self.source is None:
                return signing.signer(keys, role)
            phrase = self._passphrase(self.source)
            return signer_from(self.source, role, passphrase=phrase, secret=signing.secret_text)
        except BadKey as error:
            if self.source is not None:
                raise
            raise BadKey(
                f"the {role}'s key is not at hand: {error}",
                remedy=f"bring it, and name where it is: --{role}-key file:FOLDER",
            ) from error

    def _passphrase(self, source: str) -> str | None:
        if kind_of(source) != "file" or self.passphrase_file is None:
            return None
        return read_passphrase(self.passphrase_file)


def publish(opened: Opened, actor: str, command: str) -> TrustPolicy:
    """Put the keys folder's policy into the releases repository, for every verifier to see."""
    return publish_policy(
        opened.lake,
        opened.pipeline,
        opened.settings.keys,
        actor=actor,
        by=opened.by(command, actor),
    )


def retirement(
    opened: Opened, name: str, reason: str, cut_off: datetime | None
) -> tuple[Retirement, list[Kept]]:
    """What a pair is still believed for: everything it had signed at the cut-off, and no more.

    Without a cut-off that is nothing, and the lake is not asked.
    """
    trust = policy_in(opened.settings.keys).trust
    if cut_off is None or retired_before(trust, name, reason):
        return Retirement(reason), []
    _, pair = pair_named(trust, name)
    kept = signed_before(opened.lake, pair, cut_off)
    digests = tuple(sorted({one.digest for one in kept}))
    return Retirement(reason, moment_text(cut_off), digests), kept


def moment(text: str) -> datetime:
    """A time as people write it. Raises: Misconfigured."""
    found = moment_of(text)
    if found is None:
        raise Misconfigured(
            f"{text!r} is not a time.", remedy="Write ISO 8601, as in 2026-11-24T12:00:00Z."
        )
    return found


def told(done: Ceremony, kept: list[Kept]) -> Mapping[str, object]:
    """A ceremony for a program to read."""
    trust, rules = done.policy.trust, done.policy.rules
    return {
        "already": done.already,
        "retired": done.retired or None,
        "enrolled": done.enrolled or None,
        "edition": [trust.epoch, trust.version, rules.version],
        "kept": [{"at": str(one.at), "path": one.path, "digest": one.digest} for one in kept],
    }
