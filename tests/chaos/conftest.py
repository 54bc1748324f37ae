"""A network that loses replies: an HTTP proxy between Headrace and its lake."""

import re
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from storage.lake.client import Access

# What a proxy may not hand on: they describe one connection, not the message.
_OWN = {"connection", "transfer-encoding", "keep-alive"}


class LossyNetwork:
    """Forwards every request; from `lose` on, one matching exchange ends in a dropped connection.

    `heard` lists the matching exchanges as "METHOD /path", in the order in which they ended.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.heard: list[str] = []
        self.lost: list[str] = []
        self._pattern, self._nth, self._what = re.compile(r"(?!)"), 0, "reply"
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def lose(
        self, pattern: str, *, nth: int = 1, what: Literal["reply", "request"] = "reply"
    ) -> None:
        """Drop the nth exchange whose "METHOD /path" matches: unsent, or sent and unanswered."""
        with self._lock:
            self._pattern, self._nth, self._what = re.compile(pattern), nth, what
            self.heard.clear()
            self.lost.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _is_lost(self, exchange: str, what: str) -> bool:
        with self._lock:
            if what != self._what or not self._pattern.search(exchange):
                return False
            self.heard.append(exchange)
            if len(self.heard) != self._nth:
                return False
            self.lost.append(exchange)
            return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        network = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                exchange = f"{self.command} {urlsplit(self.path).path}"
                if network._is_lost(exchange, "request"):
                    self.close_connection = True
                    return
                status, headers, content = network.forward(self, body)
                if network._is_lost(exchange, "reply"):
                    self.close_connection = True
                    return
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """A test's output is no access log."""

        return Handler

    def forward(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(str(self.upstream.hostname), self.upstream.port, timeout=60)
        try:
            # The host goes on as it came: the S3 signature covers it.
            headers = {k: v for k, v in request.headers.items() if k.lower() not in _OWN}
            connection.request(request.command, request.path, body=body or None, headers=headers)
            reply = connection.getresponse()
            content = reply.read()
        finally:
            connection.close()
        kept = [(k, v) for k, v in reply.getheaders() if k.lower() not in _OWN]
        if request.command != "HEAD" and reply.getheader("Content-Length") is None:
            kept.append(("Content-Length", str(len(content))))
        return reply.status, kept, content


@pytest.fixture
def network(lake_access: Access) -> Iterator[LossyNetwork]:
    made = LossyNetwork(lake_access.endpoint)
    yield made
    made.close()
