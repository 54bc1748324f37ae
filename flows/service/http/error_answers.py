"""What a caller is told who gets no prediction: status, problem, remedy and a stable code.

Every such answer is a JSON object with `error`, `remedy` and `code` (docs/errors.md); where a
request or one of its rows was refused, also the `rule` it broke and the `column`. Only a client
that went away gets an empty one.
"""

from http import HTTPStatus
from typing import Any

import h11
import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.requests import ClientDisconnect

from flows.errors import ContractBroken
from storage.http.deadlines import DeadlineProtocol

# A refusal with another code is the caller's to correct: 400.
STATUSES = {
    "service.too_large": 413,
    "service.media_type": 415,
    "service.model_unknown": 404,
    "service.overloaded": 503,
    "service.not_ready": 503,
}


def answer_json(
    body: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A JSON answer."""
    content = orjson.dumps(body)
    return Response(content, status, headers, media_type="application/json")


def add_error_answers(app: FastAPI) -> None:
    """Make the application answer each kind of error in this form."""
    app.add_exception_handler(ContractBroken, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_no_route)
    app.add_exception_handler(404, _answer_no_route)
    app.add_exception_handler(405, _answer_no_route)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_failure)


class ServiceProtocol(DeadlineProtocol):
    """Answers bytes that are no HTTP in the same form as any other bad request."""

    def answer_bad_request(self, problem: str) -> None:
        """Say what is wrong, and close."""
        body = orjson.dumps(
            {"error": problem, "remedy": "send HTTP/1.1", "code": "service.not_http"}
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


async def _answer_refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, ContractBroken):
        raise error
    request.scope["state"]["rule"] = error.rule
    status = STATUSES.get(error.code, 400)
    headers = {"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    # What is left of a refused body is not worth reading.
    headers |= {"connection": "close"} if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else {}
    body: dict[str, Any] = {
        "error": str(error),
        "remedy": error.remedy,
        "rule": error.rule,
        "column": error.column or None,
        "code": error.code,
    }
    return answer_json(body, status=status, headers=headers)


async def _answer_no_route(_: Request, error: Exception) -> Response:
    status, headers = getattr(error, "status_code", 404), getattr(error, "headers", None)
    is_method = status == HTTPStatus.METHOD_NOT_ALLOWED
    body = {
        "error": str(getattr(error, "detail", "not found")).lower(),
        "remedy": "GET /openapi.json lists what there is",
    }
    code = {"code": "service.method_not_allowed"} if is_method else {"code": "service.not_found"}
    return answer_json(body | code, status=status, headers=headers)


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=400)


async def _answer_failure(_: Request, __: Exception) -> Response:
    body = {"error": "the service failed", "remedy": "see its log", "code": "service.failed"}
    return answer_json(body, status=500)
