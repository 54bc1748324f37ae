"""What to do with a request body that the answer did not wait for.

Left in the connection it would be read as the next request. Behind `Expect: 100-continue` the
client has not sent it and may never do so, so the connection is closed; otherwise a moderate
rest is read and dropped, so that the client gets to see the answer.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_DROPPED_BYTES = 16 << 20


class UnreadBodies:
    """Middleware that leaves every connection clean, or closes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(Headers(scope=scope), receive)

        async def answering(message: Message) -> None:
            if message["type"] == "http.response.start" and not await body.drain():
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, body.receive, answering)


class _Body:
    """The body of one request and how much of it was taken."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self._receive, self._complete, self._started = receive, not has_body, False
        self._waits = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        """The next message, noted."""
        self._started = True
        message = await self._receive()
        self._complete = self._complete or not message.get("more_body", False)
        return message

    async def drain(self) -> bool:
        """Whether nothing of the body is left; what can be dropped is dropped."""
        dropped = 0
        while not self._complete:
            if (self._waits and not self._started) or dropped > MAX_DROPPED_BYTES:
                return False
            dropped += len((await self.receive()).get("body", b""))
        return True
