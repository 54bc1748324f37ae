"""What these tests share: free ports, and a server that answers as Prefect's API does."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from flows.settings import Settings


def free_port() -> int:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class FakePrefect:
    """Flow runs behind the two calls that settling makes, in pages; every request is kept."""

    address: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, path: str, body: Any) -> Any:
        self.asked.append(path)
        if path == "/api/flow_runs/filter":
            wanted = body["flow_runs"]["state"]["type"]["any_"]
            found = [run for run in self.runs if run["state_type"] in wanted]
            return found[body["offset"] : body["offset"] + body["limit"]]
        if path.endswith("/set_state"):
            self.states[path.split("/")[3]] = body["state"]
        return {}


@pytest.fixture
def prefect() -> Iterator[FakePrefect]:
    """A Prefect server that the installation under test did not start."""

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: Any) -> None:
            text = json.dumps(fake.answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        fake = FakePrefect(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation that has started nothing, on free ports."""
    return Settings(
        root=tmp_path,
        home=tmp_path / ".headrace",
        lake_port=free_port(),
        prefect_port=free_port(),
        service_port=free_port(),
        lake_endpoint=None,
    )
