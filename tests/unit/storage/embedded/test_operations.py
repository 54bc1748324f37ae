"""The server as whoever runs it sees it: metrics, access log, request ids, limits, narrow keys."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from storage.embedded.errors import TooLarge
from storage.embedded.http.transfer import MAX_BODY_BYTES, check_size
from storage.embedded.keys.access_keys import Grant
from storage.embedded.keys.keyring import Keyring

KEY = ("AKIAIOSFODNN7EXAMPLE", "a secret nobody prints")


@dataclass
class Running:
    url: str
    root: Path
    log: Path

    def http(self, auth: Any = KEY) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api/v1", auth=auth, timeout=30)

    def s3(self, auth: tuple[str, str] = KEY) -> Any:
        config = Config(
            s3={"addressing_style": "path"}, retries={"max_attempts": 1}, signature_version="s3v4"
        )
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=auth[0],
            aws_secret_access_key=auth[1],
            region_name="us-east-1",
            config=config,
        )

    def key(self, name: str, *grants: str) -> tuple[str, str]:
        ring = Keyring(self.root)
        made = ring.create(name, tuple(Grant.parse(text) for text in grants))
        ring.close()
        return made.id, made.secret

    def lines(self) -> list[dict[str, Any]]:
        time.sleep(1.2)
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("operations")
    where = ["--root", str(folder / "lake"), "--port", "0"]
    log = folder / "access.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "storage.embedded", *where, "--access-log", str(log)],
        env={**os.environ, "LAKEFS_ACCESS_KEY_ID": KEY[0], "LAKEFS_SECRET_ACCESS_KEY": KEY[1]},
        stdout=subprocess.PIPE,
        text=True,
    )
    url = process.stdout.readline().split()[-1]
    assert "Only this machine" in process.stdout.readline()
    found = Running(url, folder / "lake", log)
    with found.http() as http:
        for name in ("flights", "flights-releases", "other"):
            made = http.post(
                "/repositories", json={"name": name, "storage_namespace": f"local://{name}"}
            )
            assert made.status_code == 201
            body = {"name": "landing", "source": "main"}
            assert http.post(f"/repositories/{name}/branches", json=body).status_code == 201
            for branch in ("main", "landing"):
                path = f"/repositories/{name}/branches/{branch}/objects"
                assert http.post(path, params={"path": "k"}, content=b"x").status_code == 201
    yield found
    process.terminate()
    assert process.wait(30) == 0


def refused(call: Any, **named: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**named)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


DENIED = (403, "AccessDenied")


@pytest.fixture(scope="module")
def service_key(running):
    return running.key("prediction", "read:flights-releases", "write:flights/landing")


def test_a_narrow_key_does_what_it_may_over_rest(running, service_key):
    with running.http(service_key) as http:
        assert http.get("/user").json()["user"]["id"] == "prediction"
        shown = http.get("/repositories").json()["results"]
        assert [one["id"] for one in shown] == ["flights", "flights-releases"]
        releases = "/repositories/flights-releases"
        assert http.get(f"{releases}/branches/main").status_code == 200
        read = {"params": {"path": "k"}}
        assert http.get(f"{releases}/refs/main/objects", **read).content == b"x"
        landing = "/repositories/flights/branches/landing/objects"
        put = http.post(landing, params={"path": "new"}, content=b"y")
        assert put.status_code == 201
        assert http.get("/repositories/flights/refs/landing/objects", **read).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/repositories/flights/refs/main/objects?path=k", None),
        ("GET", "/repositories/flights/refs/main/objects/ls", None),
        ("GET", "/repositories/flights/branches", None),
        ("GET", "/repositories/flights/refs/landing/diff/main", None),
        ("POST", "/repositories/flights/branches/main/objects?path=k", None),
        ("POST", "/repositories/flights/branches", {"name": "b", "source": "main"}),
        (
            "POST",
            "/repositories/flights/branches/landing/objects/copy?dest_path=c",
            {"src_path": "k", "src_ref": "main"},
        ),
        ("POST", "/repositories/flights/refs/main/merge/landing", {}),
        ("PUT", "/repositories/flights/branches/landing/hard_reset?ref=main", None),
        ("DELETE", "/repositories/flights", None),
        ("POST", "/repositories/flights-releases/branches/main/objects?path=k", None),
        ("GET", "/repositories/other", None),
        ("POST", "/repositories", {"name": "mine", "storage_namespace": "local://mine"}),
    ],
)
def test_a_narrow_key_is_refused_the_rest_as_lakefs_does(running, service_key, method, path, body):
    with running.http(service_key) as http:
        answer = http.request(method, path, json=body)
    assert (answer.status_code, answer.json()) == (401, {"message": "insufficient permissions"})


def test_a_narrow_key_does_what_it_may_over_s3_and_no_more(running, service_key):
    s3 = running.s3(service_key)
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == ["flights", "flights-releases"]
    assert s3.get_object(Bucket="flights-releases", Key="main/k")["Body"].read() == b"x"
    s3.put_object(Bucket="flights", Key="landing/s3", Body=b"z")
    assert s3.list_objects_v2(Bucket="flights", Prefix="landing/")["KeyCount"] > 0
    assert refused(s3.get_object, Bucket="flights", Key="main/k") == DENIED
    assert refused(s3.put_object, Bucket="flights", Key="main/k", Body=b"") == DENIED
    assert refused(s3.put_object, Bucket="flights-releases", Key="main/k", Body=b"") == DENIED
    assert refused(s3.list_objects_v2, Bucket="flights", Prefix="main/") == DENIED
    assert refused(s3.list_objects_v2, Bucket="flights") == DENIED
    assert refused(s3.list_objects_v2, Bucket="other", Prefix="main/") == DENIED
    assert refused(s3.list_objects_v2, Bucket="not-there", Prefix="main/") == DENIED
    named = {"Bucket": "flights", "Key": "landing/copy"}
    source = {"Bucket": "flights", "Key": "main/k"}
    assert refused(s3.copy_object, CopySource=source, **named) == DENIED
    upload = s3.create_multipart_upload(**named)["UploadId"]
    part = {"UploadId": upload, "PartNumber": 1, "CopySource": source, **named}
    assert refused(s3.upload_part_copy, **part) == DENIED
    s3.abort_multipart_upload(UploadId=upload, **named)
    some = {"Objects": [{"Key": "main/k"}]}
    assert refused(s3.delete_objects, Bucket="other", Delete=some) == DENIED
    assert refused(s3.delete_objects, Bucket="not-there", Delete=some) == DENIED
    gone = s3.delete_objects(
        Bucket="flights", Delete={"Objects": [{"Key": "landing/s3"}, {"Key": "main/k"}]}
    )
    assert [one["Key"] for one in gone["Deleted"]] == ["landing/s3"]
    assert [(one["Key"], one["Code"]) for one in gone["Errors"]] == [("main/k", "AccessDenied")]


def test_a_part_whose_upload_is_aborted_meanwhile_leaves_no_file(running):
    s3 = running.s3(KEY)
    named = {"Bucket": "flights", "Key": "landing/parts"}
    upload = s3.create_multipart_upload(**named)["UploadId"]
    url = s3.generate_presigned_url(
        "upload_part", {**named, "UploadId": upload, "PartNumber": 1}, ExpiresIn=600
    )

    def body():
        yield b"x" * (2 << 20)
        while not list((running.root / "incoming").iterdir()):
            time.sleep(0.01)
        s3.abort_multipart_upload(UploadId=upload, **named)
        yield b"x"

    answer = httpx.put(url, content=body(), timeout=60)
    assert (answer.status_code, "NoSuchUpload" in answer.text) == (404, True)
    assert list((running.root / "parts").iterdir()) == []


def test_a_revoked_key_is_refused_at_once_over_both(running):
    auth = running.key("passing", "read:*")
    s3, http = running.s3(auth), running.http(auth)
    s3.list_buckets()
    assert http.get("/repositories").status_code == 200
    Keyring(running.root).revoke("passing")
    assert refused(s3.list_buckets) == DENIED
    answer = http.get("/repositories")
    assert (answer.status_code, answer.json()) == (
        401,
        {"message": "error authenticating request"},
    )


def test_commits_carry_the_keys_name(running):
    auth = running.key("committer", "write:other")
    with running.http(auth) as http:
        path = "/repositories/other/branches/landing"
        http.post(f"{path}/objects", params={"path": "c"}, content=b"c")
        made = http.post(f"{path}/commits", json={"message": "m"}).json()
    assert made["committer"] == "committer"


def scraped(running: Running) -> dict[tuple[str, frozenset[str]], float]:
    text = httpx.get(f"{running.url}/metrics").text
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_bytes_and_what_is_there(running):
    before = scraped(running)
    s3 = running.s3()
    s3.put_object(Bucket="other", Key="main/metric", Body=b"x" * 1000)
    upload = s3.create_multipart_upload(Bucket="other", Key="main/big")["UploadId"]
    s3.upload_part(Bucket="other", Key="main/big", UploadId=upload, PartNumber=1, Body=b"y" * 70)
    with running.http() as http:
        http.get("/repositories/other/refs/main/objects", params={"path": "metric"})
        http.get("/repositories/not-there")
    after = scraped(running)

    def grown(name: str, *labels: str) -> float:
        sample = (name, frozenset(labels))
        return after.get(sample, 0) - before.get(sample, 0)

    def now(name: str, *labels: str) -> float:
        return after[name, frozenset(labels)]

    assert grown("gateway_request_duration_seconds_count", "put_object", "200") == 1
    route = "GET /repositories/{repository}/refs/{ref}/objects"
    assert grown("api_request_duration_seconds_count", route, "200") == 1
    assert grown("api_requests_total", "404", "GET") == 1
    assert grown("headrace_lake_received_bytes_total", "gateway") >= 1070
    assert grown("headrace_lake_sent_bytes_total", "api") >= 1000
    assert now("headrace_lake_open_uploads") == 1
    assert now("headrace_lake_open_upload_bytes") >= 70
    assert now("headrace_lake_repositories") == 3
    assert now("headrace_lake_database_bytes") > 0
    assert now("headrace_lake_read_only") == 0
    assert now("lakefs_concurrent_requests", "api") == 0
    s3.abort_multipart_upload(Bucket="other", Key="main/big", UploadId=upload)


def test_metrics_count_garbage_collections(running):
    before = scraped(running)
    dry = httpx.post(f"{running.url}/_headrace/gc", auth=KEY, json={"dry_run": True})
    done = httpx.post(f"{running.url}/_headrace/gc", auth=KEY, json={})
    assert (dry.status_code, done.status_code) == (200, 200)
    after, runs = scraped(running), ("headrace_lake_gc_runs_total", frozenset())
    assert after[runs] - before[runs] == 1


def test_no_narrow_key_collects_garbage(running, service_key):
    answer = httpx.post(f"{running.url}/_headrace/gc", auth=service_key, json={})
    assert (answer.status_code, answer.json()) == (401, {"message": "insufficient permissions"})


def test_no_path_becomes_a_metric_of_its_own(running):
    with running.http() as http:
        for number in range(20):
            http.get(f"/nothing/{number}")
            http.request(f"X{number}", "/repositories")
    assert not [name for name in scraped(running) if "nothing" in str(name) or "X1" in str(name)]


def test_the_access_log_tells_what_happened_and_no_secret(running):
    presigned = running.s3().generate_presigned_url(
        "get_object", {"Bucket": "other", "Key": "main/k"}, ExpiresIn=60
    )
    assert httpx.get(presigned, headers={"X-Request-ID": "mine-1"}).status_code == 200
    with running.http() as http:
        http.post(
            "/auth/login", json={"access_key_id": KEY[0], "secret_access_key": KEY[1]}
        ).raise_for_status()
        http.get("/repositories/other", headers={"X-Request-ID": "mine-2"})
    httpx.get(f"{running.url}/api/v1/user", auth=(KEY[0], "guessed wrong"))
    lines = running.lines()
    told = {line["request_id"]: line for line in lines}
    assert told["mine-1"]["operation"] == "get_object"
    assert (told["mine-1"]["status"], told["mine-1"]["sent"]) == (200, 1)
    assert told["mine-2"]["operation"] == "GET /repositories/{repository}"
    assert (told["mine-2"]["user"], told["mine-2"]["key"]) == ("admin", KEY[0])
    assert [line["user"] for line in lines if line["status"] == 401][-1] is None
    text = running.log.read_text()
    for secret in (KEY[1], "guessed wrong", "Signature=", "Basic ", "Bearer "):
        assert secret not in text


def test_a_path_that_mentions_a_signature_is_still_rest(running):
    with running.http() as http:
        read = http.get(
            "/repositories/other/refs/main/objects", params={"path": "X-Amz-Credential=a"}
        )
    assert (read.status_code, read.headers["content-type"]) == (404, "application/json")


def test_every_answer_has_a_request_id(running):
    answer = httpx.get(f"{running.url}/api/v1/healthcheck")
    assert answer.headers["x-request-id"] == answer.headers["x-amz-request-id"] != ""
    mine = httpx.get(f"{running.url}/api/v1/healthcheck", headers={"X-Request-ID": "abc-1"})
    assert mine.headers["x-request-id"] == "abc-1"
    odd = httpx.get(f"{running.url}/api/v1/healthcheck", headers={"X-Request-ID": 'a"b c'})
    assert odd.headers["x-request-id"] != 'a"b c'


def test_an_upload_over_the_limit_is_refused_before_it_is_read(running):
    s3 = running.s3()
    url = s3.generate_presigned_url("put_object", {"Bucket": "other", "Key": "main/huge"})
    host, _, path = url.removeprefix("http://").partition("/")
    head = f"PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n"
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=20) as client:
        client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"EntityTooLarge" in answer
    with pytest.raises(TooLarge):
        check_size(MAX_BODY_BYTES + 1)
    check_size(MAX_BODY_BYTES)


def test_headers_without_end_are_refused(running):
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"a" * (64 << 10))
        assert client.recv(4096).startswith(b"HTTP/1.1 400")


def test_an_xml_body_over_the_limit_is_refused(running):
    s3 = running.s3()
    objects = [{"Key": f"main/{number:01000}"} for number in range(4500)]
    answer = refused(s3.delete_objects, Bucket="other", Delete={"Objects": objects})
    assert answer[0] == 400
