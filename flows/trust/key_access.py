"""Where a process gets a role's key: from the source set for that role, if it may hold it at all.

    HEADRACE_ROLES            roles this process may use: `trainer`, `gatekeeper,serving`, `none`
    HEADRACE_TRAINER_KEY      a key source (security/keys/sources.py); likewise _GATEKEEPER_,
                              _RELEASER_, _TIMESTAMP_, _POLICY_, _ROOT_ and _SERVING_
    HEADRACE_PASSPHRASE_FILE  what unlocks key files, if they are locked

Without a source a key is read from the role's folder in the keys folder; without HEADRACE_ROLES
every role may be asked for, as by a person's command on a machine that holds them all.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from flows.errors import Misconfigured
from security.errors import BadKey
from security.keys.pairs import ROLES, Opener, Role, RoleSigner
from security.keys.sources import KINDS, KeyReader

ALLOWED, NONE = "HEADRACE_ROLES", "none"
LOCK_FILE = "HEADRACE_PASSPHRASE_FILE"
KNOWN = frozenset({*ROLES, "serving"})


def read_signer(keys: Path, role: Role) -> RoleSigner:
    """The role's signer.

    Raises: BadKey where this process may not hold the role, even if its file lies there, and for
    a key that cannot be used; Misconfigured for a variable that means nothing.
    """
    _require_role(role)
    source = source_of(role, keys)
    return key_reader(passphrase_of(source)).read_signer(source, role)


def read_recipient(keys: Path, name: str) -> Opener:
    """The key that opens what was sealed for `name`. Raises: as `read_signer` does."""
    _require_role(name)
    source = source_of(name, keys)
    return key_reader(passphrase_of(source)).read_recipient(source, name)


def may_use(role: str) -> bool:
    """Whether this process may ask for the role's key. Raises: Misconfigured."""
    return role in _read_allowed_roles(os.environ)


def _require_role(role: str) -> None:
    if not may_use(role):
        raise BadKey(
            f"this process may not use the {role}'s key: {ALLOWED} is "
            f"{os.environ.get(ALLOWED, '')!r}",
            remedy=f"run the {role}'s own deployment, where that key belongs",
            code="trust.role_not_held",
        )


def _read_allowed_roles(environment: Mapping[str, str]) -> frozenset[str]:
    if ALLOWED not in environment:
        return KNOWN
    # Set but empty is a template that was not filled in: no reason to allow everything.
    named = frozenset(part.strip() for part in environment[ALLOWED].split(",")) - {NONE}
    if unknown := sorted(named - KNOWN):
        raise Misconfigured(
            f"{ALLOWED} names {unknown[0]!r}, which is no role",
            remedy=f"choose from {', '.join(sorted(KNOWN))}, or write {NONE}",
        )
    return named


def source_of(role: str, keys: Path) -> str:
    """Where this process would get the role's key from."""
    return os.environ.get(f"HEADRACE_{role.upper()}_KEY") or f"file:{keys}"


def passphrase_of(source: str) -> str | None:
    """Only files are locked: the other sources guard what they hold by themselves."""
    path = os.environ.get(LOCK_FILE)
    is_file = source.partition(":")[0] not in set(KINDS) - {"file"}
    if not path or not is_file:
        return None
    from security.keys.keyfiles import read_passphrase

    return read_passphrase(Path(path).expanduser())


def key_reader(passphrase: str | None) -> KeyReader:
    """What reads this process's keys: from its environment, and from Prefect's secrets."""
    return KeyReader(environment=os.environ, secret=secret_text, passphrase=passphrase)


def secret_text(name: str) -> str:
    """What a Prefect Secret block of that name holds. Raises: BadKey."""
    from blocks.keys import secret_text

    return secret_text(name)
