"""The embedded lakeFS as one ASGI application: REST under /api/v1, S3 everywhere else."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from storage.embedded import (
    rest_branches,
    rest_commits,
    rest_objects,
    rest_repositories,
    rest_service,
    rest_uploads,
)
from storage.embedded.calls import (
    HEAD_CHANGES_AT_ONCE,
    Call,
    Handler,
    Service,
    refusal,
    strict_query,
)
from storage.embedded.errors import Unsupported
from storage.embedded.lake import Lake
from storage.embedded.s3_gateway import Gateway
from storage.embedded.s3_multipart import remove_orphans
from storage.embedded.sessions import Credentials, authenticate
from storage.embedded.sigv4 import is_signed
from storage.embedded.unread import UnreadBodies
from storage.errors import StorageError

API = "/api/v1"
_MODULES = (
    rest_service,
    rest_repositories,
    rest_branches,
    rest_commits,
    rest_objects,
    rest_uploads,
)


def create_app(root: Path, credentials: Credentials) -> Starlette:
    """Serve the lake under `root`; it is opened here and closed when the application shuts down.

    Raises: Unavailable, Damaged, OSError, as opening the lake does.
    """
    lake = Lake(root)
    remove_orphans(lake)
    service = Service(lake, credentials, anyio.CapacityLimiter(HEAD_CHANGES_AT_ONCE))
    gateway = Gateway(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(lake.close)

    return Starlette(
        routes=[Mount(API, routes=_rest_routes(service)), Mount("/", gateway)],
        middleware=[Middleware(UnreadBodies), Middleware(_SignedToGateway, gateway=gateway)],
        lifespan=lifespan,
    )


class _SignedToGateway:
    """Sends what is signed for S3 to the gateway, even to a repository called `api`."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app, self._gateway = app, gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        signed = scope["type"] == "http" and is_signed(Request(scope).headers)
        await (self._gateway if signed else self._app)(scope, receive, send)


def _rest_routes(service: Service) -> list[Route]:
    tables = [(rest_service.OPEN, False), *((module.ROUTES, True) for module in _MODULES)]
    routes = [
        Route(path, _endpoint(service, handler, closed=closed), methods=[method])
        for table, closed in tables
        for method, path, handler in table
    ]
    return [*_without_implied_head(routes), _unsupported(service)]


def _without_implied_head(routes: list[Route]) -> list[Route]:
    """Starlette lets every GET answer HEAD; here a HEAD has a handler of its own or none."""
    for route in routes:
        if route.methods and "GET" in route.methods:
            route.methods.discard("HEAD")
    return routes


def _endpoint(service: Service, handler: Handler, *, closed: bool) -> Callable[[Request], "object"]:
    async def endpoint(request: Request) -> Response:
        try:
            header = request.headers.get("authorization", "")
            user = authenticate(service.credentials, header) if closed else ""
            query = strict_query(request.scope["query_string"])
            return await handler(Call(request, service, user, query))
        except StorageError as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=499)

    return endpoint


def _unsupported(service: Service) -> Route:
    async def handler(call: Call) -> Response:
        path = call.request.url.path
        raise Unsupported(f"the embedded lakeFS does not support {call.request.method} {path}")

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]
    return Route("/{path:path}", _endpoint(service, handler, closed=True), methods=methods)
