"""The lake's connections: deadlines for large bodies, and file bytes that pass uvicorn by."""

import asyncio
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send

from storage.embedded.bytes.sendfile import FILES, FilePart, Outlet
from storage.http.deadlines import ConnectionLimits, DeadlineProtocol

MOST_HEADER_BYTES = 32 << 10
# A transfer may take as long as it needs while it moves. A request may hold its connection, a blob
# and a database connection at once.
LIMITS = ConnectionLimits(
    connections=2048, headers_s=20, pause_s=60, body_bytes_per_s=256, descriptors=3
)


class LakeProtocol(DeadlineProtocol):
    """Offers applications `FILES`: a part of a file in a body leaves by sendfile."""

    limits = LIMITS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._outlet = Outlet(self.note_progress, self._is_closing)
        self._application, self.app = self.app, self._offer_files

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what waits for the client."""
        super().connection_lost(exc)
        self._outlet.wake()

    async def _offer_files(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_any(message: Message) -> None:
            part = message.get("body")
            await (self._send_file(part) if isinstance(part, FilePart) else send(message))

        extensions = {**scope.get("extensions", {}), FILES: {}}
        await self._application({**scope, "extensions": extensions}, receive, send_any)

    async def _send_file(self, part: FilePart) -> None:
        """Raises: ConnectionError if the client goes."""
        # With no room in its buffer the transport reports when all that was written has left.
        self.transport.set_write_buffer_limits(high=0)
        await self.flow.drain()
        self.transport.set_write_buffer_limits()
        if self._is_closing():
            raise ConnectionResetError("the client is gone")
        self.conn.send_with_data_passthrough(h11.Data(data=part))  # type: ignore[arg-type]
        connection = self.transport.get_extra_info("socket").fileno()
        try:
            await self._outlet.pour(connection, part)
        except OSError:
            self.transport.abort()
            # The loop tells uvicorn, which else would report an answer without an end.
            await asyncio.sleep(0)
            raise

    def _is_closing(self) -> bool:
        return self.transport.is_closing()
