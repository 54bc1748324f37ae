"""One REST request: its parameters read strictly, its work run off the event loop."""

import logging
from asyncio import wrap_future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import anyio
from anyio import to_thread
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from storage.embedded.errors import Unsupported, find_http_status
from storage.embedded.graph.paging import KeyWindow
from storage.embedded.graph.version_graph import View
from storage.embedded.http.metrics import Metrics
from storage.embedded.http.transfer import read_limited
from storage.embedded.keys.access_keys import Key, Right, require
from storage.embedded.keys.sessions import LakeKeys
from storage.embedded.lake import EmbeddedLake
from storage.errors import Refused, StorageError

MAX_JSON_BYTES = 8 << 20
DEFAULT_AMOUNT = 100
MAX_AMOUNT = 1000
HEAD_CHANGES_AT_ONCE = 8
_TRUE = ("true", "1", "t", "T", "TRUE", "True")
_FALSE = ("false", "0", "f", "F", "FALSE", "False")
_MAY_BE_EMPTY = frozenset(["prefix", "after", "delimiter", "search", "since", "stop_at"])

logger = logging.getLogger("storage.embedded")
T = TypeVar("T")
B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """A JSON body; a key it does not know is refused, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class LakeService:
    """What every request shares."""

    lake: EmbeddedLake
    keys: LakeKeys
    head_changes: anyio.CapacityLimiter
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Call:
    """One request and who makes it."""

    request: Request
    service: LakeService
    key: Key | None
    query: dict[str, list[str]]

    @property
    def user(self) -> str:
        """Who makes it: the key's name; nobody on a route that is open to all."""
        return self.key.name if self.key else ""

    def check_repository(self, right: Right, repository: str) -> None:
        """For a repository that the body names. Raises: Unauthenticated."""
        if self.key is not None:
            require(self.key.may(right, repository))

    def may_see(self, repository: str) -> bool:
        """Whether the key has anything to do with a repository."""
        return self.key is not None and self.key.may_see(repository)

    @property
    def lake(self) -> EmbeddedLake:
        """The lake asked."""
        return self.service.lake

    def path(self, name: str) -> str:
        """A part of the URL's path."""
        return str(self.request.path_params[name])

    def text(self, name: str, default: str = "") -> str:
        """A query parameter."""
        return self.query.get(name, [default])[0]

    def texts(self, name: str) -> list[str]:
        """A query parameter that may be given several times."""
        return self.query.get(name, [])

    def require(self, name: str) -> str:
        """A query parameter that must be given. Raises: Refused."""
        if name not in self.query:
            raise Refused(
                f'parameter "{name}" in query has an error: value is required but missing'
            )
        return self.text(name)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean query parameter. Raises: Refused."""
        if name not in self.query:
            return default
        text = self.text(name)
        if text not in _TRUE + _FALSE:
            raise Refused(f"Invalid format for parameter {name}: {text!r} is not a boolean")
        return text in _TRUE

    def amount(self) -> int:
        """How many results the page may hold. Raises: Refused."""
        text = self.text("amount", str(DEFAULT_AMOUNT))
        try:
            amount = int(text)
        except ValueError:
            amount = MAX_AMOUNT + 1
        if not -1 <= amount <= MAX_AMOUNT:
            raise Refused(f"Invalid format for parameter amount: {text!r} is not -1..{MAX_AMOUNT}")
        return amount if amount > 0 else DEFAULT_AMOUNT

    def window(self) -> KeyWindow:
        """The part of the keys asked for."""
        return KeyWindow(
            self.text("prefix"), self.text("after"), self.text("delimiter"), self.amount()
        )

    def header(self, name: str) -> str | None:
        """A request header."""
        return self.request.headers.get(name)

    def refuse(self, *names: str) -> None:
        """Raises: Unsupported if one of these boolean parameters is set."""
        for name in names:
            if self.flag(name):
                raise Unsupported(f"the embedded lakeFS does not support {name}")

    async def body(self, model: type[B]) -> B:
        """The JSON body. Raises: Refused, TooLarge."""
        raw = await read_limited(self.request.stream(), MAX_JSON_BYTES)
        try:
            return model.model_validate_json(raw or b"{}")
        except ValidationError as error:
            raise Refused(f"request body has an error: {_describe_first(error)}") from error

    async def read(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """`work(view, ...)` on a snapshot, in a thread."""
        return await to_thread.run_sync(self.lake.read, partial(_with_view, work, args, named))

    async def write(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """`work(view, ...)` in the writer, durable when it returns."""
        return await wrap_future(self.lake.submit(partial(_with_view, work, args, named)))

    async def change_head(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """`work(lake, ...)` in a thread of its own kind, so that large ones never starve reads."""
        job = partial(work, self.lake, *args, **named)
        return await to_thread.run_sync(job, limiter=self.service.head_changes)


Handler = Callable[[Call], Awaitable[Response]]


def parse_query(raw: bytes) -> dict[str, list[str]]:
    """A query string's parameters. Raises: Refused if they are not UTF-8."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise Refused("the query string is not valid UTF-8") from error
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def parse_api_query(raw: bytes) -> dict[str, list[str]]:
    """The same for REST, where most parameters may be left out but not left empty."""
    found = parse_query(raw)
    for name, values in found.items():
        if "" in values and name not in _MAY_BE_EMPTY:
            raise Refused(f'parameter "{name}" in query has an error: empty value is not allowed')
    return found


def reply(body: object, status: int = 200, **headers: str) -> Response:
    """A JSON answer."""
    return JSONResponse(body, status, headers)


def reply_empty(status: int = 204) -> Response:
    """An answer without a body."""
    return Response(status_code=status)


def answer_error(error: StorageError, headers: dict[str, str] | None = None) -> Response:
    """An error in lakeFS's shape; its code is in a header, for lakeFS has no field for it."""
    status = find_http_status(error)
    if status >= 500 and status != 501:
        logger.error("%s", error, exc_info=error)
    return JSONResponse(
        {"message": str(error)}, status, {**(headers or {}), "x-headrace-code": error.code}
    )


def _with_view(
    work: Callable[..., T], args: tuple[Any, ...], named: dict[str, Any], view: View
) -> T:
    return work(view, *args, **named)


def _describe_first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    place = "/".join(str(step) for step in found["loc"])
    return f'Error at "/{place}": {found["msg"]}'


def reply_page(results: list[dict[str, Any]], *, has_more: bool, offset_key: str) -> Response:
    """A page of results with lakeFS's pagination block."""
    offset = results[-1][offset_key] if has_more and results else ""
    pagination = {
        "has_more": has_more,
        "max_per_page": MAX_AMOUNT,
        "next_offset": offset,
        "results": len(results),
    }
    return reply({"pagination": pagination, "results": results})
