"""Listings, copies and uploads in parts: what clients page through and put together."""

import secrets
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

KEYS = ["a", "b/1", "b/2", "c d/1", "e"]


def refused(call: Any, **named: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**named)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


@pytest.fixture
def filled(rest):
    for key in KEYS:
        rest.put("main", key)
    return rest


def told(page: dict[str, Any]) -> list[str]:
    folders = [found["Prefix"] for found in page.get("CommonPrefixes", [])]
    return sorted([found["Key"] for found in page.get("Contents", [])] + folders)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_pages_together_are_the_whole(s3, filled, version, size):
    pages = s3.get_paginator(version).paginate(
        Bucket=filled.repository, Prefix="main/", PaginationConfig={"PageSize": size}
    )
    assert [key for page in pages for key in told(page)] == [f"main/{key}" for key in KEYS]


@pytest.mark.parametrize("version", ["list_objects", "list_objects_v2"])
def test_folders_are_folded(s3, filled, version):
    named = {"Bucket": filled.repository, "Prefix": "main/", "Delimiter": "/"}
    pages = s3.get_paginator(version).paginate(**named, PaginationConfig={"PageSize": 2})
    found = [key for page in pages for key in told(page)]
    assert found == ["main/a", "main/b/", "main/c d/", "main/e"]


def test_a_listing_starts_after_what_it_is_told(s3, filled):
    named = {"Bucket": filled.repository, "Prefix": "main/"}
    assert told(s3.list_objects_v2(StartAfter="main/b/1", **named)) == [
        "main/b/2",
        "main/c d/1",
        "main/e",
    ]
    assert told(s3.list_objects(Marker="main/b/2", **named)) == ["main/c d/1", "main/e"]
    assert refused(s3.list_objects_v2, StartAfter="other/b", **named) == (400, "BadRequest")


def test_max_keys_out_of_shape_is_the_default(signed, filled):
    for text in ("x", "1000"):
        query = f"?list-type=2&max-keys={text}&prefix=main%2F"
        answer = signed.send("GET", f"/{filled.repository}", query=query)
        assert (answer.status_code, answer.text.count("<Contents>")) == (200, len(KEYS))


def test_a_bucket_says_where_it_is_and_that_it_has_no_versions(s3, repository):
    assert s3.get_bucket_location(Bucket=repository)["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket=repository)
    unsupported = (405, "ERRLakeFSNotSupported")
    assert refused(s3.get_bucket_acl, Bucket=repository) == unsupported
    assert refused(s3.get_bucket_policy, Bucket=repository) == unsupported
    assert refused(s3.delete_bucket, Bucket=repository) == unsupported
    assert refused(s3.create_bucket, Bucket=repository) == (409, "BucketAlreadyExists")


def test_an_object_has_no_tags(s3, rest):
    rest.put("main", "key")
    assert s3.get_object_tagging(Bucket=rest.repository, Key="main/key")["TagSet"] == []
    unsupported = (405, "ERRLakeFSNotSupported")
    named = {"Bucket": rest.repository, "Key": "main/key"}
    assert refused(s3.get_object_acl, **named) == unsupported
    tags = {"TagSet": [{"Key": "k", "Value": "v"}]}
    assert refused(s3.put_object_tagging, Tagging=tags, **named) == unsupported


def test_a_copy_reaches_into_another_repository(s3, rest, new_repository):
    other = new_repository()
    s3.put_object(Bucket=other, Key="main/a b+c", Body=b"content")
    named = {"Bucket": rest.repository, "Key": "main/copy"}
    made = s3.copy_object(CopySource={"Bucket": other, "Key": "main/a b+c"}, **named)
    assert made["CopyObjectResult"]["ETag"] == s3.head_object(**named)["ETag"]
    assert rest.content("main", "copy") == b"content"


@pytest.mark.parametrize("source", ["nothing", "repo/main", ""])
def test_a_copy_source_out_of_shape_is_refused(signed, rest, source):
    if not source:
        pytest.skip("an empty header is no copy source to either server")
    path = f"/{rest.repository}/main/key"
    answer = signed.send("PUT", path, x_amz_copy_source=source)
    assert (answer.status_code, "InvalidArgument" in answer.text) == (400, True)


def test_parts_are_copied_from_objects_and_ranges(s3, rest):
    rest.put("main", "from", b"0123456789" * 600_000)
    named = {"Bucket": rest.repository, "Key": "main/big"}
    named["UploadId"] = s3.create_multipart_upload(**named)["UploadId"]
    source = {"Bucket": rest.repository, "Key": "main/from"}
    made = [
        s3.upload_part_copy(PartNumber=1, CopySource=source, **named),
        s3.upload_part_copy(PartNumber=2, CopySource=source, CopySourceRange="bytes=3-12", **named),
    ]
    parts = [
        {"PartNumber": number, "ETag": part["CopyPartResult"]["ETag"]}
        for number, part in enumerate(made, 1)
    ]
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **named)
    assert rest.content("main", "big") == b"0123456789" * 600_000 + b"3456789012"
    nothing = {"Bucket": rest.repository, "Key": "main/no"}
    named["UploadId"] = s3.create_multipart_upload(Bucket=rest.repository, Key="main/big")[
        "UploadId"
    ]
    status, _ = refused(s3.upload_part_copy, PartNumber=1, CopySource=nothing, **named)
    assert status in (400, 404)


def test_uploads_under_way_are_listed(s3, rest, endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS on local disk answers 501")
    keys = ["main/a", "main/b", "main/b"]
    uploads = [
        (key, s3.create_multipart_upload(Bucket=rest.repository, Key=key)["UploadId"])
        for key in keys
    ]
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=rest.repository, PaginationConfig={"PageSize": 2}
    )
    found = [(one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", [])]
    assert found == sorted(uploads)
    for key, upload in uploads:
        s3.abort_multipart_upload(Bucket=rest.repository, Key=key, UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=rest.repository)


def test_parts_out_of_order_are_refused(s3, rest, endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS on local disk joins the parts it has in their order")
    named = {"Bucket": rest.repository, "Key": "main/big"}
    named["UploadId"] = s3.create_multipart_upload(**named)["UploadId"]
    etags = [s3.upload_part(PartNumber=n, Body=b"x", **named)["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": 2, "ETag": etags[1]}, {"PartNumber": 1, "ETag": etags[0]}]
    answer = refused(s3.complete_multipart_upload, MultipartUpload={"Parts": parts}, **named)
    assert answer == (400, "InvalidPartOrder")


def test_a_condition_on_a_read_is_kept(signed, rest, endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS does not look at conditions on reads")
    rest.put("main", "key", b"content")
    path = f"/{rest.repository}/main/key"
    head = signed.send("HEAD", path).headers
    etag, modified = head["etag"], head["last-modified"]

    def status(**headers: str) -> list[int]:
        return [signed.send(method, path, **headers).status_code for method in ("GET", "HEAD")]

    assert status(If_None_Match=etag) == [304, 304]
    assert status(If_None_Match='"other"') == [200, 200]
    assert status(If_Match='"other"') == [412, 412]
    assert status(If_Match=f'"other", {etag}') == [200, 200]
    assert status(If_Modified_Since=modified) == [304, 304]
    assert status(If_Modified_Since="Thu, 01 Jan 2015 00:00:00 GMT") == [200, 200]
    assert status(If_Unmodified_Since="Thu, 01 Jan 2015 00:00:00 GMT") == [412, 412]
    assert status(If_Modified_Since="not a date") == [200, 200]
    assert status(If_None_Match='"other"', If_Modified_Since=modified) == [200, 200]


def test_an_unsigned_request_for_an_object_is_refused(endpoint, rest):
    if endpoint.is_real:
        pytest.skip("lakeFS answers it with its user interface")
    rest.put("main", "key", b"content")
    answer = httpx.get(f"{endpoint.url}/{rest.repository}/main/key")
    assert (answer.status_code, b"content" in answer.content) == (403, False)


def test_an_empty_condition_is_none(s3, repository):
    def unconditional(request, **_):
        request.headers["If-None-Match"] = ""

    s3.meta.events.register("before-send.s3.PutObject", unconditional)
    try:
        for content in (b"one", b"two"):
            s3.put_object(Bucket=repository, Key="main/key", Body=content)
    finally:
        s3.meta.events.unregister("before-send.s3.PutObject", unconditional)
    assert s3.get_object(Bucket=repository, Key="main/key")["Body"].read() == b"two"


def test_a_read_only_repository_says_so(s3, http):
    name = f"readonly-{secrets.token_hex(6)}"
    body = {"name": name, "storage_namespace": f"local://{name}", "read_only": True}
    assert http.post("/repositories", json=body).status_code == 201
    told = refused(s3.put_object, Bucket=name, Key="main/key", Body=b"x")
    assert told == (403, "ErrReadOnlyRepository")
