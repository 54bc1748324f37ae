"""Where a key comes from, in one word: `file:`, `env:`, `command:` or `prefect-secret:`.

    file:FOLDER             FOLDER/<role>/*.pem; a bare path means the same
    env:NAME                an environment variable with the role's PEM blocks; the caller gives
                            the environment, nothing here reads the process's own
    command:PROGRAM ARGS    a program in front of a KMS or HSM (`security.keys.command`)
    prefect-secret:NAME     a Prefect Secret block with the PEM blocks; the caller resolves it

All but a command bring the private key into this process.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from security.errors import BadKey
from security.keys.command import CommandRecipient, CommandSigner, Program
from security.keys.keyfiles import (
    parse_recipient,
    parse_signer,
    read_recipient_folder,
    read_signer_folder,
)
from security.keys.pairs import Opener, PublicPair, Role, RoleSigner

KINDS = ("file", "env", "command", "prefect-secret")

Resolve = Callable[[str], str]


@dataclass(frozen=True)
class KeyReader:
    """Reads keys from their sources, with what the caller lets it use.

    `environment` is what `env:` looks a name up in, `secret` turns a Prefect Secret's name into
    its text, `passphrase` unlocks key files.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: Resolve | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)

    def read_signer(
        self, source: str, role: Role, *, expected: Collection[PublicPair] | None = None
    ) -> RoleSigner:
        """The signer of `role` that `source` holds.

        With `expected`, say the pairs that the policy enrols for the role, any other pair is
        refused before it signs anything.
        Raises: BadKey.
        """
        signer = self._read_any_signer(source, role)
        if expected is not None and signer.public not in expected:
            kind = find_source_kind(source)
            raise BadKey(
                f"the key from {kind} is not one that the policy enrols as {role}",
                remedy=f"give the {role}'s own key, or enrol this one: "
                f"`headrace keys rotate {role}`",
                code="trust.key_not_enrolled",
            )
        return signer

    def read_recipient(self, source: str, name: str) -> Opener:
        """The decryption key of the recipient `name` that `source` holds. Raises: BadKey."""
        kind, rest = _split(source)
        if kind == "command":
            return CommandRecipient(name, Program.parse(rest))
        if kind == "file":
            return read_recipient_folder(Path(rest) / name, passphrase=self.passphrase)
        return parse_recipient(self._read_text(kind, rest), where=source)

    def _read_any_signer(self, source: str, role: Role) -> RoleSigner:
        kind, rest = _split(source)
        if kind == "command":
            return CommandSigner(role, Program.parse(rest))
        if kind == "file":
            return read_signer_folder(Path(rest) / role, role, passphrase=self.passphrase)
        return parse_signer(self._read_text(kind, rest), role, where=source)

    def _read_text(self, kind: str, name: str) -> str:
        if kind == "env":
            if name not in self.environment:
                raise BadKey(
                    f"the environment has no {name}",
                    remedy="set it to the role's PEM blocks",
                    code="trust.key_missing",
                )
            return self.environment[name]
        if self.secret is None:
            raise BadKey(
                f"the Prefect Secret {name} cannot be read here",
                remedy="load the key through the SigningKeys block, or use another source",
                code="trust.key_missing",
            )
        return self.secret(name)


def find_source_kind(source: str) -> str:
    """`file`, `env`, `command` or `prefect-secret`. Raises: BadKey."""
    return _split(source)[0]


def _split(source: str) -> tuple[str, str]:
    kind, colon, rest = source.partition(":")
    if not colon or "/" in kind:
        kind, rest = "file", source
    if kind not in KINDS or not rest:
        raise BadKey(
            f"{kind[:40]!r} is no source of keys",
            remedy="write file:FOLDER, env:NAME, command:PROGRAM ARGS or prefect-secret:NAME",
        )
    return kind, rest
