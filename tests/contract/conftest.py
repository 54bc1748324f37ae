"""One lake for the contract: the embedded server as a subprocess, or what LAKEFS_ENDPOINT names."""

import hashlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@dataclass(frozen=True)
class Endpoint:
    url: str
    key_id: str
    secret: str
    is_real: bool

    @property
    def storage_options(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "aws_conditional_put": "etag",
        }


@dataclass(frozen=True)
class Rest:
    """The REST API of one repository, without any client's opinion of it."""

    http: httpx.Client
    repository: str

    def call(self, method: str, path: str, /, **named: Any) -> httpx.Response:
        return self.http.request(method, f"/repositories/{self.repository}{path}", **named)

    def get(self, path: str, /, **params: Any) -> httpx.Response:
        return self.call("GET", path, params=params)

    def post(self, path: str, json: Any) -> httpx.Response:
        return self.call("POST", path, json=json)

    def branch(self, name: str, source: str = "main", **more: Any) -> str:
        made = self.post("/branches", {"name": name, "source": source, **more})
        assert made.status_code == 201, made.text
        return made.text

    def upload(
        self, branch: str, path: str, content: bytes = b"x", **headers: str
    ) -> httpx.Response:
        return self.call(
            "POST",
            f"/branches/{branch}/objects",
            params={"path": path},
            content=content,
            headers={"Content-Type": "application/octet-stream", **headers},
        )

    def put(self, branch: str, path: str, content: bytes = b"x", **headers: str) -> None:
        done = self.upload(branch, path, content, **headers)
        assert done.status_code == 201, done.text

    def commit(self, branch: str, message: str = "m", **more: Any) -> str:
        done = self.post(f"/branches/{branch}/commits", {"message": message, **more})
        assert done.status_code == 201, done.text
        return str(done.json()["id"])

    def merge(self, source: str, target: str, **body: Any) -> httpx.Response:
        return self.post(f"/refs/{source}/merge/{target}", body)

    def content(self, ref: str, path: str) -> bytes | None:
        found = self.get(f"/refs/{ref}/objects", path=path)
        return found.content if found.status_code == 200 else None

    def paths(self, ref: str, **params: Any) -> list[str]:
        found = self.get(f"/refs/{ref}/objects/ls", **params)
        assert found.status_code == 200, found.text
        return [item["path"] for item in found.json()["results"]]

    def changes(self, path: str, /, **params: Any) -> list[tuple[str, str]]:
        found = self.get(path, **params)
        assert found.status_code == 200, found.text
        return [(item["type"], item["path"]) for item in found.json()["results"]]


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    if url := os.environ.get("LAKEFS_ENDPOINT"):
        key_id = os.environ["LAKEFS_ACCESS_KEY_ID"]
        yield Endpoint(url.rstrip("/"), key_id, os.environ["LAKEFS_SECRET_ACCESS_KEY"], True)
        return
    with serving(tmp_path_factory.mktemp("lake")) as (url, _):
        yield Endpoint(url, KEY_ID, SECRET, False)


class serving:  # noqa: N801 -- reads as a verb where it is used
    """The embedded server on a free port, as a process of its own; drained on exit."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> tuple[str, subprocess.Popen[str]]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "storage.embedded", "--root", str(self._root), "--port", "0"],
            env={**os.environ, "LAKEFS_ACCESS_KEY_ID": KEY_ID, "LAKEFS_SECRET_ACCESS_KEY": SECRET},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("lakeFS is at http://"), line
        return line.split()[-1], self.process

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def http(endpoint: Endpoint) -> Iterator[httpx.Client]:
    auth = (endpoint.key_id, endpoint.secret)
    with httpx.Client(base_url=f"{endpoint.url}/api/v1", auth=auth, timeout=60) as client:
        yield client


@pytest.fixture
def new_repository(http: httpx.Client) -> Callable[[], str]:
    def make() -> str:
        name = f"contract-{secrets.token_hex(6)}"
        made = http.post(
            "/repositories", json={"name": name, "storage_namespace": f"local://{name}"}
        )
        assert made.status_code == 201, made.text
        return name

    return make


@pytest.fixture
def repository(new_repository: Callable[[], str]) -> str:
    return new_repository()


@pytest.fixture
def rest(http: httpx.Client, repository: str) -> Rest:
    return Rest(http, repository)


@pytest.fixture(scope="session")
def s3(endpoint: Endpoint) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.key_id,
        aws_secret_access_key=endpoint.secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


class Signed:
    """Raw requests signed by botocore, so that a test can send what boto3 would not."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.url
        self.auth = SigV4Auth(Credentials(endpoint.key_id, endpoint.secret), "s3", "us-east-1")

    def send(
        self, method: str, path: str, body: bytes = b"", query: str = "", **headers: str
    ) -> httpx.Response:
        host = urlsplit(self.url).netloc
        sent = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        sent.setdefault("x-amz-content-sha256", hashlib.sha256(body).hexdigest())
        url = self.url + quote(path) + query
        request = AWSRequest(method, url, {"Host": host, **sent})
        self.auth.add_auth(request)
        self.headers = dict(request.headers)
        return httpx.request(method, request.url, headers=self.headers, content=body)


@pytest.fixture
def signed(endpoint: Endpoint) -> Signed:
    return Signed(endpoint)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds: a real lakeFS caches protection rules for a second."""

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline, "it never came to hold"
            time.sleep(0.2)

    return wait
