"""What can go wrong with stored versions and bytes, grouped by what a caller does next.

StorageError
  Conflict      somebody else moved the ref first: redo the write from a fresh head
  Unavailable   the lake did not answer, or asked to wait: try again
  NotFound      (LookupError) the thing named is not there
  Forbidden     the key may not do this: fix the credential
  Refused       the request itself is wrong: fix the input
  Damaged       stored bytes are not what was written: stop and restore
"""


class StorageError(Exception):
    """Base of all storage errors.

    `remedy` is the second line a person reads; `code` is what a program may rely on, one of those
    in docs/errors.md.
    """

    code = "lake.error"

    def __init__(self, problem: str, *, remedy: str = "", code: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy
        self.code = code or type(self).code


class Conflict(StorageError):
    """Another writer won; nothing of this write is visible."""

    code = "lake.conflict"


class Unavailable(StorageError):
    """No answer, or 429/5xx: whether the call took effect is unknown."""

    code = "lake.unavailable"


class NotFound(StorageError, LookupError):
    """The repository, ref, object or table does not exist."""

    code = "lake.not_found"


class Forbidden(StorageError):
    """The lake refused the credential, or the ref is protected."""

    code = "lake.forbidden"


class Refused(StorageError, ValueError):
    """The lake or the table refused the request as malformed."""

    code = "lake.refused"


class Damaged(StorageError):
    """A digest, length or log does not match what was written."""

    code = "lake.damaged"
