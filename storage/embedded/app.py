"""The embedded lakeFS as one ASGI application: REST under /api/v1, S3 everywhere else."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from storage.embedded.http.calls import (
    HEAD_CHANGES_AT_ONCE,
    Call,
    Handler,
    LakeService,
    answer_error,
    parse_api_query,
)
from storage.embedded.http.metrics import Metrics
from storage.embedded.http.observed import RequestObserver
from storage.embedded.http.unread import UnreadBodies
from storage.embedded.keys.access_keys import Key
from storage.embedded.keys.keyring import Keyring
from storage.embedded.keys.sessions import Credentials, LakeKeys, authenticate
from storage.embedded.rest import (
    branches,
    commits,
    objects,
    openapi,
    repositories,
    unsupported,
    uploads,
)
from storage.embedded.rest import (
    service as server,
)
from storage.embedded.rest.grants import check_route
from storage.embedded.s3.gateway import Gateway
from storage.embedded.s3.multipart import remove_orphans
from storage.embedded.s3.sigv4 import is_signed
from storage.embedded.upkeep.boot import open_sound
from storage.errors import StorageError
from storage.http.access_log import AccessLog

API = "/api/v1"
KeyOf = Callable[[Request], Key | None]
_MODULES = (
    server,
    repositories,
    branches,
    commits,
    objects,
    uploads,
    unsupported,
)


def create_app(
    root: Path, credentials: Credentials | None, log: AccessLog | None = None
) -> Starlette:
    """Serve the lake under `root`; it is opened here and closed when the application shuts down.

    `credentials` open everything, beside the keys of the lake's own ring. `log` is closed too.

    Raises: Unavailable, Damaged, OSError, as opening the lake does.
    """
    lake = open_sound(root)
    remove_orphans(lake)
    keys = LakeKeys(Keyring(root), credentials)
    metrics = Metrics(lake)
    service = LakeService(lake, keys, anyio.CapacityLimiter(HEAD_CHANGES_AT_ONCE), metrics)
    gateway = Gateway(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(lake.close)
        await to_thread.run_sync(keys.close)
        if log is not None:
            await to_thread.run_sync(log.close)

    return Starlette(
        routes=[
            Mount(API, routes=_make_rest_routes(service)),
            Route("/metrics", _make_scrape(service, metrics)),
            Route("/openapi.json", _describe),
            Mount(server.OWN_PREFIX, routes=_make_closed_routes(service, server.OWN_ROUTES)),
            Mount("/", gateway),
        ],
        middleware=[
            Middleware(RequestObserver, metrics=metrics, log=log),
            Middleware(UnreadBodies),
            Middleware(_SignedToGateway, gateway=gateway),
        ],
        lifespan=lifespan,
    )


async def _describe(_: Request) -> Response:
    return JSONResponse(openapi.describe())


class _SignedToGateway:
    """Sends what is signed for S3 to the gateway, even to a repository called `api`."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = scope["type"] == "http"
        signed = http and is_signed(Headers(scope=scope), scope["query_string"])
        await (self._gateway if signed else self._app)(scope, receive, send)


def _make_rest_routes(service: LakeService) -> list[Route]:
    opened = [
        Route(path, _make_endpoint(service, handler, _ask_for_nothing, path), methods=[method])
        for method, path, handler in server.OPEN
    ]
    closed = [route for m in _MODULES for route in _make_closed_routes(service, m.ROUTES)]
    return [*_drop_implied_head([*opened, *closed]), _make_unknown_route(service)]


def _make_closed_routes(
    service: LakeService, table: Sequence[tuple[str, str, Handler]]
) -> list[Route]:
    return [
        Route(
            path,
            _make_endpoint(service, handler, _ask_for_grant(service, path), path),
            methods=[method],
        )
        for method, path, handler in table
    ]


def _drop_implied_head(routes: list[Route]) -> list[Route]:
    """Starlette lets every GET answer HEAD; here a HEAD has a handler of its own or none."""
    for route in routes:
        if route.methods and "GET" in route.methods:
            route.methods.discard("HEAD")
    return routes


def _make_scrape(
    service: LakeService, metrics: Metrics
) -> Callable[[Request], Awaitable[Response]]:
    """This machine may ask without a key, others with any."""

    async def endpoint(request: Request) -> Response:
        request.state.operation = "metrics"
        try:
            if request.client is None or not _is_loopback(request.client.host):
                _find_key(service, request)
        except StorageError as error:
            return answer_error(error)
        text = await to_thread.run_sync(metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return endpoint


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _ask_for_nothing(_: Request) -> None:
    """No key is asked for."""


def _find_key(service: LakeService, request: Request) -> Key:
    key = authenticate(service.keys, request.headers.get("authorization", ""))
    request.state.user, request.state.key = key.name, key.id
    return key


def _ask_for_grant(service: LakeService, route: str) -> KeyOf:
    def key_of(request: Request) -> Key:
        key = _find_key(service, request)
        check_route(key, request.method, route, request.path_params)
        return key

    return key_of


def _make_endpoint(
    service: LakeService, handler: Handler, key_of: KeyOf, route: str
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.state.operation = f"{request.method} {route}"
        try:
            key = key_of(request)
            query = parse_api_query(request.scope["query_string"])
            return await handler(Call(request, service, key, query))
        except StorageError as error:
            return answer_error(error)
        except ClientDisconnect:
            return Response(status_code=499)

    return endpoint


def _make_unknown_route(service: LakeService) -> Route:
    endpoint = _make_endpoint(service, unsupported.unknown, _ask_for_nothing, "other")
    return Route(unsupported.EVERYTHING, endpoint, methods=unsupported.EVERY_METHOD)
