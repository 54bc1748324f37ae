"""The S3 gateway, through boto3 and, where boto3 cannot misbehave, through raw requests."""

import base64
import hashlib
import zlib
from typing import Any

import httpx
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

AWKWARD = ["plain", "with space", "a+b", "50%", "q?x&y=z", "üñï/日本/🦆", "a//b", "quote'\"<>&"]


def refused(call: Any, **named: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**named)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.mark.parametrize("key", AWKWARD)
def test_any_key_round_trips(s3, repository, key):
    s3.put_object(Bucket=repository, Key=f"main/{key}", Body=b"content")
    got = s3.get_object(Bucket=repository, Key=f"main/{key}")
    assert got["Body"].read() == b"content"
    listed = s3.list_objects_v2(Bucket=repository, Prefix="main/")
    assert [found["Key"] for found in listed["Contents"]] == [f"main/{key}"]
    s3.delete_object(Bucket=repository, Key=f"main/{key}")
    assert refused(s3.head_object, Bucket=repository, Key=f"main/{key}") == (404, "404")


def test_an_object_keeps_type_metadata_and_etag(s3, repository, rest):
    put = s3.put_object(
        Bucket=repository,
        Key="main/key",
        Body=b"content",
        ContentType="text/x-test",
        Metadata={"Origin": "sensor"},
    )
    etag = f'"{hashlib.md5(b"content").hexdigest()}"'
    head = s3.head_object(Bucket=repository, Key="main/key")
    assert put["ETag"] == head["ETag"] == etag
    assert (head["ContentLength"], head["ContentType"]) == (7, "text/x-test")
    assert {name.lower(): value for name, value in head["Metadata"].items()} == {"origin": "sensor"}
    stat = rest.get("/refs/main/objects/stat", path="key").json()
    assert stat["metadata"] == {"X-Amz-Meta-origin": "sensor"}
    assert stat["checksum"] == etag.strip('"')


def test_commits_and_tags_are_read_like_branches(s3, rest):
    s3.put_object(Bucket=rest.repository, Key="main/key", Body=b"one")
    head = rest.commit("main")
    rest.post("/tags", {"id": "v1", "ref": "main"})
    s3.put_object(Bucket=rest.repository, Key="main/key", Body=b"two")

    def body(ref):
        return s3.get_object(Bucket=rest.repository, Key=f"{ref}/key")["Body"].read()

    assert (body(head), body("v1"), body("main"), body("main@")) == (b"one", b"one", b"two", b"one")


@pytest.mark.parametrize(
    ("asked", "told", "content"),
    [
        ("bytes=0-3", "bytes 0-3/10", b"0123"),
        ("bytes=4-", "bytes 4-9/10", b"456789"),
        ("bytes=-3", "bytes 7-9/10", b"789"),
        ("bytes=8-99", "bytes 8-9/10", b"89"),
    ],
)
def test_a_range_is_served(s3, repository, asked, told, content):
    s3.put_object(Bucket=repository, Key="main/key", Body=b"0123456789")
    got = s3.get_object(Bucket=repository, Key="main/key", Range=asked)
    assert (got["ContentRange"], got["Body"].read()) == (told, content)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    head = s3.head_object(Bucket=repository, Key="main/key", Range=asked)
    assert head["ContentLength"] == len(content)


def test_a_range_beyond_the_end_is_refused(s3, repository):
    s3.put_object(Bucket=repository, Key="main/key", Body=b"0123456789")
    named = {"Bucket": repository, "Key": "main/key", "Range": "bytes=10-"}
    assert refused(s3.get_object, **named) == (416, "InvalidRange")


def test_put_if_absent_is_refused_where_something_is(s3, repository):
    named = {"Bucket": repository, "Key": "main/key", "IfNoneMatch": "*"}
    s3.put_object(Body=b"one", **named)
    assert refused(s3.put_object, Body=b"two", **named) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=repository, Key="main/key")["Body"].read() == b"one"


def test_missing_things_have_their_codes(s3, repository):
    missing = {"Bucket": repository, "Key": "main/no"}
    assert refused(s3.get_object, **missing) == (404, "NoSuchKey")
    elsewhere = {"Bucket": f"{repository}-no", "Key": "main/key"}
    assert refused(s3.get_object, **elsewhere) == (404, "NoSuchBucket")
    no_branch = {"Bucket": repository, "Key": "no/key", "Body": b"x"}
    assert refused(s3.put_object, **no_branch) == (404, "NoSuchBucket")
    assert refused(s3.head_bucket, Bucket=f"{repository}-no") == (404, "404")
    s3.head_bucket(Bucket=repository)
    s3.delete_object(**missing)


def test_buckets_cannot_be_made_here(s3, repository):
    assert refused(s3.create_bucket, Bucket=f"{repository}-new") == (501, "NotImplemented")


def test_repositories_are_buckets(s3, repository):
    assert repository in [found["Name"] for found in s3.list_buckets()["Buckets"]]


def test_a_protected_branch_refuses_puts_and_deletes(s3, rest, eventually):
    path = "/settings/branch_protection"
    rest.call("PUT", path, json=[{"pattern": "main"}])
    eventually(lambda: rest.upload("main", "key").status_code == 403)
    named = {"Bucket": rest.repository, "Key": "main/key"}
    blocked = (403, "ErrWriteToProtectedBranch")
    assert refused(s3.put_object, Body=b"x", **named) == blocked
    assert refused(s3.delete_object, **named) == blocked
    answer = s3.delete_objects(Bucket=rest.repository, Delete={"Objects": [{"Key": "main/key"}]})
    assert [found["Code"] for found in answer["Errors"]] == [blocked[1]]


def test_listing_folds_and_pages_in_both_versions(s3, repository):
    for key in ("a/1", "a/2", "b", "c/1", "d"):
        s3.put_object(Bucket=repository, Key=f"main/{key}", Body=b"x")

    def pages(operation, **named):
        keys, folders = [], []
        paginator = s3.get_paginator(operation)
        two_at_a_time = {"PaginationConfig": {"PageSize": 2}}
        for page in paginator.paginate(Bucket=repository, **two_at_a_time, **named):
            keys += [found["Key"] for found in page.get("Contents", [])]
            folders += [found["Prefix"] for found in page.get("CommonPrefixes", [])]
        return keys, folders

    every = [f"main/{key}" for key in ("a/1", "a/2", "b", "c/1", "d")]
    assert pages("list_objects_v2", Prefix="main/") == (every, [])
    folded = (["main/b", "main/d"], ["main/a/", "main/c/"])
    for operation in ("list_objects_v2", "list_objects"):
        assert pages(operation, Prefix="main/", Delimiter="/") == folded
    assert pages("list_objects_v2", Prefix="main/a/")[0] == ["main/a/1", "main/a/2"]
    after = s3.list_objects_v2(Bucket=repository, Prefix="main/", StartAfter="main/b")
    assert [found["Key"] for found in after["Contents"]] == ["main/c/1", "main/d"]


def test_the_top_of_a_bucket_lists_branches(s3, rest):
    rest.branch("work")
    listed = s3.list_objects_v2(Bucket=rest.repository, Delimiter="/")
    assert [found["Prefix"] for found in listed["CommonPrefixes"]] == ["main/", "work/"]


def test_several_objects_are_deleted_at_once_across_branches(s3, rest):
    rest.branch("work")
    keys = ["main/a", "main/b", "work/c"]
    for key in keys:
        s3.put_object(Bucket=rest.repository, Key=key, Body=b"x")
    request = {"Objects": [{"Key": key} for key in ("main/a", "work/c", "main/not-there")]}
    answer = s3.delete_objects(Bucket=rest.repository, Delete=request)
    assert sorted(found["Key"] for found in answer["Deleted"]) == [
        "main/a",
        "main/not-there",
        "work/c",
    ]
    assert (rest.paths("main"), rest.paths("work")) == (["b"], [])


def test_a_copy_keeps_or_replaces_metadata(s3, rest):
    bucket = rest.repository
    s3.put_object(Bucket=bucket, Key="main/from", Body=b"content", Metadata={"k": "v"})
    source = {"Bucket": bucket, "Key": "main/from"}
    s3.copy_object(Bucket=bucket, Key="main/same", CopySource=source)
    s3.copy_object(
        Bucket=bucket,
        Key="main/other",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"k": "w"},
    )
    same = s3.get_object(Bucket=bucket, Key="main/same")
    other = s3.head_object(Bucket=bucket, Key="main/other")
    assert same["Body"].read() == b"content"
    assert (list(same["Metadata"].values()), list(other["Metadata"].values())) == (["v"], ["w"])
    nothing = {"Bucket": bucket, "Key": "main/no"}
    named = {"Bucket": bucket, "Key": "main/x", "CopySource": nothing}
    assert refused(s3.copy_object, **named) == (404, "NoSuchKey")


def test_an_upload_in_parts_is_put_together_in_order(s3, rest):
    named = {"Bucket": rest.repository, "Key": "main/big"}
    upload = s3.create_multipart_upload(ContentType="text/x", Metadata={"k": "v"}, **named)
    named["UploadId"] = upload["UploadId"]
    contents = [b"a" * (5 << 20), b"b" * (5 << 20), b"end"]
    etags = {
        number: s3.upload_part(PartNumber=number, Body=contents[number - 1], **named)["ETag"]
        for number in (3, 1, 2)
    }
    assert rest.paths("main") == []
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2, 3)]
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **named)
    sums = b"".join(hashlib.md5(content).digest() for content in contents)
    assert done["ETag"] == f'"{hashlib.md5(sums).hexdigest()}-3"'
    got = s3.get_object(Bucket=rest.repository, Key="main/big")
    assert got["Body"].read() == b"".join(contents)
    assert (got["ContentType"], list(got["Metadata"].values())) == ("text/x", ["v"])
    assert rest.get("/refs/main/objects/stat", path="big").json()["checksum"] == (
        hashlib.md5(sums).hexdigest()
    )


def test_an_aborted_upload_leaves_nothing(s3, rest, endpoint):
    named = {"Bucket": rest.repository, "Key": "main/big"}
    named["UploadId"] = s3.create_multipart_upload(**named)["UploadId"]
    s3.upload_part(PartNumber=1, Body=b"x", **named)
    s3.abort_multipart_upload(**named)
    assert rest.paths("main") == []
    status, code = refused(s3.upload_part, PartNumber=1, Body=b"x", **named)
    assert (status, code) == ((500, "InternalError") if endpoint.is_real else (404, "NoSuchUpload"))


def test_parts_are_listed_and_one_that_never_came_is_refused(s3, rest, endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS on local disk lists no parts, and completes with what it has")
    named = {"Bucket": rest.repository, "Key": "main/big"}
    named["UploadId"] = s3.create_multipart_upload(**named)["UploadId"]
    s3.upload_part(PartNumber=1, Body=b"x", **named)
    s3.upload_part(PartNumber=7, Body=b"yy", **named)
    listed = s3.list_parts(**named)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, 1), (7, 2)]
    parts = {"Parts": [{"PartNumber": 2, "ETag": '"' + "0" * 32 + '"'}]}
    answer = refused(s3.complete_multipart_upload, MultipartUpload=parts, **named)
    assert answer == (400, "InvalidPart")
    assert rest.paths("main") == []


def test_boto3_uploads_a_large_file_by_itself(s3, rest, tmp_path):
    content = hashlib.shake_128(b"seed").digest(20 << 20)
    (tmp_path / "file").write_bytes(content)
    s3.upload_file(str(tmp_path / "file"), rest.repository, "main/file")
    s3.download_file(rest.repository, "main/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_a_wrong_secret_or_a_changed_request_is_refused(s3, signed, repository, endpoint):
    digest = hashlib.sha256(b"x").hexdigest()
    path = f"/{repository}/main/key"
    assert signed.send("PUT", path, b"x", x_amz_content_sha256=digest).status_code == 200
    elsewhere = httpx.put(f"{endpoint.url}{path}2", headers=signed.headers, content=b"x")
    assert elsewhere.status_code == 403
    assert "SignatureDoesNotMatch" in elsewhere.text
    signed.auth.credentials = Credentials(endpoint.key_id, "wrong")
    wrong = signed.send("PUT", path, b"x", x_amz_content_sha256=digest)
    assert (wrong.status_code, "SignatureDoesNotMatch" in wrong.text) == (403, True)
    signed.auth.credentials = Credentials("AKIAUNKNOWN", endpoint.secret)
    unknown = signed.send("PUT", path, b"x", x_amz_content_sha256=digest)
    assert (unknown.status_code, "AccessDenied" in unknown.text) == (403, True)


def test_a_body_that_is_not_the_signed_one_is_refused(signed, rest, endpoint):
    digest = hashlib.sha256(b"signed").hexdigest()
    path = f"/{rest.repository}/main/key"
    answer = signed.send("PUT", path, b"sent", x_amz_content_sha256=digest)
    assert answer.status_code == (500 if endpoint.is_real else 400)
    assert rest.paths("main") == []


def test_an_unsigned_body_is_taken(signed, rest):
    path = f"/{rest.repository}/main/key"
    put = signed.send("PUT", path, b"content", x_amz_content_sha256="UNSIGNED-PAYLOAD")
    assert put.status_code == 200
    assert rest.content("main", "key") == b"content"


def trailer_body(content: bytes, checksum: int) -> bytes:
    told = base64.b64encode(checksum.to_bytes(4)).decode()
    middle = len(content) // 2
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:middle], content[middle:])
    )
    return chunks + f"0\r\nx-amz-checksum-crc32:{told}\r\n\r\n".encode()


def test_a_chunked_body_with_a_checksum_trailer_is_decoded(signed, rest):
    content = b"0123456789" * 20_000
    answer = signed.send(
        "PUT",
        f"/{rest.repository}/main/key",
        trailer_body(content, zlib.crc32(content)),
        x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        x_amz_trailer="x-amz-checksum-crc32",
        x_amz_decoded_content_length=str(len(content)),
        content_encoding="aws-chunked",
    )
    assert answer.status_code == 200
    assert rest.content("main", "key") == content


def test_a_chunked_body_with_a_wrong_checksum_is_refused(signed, rest, endpoint):
    content = b"0123456789"
    answer = signed.send(
        "PUT",
        f"/{rest.repository}/main/key",
        trailer_body(content, zlib.crc32(content) ^ 1),
        x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        x_amz_trailer="x-amz-checksum-crc32",
        x_amz_decoded_content_length=str(len(content)),
        content_encoding="aws-chunked",
    )
    assert answer.status_code == (500 if endpoint.is_real else 400)
    assert rest.paths("main") == []


def signed_chunks(signed: Any, content: bytes, flip: bool) -> bytes:
    """The chunks of a body, each signed onto the one before; `flip` changes one byte after."""
    import hmac

    headers = signed.headers
    seed = headers["Authorization"].rpartition("Signature=")[2]
    moment, scope = headers["X-Amz-Date"], None
    day = moment[:8]
    scope = f"{day}/us-east-1/s3/aws4_request"
    key = b"AWS4" + signed.auth.credentials.secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    body = b""
    for data in (content[:70_000], content[70_000:], b""):
        text = "\n".join(
            (
                "AWS4-HMAC-SHA256-PAYLOAD",
                moment,
                scope,
                seed,
                hashlib.sha256(b"").hexdigest(),
                hashlib.sha256(data).hexdigest(),
            )
        )
        seed = hmac.digest(key, text.encode(), "sha256").hex()
        sent = b"!" + data[1:] if flip and data else data
        body += b"%x;chunk-signature=%s\r\n%s\r\n" % (len(data), seed.encode(), sent)
    return body


@pytest.mark.parametrize("flip", [False, True])
def test_each_signed_chunk_is_checked(signed, rest, endpoint, flip):
    content = b"0123456789" * 20_000
    path = f"/{rest.repository}/main/key"
    headers = {
        "x_amz_content_sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x_amz_decoded_content_length": str(len(content)),
        "content_encoding": "aws-chunked",
    }
    signed.send("PUT", path, b"", **headers)
    body = signed_chunks(signed, content, flip)
    answer = httpx.put(signed.url + path, headers=signed.headers, content=body)
    if flip:
        assert answer.status_code == (500 if endpoint.is_real else 403)
        assert rest.content("main", "key") != content
    else:
        assert answer.status_code == 200, answer.text
        assert rest.content("main", "key") == content


def test_content_md5_is_checked(s3, rest, endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS does not look at Content-MD5")
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    named = {"Bucket": rest.repository, "Key": "main/key", "Body": b"x", "ContentMD5": wrong}
    assert refused(s3.put_object, **named) == (400, "BadDigest")
    named["ContentMD5"] = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    s3.put_object(**named)
