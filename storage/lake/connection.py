"""The connection to a lakeFS: how it is asked, how lists are paged, what its errors mean here.

Every vendor error is translated here, with what was asked for in the text. Timeouts raise
Unavailable: whether the call took effect is then unknown, and the caller must look.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lakefs_client
import urllib3
from lakefs_client.client import LakeFSClient
from lakefs_client.exceptions import ApiException

from storage.errors import Conflict, Forbidden, NotFound, Refused, StorageError, Unavailable

TIMEOUT_S = (5, 60)
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Access:
    """Where a lakeFS answers, and with which key."""

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


class Connection:
    """One endpoint and one key. Safe to share between threads."""

    def __init__(self, access: Access) -> None:
        self.access = access
        configuration = lakefs_client.Configuration(
            host=access.endpoint.rstrip("/"),
            username=access.access_key_id,
            password=access.secret_access_key,
        )
        # A request that may have been applied is never sent twice by the transport.
        configuration.retries = urllib3.Retry(connect=2, read=0, redirect=0, status=0, other=0)
        self._api = LakeFSClient(configuration)

    def _list_all(
        self, call: Any, what: str, *args: str, most: int | None = None, **options: Any
    ) -> Iterator[Any]:
        after, left = "", most
        while left is None or left > 0:
            amount = PAGE if left is None else min(PAGE, left)
            with self._translate_errors(what):
                page = call(
                    *args, after=after, amount=amount, _request_timeout=TIMEOUT_S, **options
                )
            yield from page.results
            left = None if left is None else left - len(page.results)
            if not page.pagination.has_more:
                return
            after = page.pagination.next_offset

    @contextmanager
    def _translate_errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            raise translate_error(error, what, self.access) from error
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"No answer from lakeFS at {self.access.endpoint} ({what}).",
                remedy="Start it with `headrace up`, or correct LAKEFS_ENDPOINT.",
                code="lake.no_answer",
            ) from error


def translate_error(error: ApiException, what: str, access: Access) -> StorageError:
    """Our own error for lakeFS's; `what` is what was asked for."""
    status, said = error.status or 0, _read_message(error)
    if status == 401:
        return _translate_unauthorized(said, what, access)
    # lakeFS reports a branch that moved under a merge or commit as 400 or 423 in some versions.
    kind = _KINDS.get(status, Unavailable if status >= 500 and status != 501 else Refused)
    text, remedy = f"{what}: {said} (lakeFS answered {status})", _REMEDIES.get(kind, "")
    if status == 403 and "protected branch" in said:
        return Forbidden(text, remedy=remedy, code="lake.branch_protected")
    if status == 410:
        return NotFound(text, remedy=remedy, code="lake.bytes_purged")
    return kind(text, remedy=remedy)


def _translate_unauthorized(said: str, what: str, access: Access) -> StorageError:
    if "insufficient permissions" in said:
        return Forbidden(
            f"The access key {access.access_key_id} may not do this ({what}).",
            remedy="Use a key with a grant for it: `headrace lake keys create`.",
        )
    return Forbidden(
        f"lakeFS at {access.endpoint} does not accept the access key "
        f"{access.access_key_id} ({what}).",
        remedy="Correct LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY.",
        code="lake.key_refused",
    )


_KINDS: dict[int, type[StorageError]] = {
    403: Forbidden,
    404: NotFound,
    # The commit has the object, and its bytes were purged.
    410: NotFound,
    409: Conflict,
    412: Conflict,
    423: Conflict,
    429: Unavailable,
}

_REMEDIES: dict[type[StorageError], str] = {
    Forbidden: "Use a key that may do this, or write through a run branch.",
    NotFound: "`headrace data branch` and `headrace data ls` print what there is.",
    Conflict: "Look at what is there now, and repeat if it is still right.",
    Unavailable: "Try again; the lake's own log says what held it up.",
}


def _read_message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
