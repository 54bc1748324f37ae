"""What the S3 gateway takes for a signature: in a header or in a URL, of now, of everything."""

import base64
import hashlib
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.auth
import botocore.crt.auth
import httpx
import pytest
from botocore.config import Config


def code(answer: httpx.Response) -> tuple[int, str]:
    found = re.search("<Code>(.*?)</Code>", answer.text)
    return answer.status_code, found[1] if found else ""


@pytest.fixture
def at(monkeypatch):
    """Let botocore sign as if it were earlier or later."""

    def shift(minutes: float) -> None:
        real = botocore.auth.get_current_datetime

        def now(**named: Any) -> datetime:
            return real(**named) + timedelta(minutes=minutes)

        # Where awscrt is installed botocore signs with it.
        for module in (botocore.auth, botocore.crt.auth):
            monkeypatch.setattr(module, "get_current_datetime", now)

    return shift


@pytest.fixture
def v4(endpoint) -> Any:
    """A client that presigns with version 4; boto3's own choice for a custom endpoint is 2."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.key_id,
        aws_secret_access_key=endpoint.secret,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def test_a_presigned_url_reads_and_writes_without_a_key(v4, rest):
    named = {"Bucket": rest.repository, "Key": "main/a key"}
    put = v4.generate_presigned_url("put_object", named, ExpiresIn=60)
    assert httpx.put(put, content=b"content").status_code == 200
    got = httpx.get(v4.generate_presigned_url("get_object", named, ExpiresIn=60))
    assert (got.status_code, got.content) == (200, b"content")


def test_a_presigned_url_is_good_for_its_own_request_only(v4, rest):
    rest.put("main", "key", b"content")
    rest.put("main", "secret", b"secret")
    url = v4.generate_presigned_url("get_object", {"Bucket": rest.repository, "Key": "main/key"})
    assert code(httpx.get(url.replace("/key", "/secret"))) == (403, "SignatureDoesNotMatch")
    assert code(httpx.put(url, content=b"x")) == (403, "SignatureDoesNotMatch")
    assert code(httpx.get(f"{url}&versionId=1")) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("minutes", "expires_s", "expected", "message"),
    [
        (-2, 60, (403, "AccessDenied"), "Request has expired"),
        (-16, 3600, (403, "RequestTimeTooSkewed"), "too large"),
        (16, 60, (403, "AccessDenied"), "Request is not valid yet"),
    ],
)
def test_a_presigned_url_ends(at, v4, rest, minutes, expires_s, expected, message):
    at(minutes)
    named = {"Bucket": rest.repository, "Key": "main/key"}
    answer = httpx.get(v4.generate_presigned_url("get_object", named, ExpiresIn=expires_s))
    assert code(answer) == expected
    assert message in answer.text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("X-Amz-Expires=60", "X-Amz-Expires=700000"), (400, "AuthorizationQueryParametersError")),
        (("X-Amz-Expires=60", "X-Amz-Expires=-1"), (400, "AuthorizationQueryParametersError")),
        (("X-Amz-Expires=60", "X-Amz-Expires=soon"), (400, "AuthorizationQueryParametersError")),
        (("X-Amz-Expires=60&", ""), (400, "MissingFields")),
        (("AWS4-HMAC-SHA256", "AWS5-HMAC"), (400, "AuthorizationQueryParametersError")),
        (("aws4_request", "aws5_request"), (400, "AuthorizationQueryParametersError")),
    ],
)
def test_a_presigned_url_out_of_shape_is_refused(v4, rest, change, expected):
    named = {"Bucket": rest.repository, "Key": "main/key"}
    url = v4.generate_presigned_url("get_object", named, ExpiresIn=60)
    assert change[0] in url
    assert code(httpx.get(url.replace(*change))) == expected


def test_nothing_is_added_to_a_presigned_url(v4, rest, endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS takes headers that were not signed")
    rest.put("main", "secret", b"secret")
    url = v4.generate_presigned_url("put_object", {"Bucket": rest.repository, "Key": "main/mine"})
    source = f"{rest.repository}/main/secret"
    assert code(httpx.put(url, headers={"x-amz-copy-source": source})) == (403, "AccessDenied")
    assert rest.paths("main") == ["secret"]


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (-14, (200, "")),
        (14, (200, "")),
        (-16, (403, "RequestTimeTooSkewed")),
        (16, (403, "AccessDenied")),
    ],
)
def test_a_signature_is_good_for_a_quarter_of_an_hour(at, signed, rest, minutes, expected):
    rest.put("main", "key", b"content")
    at(minutes)
    assert code(signed.send("GET", f"/{rest.repository}/main/key")) == expected


def test_a_date_that_is_not_the_credentials_is_refused(signed, rest):
    path = f"/{rest.repository}/main/key"
    signed.send("GET", path)
    headers = {**signed.headers, "X-Amz-Date": "20200101T000000Z"}
    answer = httpx.get(signed.url + path, headers=headers)
    assert code(answer) == (400, "AuthorizationHeaderMalformed")
    headers["X-Amz-Date"] = "yesterday"
    assert code(httpx.get(signed.url + path, headers=headers)) == (400, "MalformedDate")


def test_a_header_out_of_shape_is_refused(signed, rest):
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIA"}
    answer = httpx.get(f"{signed.url}/{rest.repository}/main/key", headers=headers)
    assert code(answer) == (400, "MissingFields")


def test_an_error_names_its_request(signed, rest):
    answer = signed.send("GET", f"/{rest.repository}/main/no")
    assert code(answer) == (404, "NoSuchKey")
    assert re.search("<RequestId>[^<]+</RequestId>", answer.text)
    assert urlsplit(str(answer.url)).path.startswith(f"/{rest.repository}")


TRAILERS = {
    "crc32": None,
    "crc32c": None,
    "crc64nvme": None,
    "sha1": lambda content: hashlib.sha1(content).digest(),
    "sha256": lambda content: hashlib.sha256(content).digest(),
}


def computed(name: str, content: bytes) -> bytes:
    """What a bit-by-bit CRC, or hashlib, says."""
    if TRAILERS[name]:
        return TRAILERS[name](content)
    polynomial, bits = {
        "crc32": (0xEDB88320, 32),
        "crc32c": (0x82F63B78, 32),
        "crc64nvme": (0x9A6C9329AC4BC9B5, 64),
    }[name]
    state = mask = (1 << bits) - 1
    for byte in content:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (polynomial if state & 1 else 0)
    return (state ^ mask).to_bytes(bits // 8)


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("name", TRAILERS)
def test_every_trailing_checksum_is_checked(signed, rest, endpoint, name, right):
    content = hashlib.shake_128(b"seed").digest(20_011)
    told = base64.b64encode(computed(name, content if right else content[1:])).decode()
    body = b"%x\r\n%s\r\n0\r\n" % (len(content), content)
    answer = signed.send(
        "PUT",
        f"/{rest.repository}/main/key",
        body + f"x-amz-checksum-{name}:{told}\r\n\r\n".encode(),
        x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        x_amz_trailer=f"x-amz-checksum-{name}",
        x_amz_decoded_content_length=str(len(content)),
        content_encoding="aws-chunked",
    )
    if right:
        assert answer.status_code == 200, answer.text
        assert rest.content("main", "key") == content
    else:
        assert answer.status_code == (500 if endpoint.is_real else 400)
        assert rest.paths("main") == []


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_boto3_sends_its_checksums(s3, rest, algorithm):
    content = hashlib.shake_128(b"seed").digest(300_000)
    named = {"Bucket": rest.repository, "Key": "main/key"}
    s3.put_object(Body=content, ChecksumAlgorithm=algorithm, **named)
    assert s3.get_object(**named)["Body"].read() == content
