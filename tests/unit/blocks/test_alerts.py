import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from blocks.alerts import Alerts


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The address of a listening webhook, and what it was sent."""
    taken: list[tuple[str, bytes]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, body))
            self.send_response(200 if self.path == "/T0/very-secret" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", taken
        server.shutdown()


def test_without_a_webhook_nobody_is_told() -> None:
    assert not Alerts().notify("drift")


def test_an_alert_reaches_exactly_the_webhook(
    webhook: tuple[str, list[tuple[str, bytes]]],
) -> None:
    url, taken = webhook
    alerts = Alerts(webhook_url=SecretStr(f"{url}/T0/very-secret"))
    assert alerts.notify("drift", subject="monitor")
    assert alerts.notify("drift")
    assert [(path, json.loads(body)) for path, body in taken] == [
        ("/T0/very-secret", {"text": "monitor: drift"}),
        ("/T0/very-secret", {"text": "drift"}),
    ]


def test_a_refused_alert_is_an_error(webhook: tuple[str, list[tuple[str, bytes]]]) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        Alerts(webhook_url=SecretStr(f"{webhook[0]}/gone")).notify("drift")


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_alert_waits_for_some_time(seconds: float) -> None:
    with pytest.raises(ValidationError, match="timeout_s"):
        Alerts(timeout_s=seconds)
