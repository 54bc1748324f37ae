"""Access keys: who calls, and what each may do to which repositories."""

import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

from storage.embedded.errors import Unauthenticated
from storage.errors import Refused

ADMIN = "admin"
_GRANT = re.compile(r"(read|write):([a-z0-9*?-]{1,63})(?:/([\w*?.-]{1,256}))?", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
# What a ref expression reads as a commit's id or the start of one.
_COMMIT = re.compile(r"[0-9a-fA-F]{1,64}")
_STEPS = frozenset("~^@$")


class Right(Enum):
    """What one may do; who may write may read."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to read, or to read and write, the repositories that a pattern names.

    A `ref` narrows it to branches and tags of a name: their objects, and commits on them.
    """

    right: Right
    repository: str
    ref: str = "*"

    @classmethod
    def parse(cls, text: str) -> "Grant":
        """From `read:REPOSITORY` or `write:REPOSITORY/BRANCH`. Raises: Refused."""
        found = _GRANT.fullmatch(text)
        if found is None:
            raise Refused(
                f"{text!r} is not a grant",
                remedy="Write read:PATTERN or write:PATTERN, the pattern REPOSITORY or"
                " REPOSITORY/BRANCH; * and ? stand for any characters.",
            )
        return cls(Right(found[1]), found[2], found[3] or "*")

    def __str__(self) -> str:
        """As `parse` reads it."""
        place = self.repository if self.ref == "*" else f"{self.repository}/{self.ref}"
        return f"{self.right.value}:{place}"

    def covers(self, right: Right, repository: str, ref: str | None) -> bool:
        """Whether this is enough; a `ref` of None stands for the repository as a whole."""
        enough = self.right is Right.WRITE or right is Right.READ
        return enough and fnmatchcase(repository, self.repository) and self._covers_ref(ref)

    def _covers_ref(self, ref: str | None) -> bool:
        if self.ref == "*" or ref is None:
            return self.ref == "*"
        name = ref.removesuffix("@")
        # What may be a commit's id is no branch's name, whatever a pattern says of its letters;
        # nor is `main~2`, though `*2` matches it.
        is_name = _STEPS.isdisjoint(name) and not _COMMIT.fullmatch(name)
        return name == self.ref or (is_name and fnmatchcase(name, self.ref))


EVERYTHING = (Grant(Right.WRITE, "*"),)


@dataclass(frozen=True, slots=True)
class Key:
    """One access key. Its name is the user in commits and logs."""

    id: str
    name: str
    secret: str = field(repr=False)
    grants: tuple[Grant, ...]

    def opens_with(self, secret: str) -> bool:
        """Whether this is its secret, compared in constant time."""
        return hmac.compare_digest(secret.encode(), self.secret.encode())

    def may(self, right: Right, repository: str, ref: str | None = None) -> bool:
        """Whether one of its grants is enough; without a `ref`, for the whole repository."""
        return any(grant.covers(right, repository, ref) for grant in self.grants)

    def may_see(self, repository: str) -> bool:
        """Whether any of its grants is about this repository."""
        return any(fnmatchcase(repository, grant.repository) for grant in self.grants)

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return EVERYTHING[0] in self.grants


def make_admin_key(access_key_id: str, secret: str) -> Key:
    """The key that the environment gives; it may do everything."""
    return Key(access_key_id, ADMIN, secret, EVERYTHING)


def make_key(name: str, grants: tuple[Grant, ...]) -> Key:
    """A key nobody has had. Raises: Refused for a name that no log could show."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{name!r} is no name for a key",
            remedy="Use up to 63 of a-z, 0-9, dot, dash and underscore.",
        )
    # 20 characters, the most that lakeFS takes for an id; 240 random bits as the secret.
    key_id = "AKIA" + secrets.token_hex(8).upper()
    return Key(key_id, name, secrets.token_urlsafe(30), grants)


def require(allowed: bool) -> None:
    """Raises: Unauthenticated, as lakeFS does, if a key's grants are not enough."""
    if not allowed:
        raise Unauthenticated("insufficient permissions")
