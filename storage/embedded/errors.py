"""What the embedded server refuses, inside the storage families, and the HTTP status of each.

The messages are lakeFS's own wording wherever a client may read them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import (
    Conflict,
    Damaged,
    Forbidden,
    NotFound,
    Refused,
    StorageError,
    Unavailable,
)


class Exists(Conflict):
    """The name is taken."""


class MergeConflict(Conflict):
    """Both sides changed a key, and no strategy was given."""


class PreconditionFailed(Conflict):
    """The object is there already, and the caller asked that it should not be."""


class Contended(Conflict):
    """Other writers kept moving the branch until the tries ran out."""


class ReadOnly(Forbidden):
    """The repository takes no changes."""


class Unauthenticated(Forbidden):
    """No credential, or a wrong one."""


class Unsupported(Refused):
    """lakeFS can do this and the embedded server cannot."""


class TooLarge(Refused):
    """The body is over the limit for its kind."""


class BadRange(Refused):
    """The byte range lies outside the object."""


class Gone(NotFound):
    """The commit has the object, and its bytes were erased on purpose."""


class NoMergeBase(Refused):
    """The two commits share no ancestor."""


class DiskFull(Unavailable):
    """No space left: nothing was written, reads go on."""


class WritesStopped(Unavailable):
    """The disk failed to make data durable; reads go on, writes wait for a restart."""


_STATUS: tuple[tuple[type[StorageError], int], ...] = (
    (PreconditionFailed, 412),
    (Contended, 429),
    (Unauthenticated, 401),
    (Unsupported, 501),
    (TooLarge, 413),
    (BadRange, 416),
    (NoMergeBase, 500),
    (DiskFull, 507),
    (WritesStopped, 503),
    (Gone, 410),
    (NotFound, 404),
    (Forbidden, 403),
    (Refused, 400),
    (Conflict, 409),
    (Unavailable, 503),
    (Damaged, 500),
)


def find_http_status(error: StorageError) -> int:
    """The status lakeFS answers this error with; 500 for a family it has no word for."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


@contextmanager
def name_failure(what: str) -> Iterator[None]:
    """Say what failed in front of the message of an error about a name or a conflict."""
    try:
        yield
    except (NotFound, Refused, Conflict) as error:
        raise type(error)(f"{what}: {error}", remedy=error.remedy, code=error.code) from error
