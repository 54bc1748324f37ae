"""Objects over the REST API."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

AWKWARD = [
    "plain",
    "with space",
    "percent%20sign",
    "plus+sign",
    "question?mark",
    "hash#mark",
    "ampersand&equals=",
    "trailing/",
    "//double//slash",
    "../up",
    "quote'\"<>",
    "üñïçødé/日本/🦆",
    "new\nline",
    "_delta_log/00000000000000000000.json",
]


def message(answer):
    return answer.status_code, answer.json()["message"]


@pytest.mark.parametrize("path", AWKWARD)
def test_any_path_round_trips(rest, path):
    rest.put("main", path, b"content")
    head = rest.commit("main")
    assert rest.content("main", path) == rest.content(head, path) == b"content"
    assert rest.paths("main") == [path]
    assert rest.get("/refs/main/objects/stat", path=path).json()["path"] == path
    gone = rest.call("DELETE", "/branches/main/objects", params={"path": path})
    assert gone.status_code == 204
    assert rest.paths("main") == []


def test_a_path_has_a_longest_length(rest):
    rest.put("main", "a" * 1024)
    assert rest.upload("main", "a" * 1025).status_code == 400


def test_an_object_is_described_as_it_was_uploaded(rest):
    headers = {"Content-Type": "text/csv", "X-Lakefs-Meta-Origin": "sensor 7"}
    made = rest.upload("main", "data.csv", b"a,b\n", **headers)
    assert made.status_code == 201
    stat = rest.get("/refs/main/objects/stat", path="data.csv").json()
    assert stat == made.json()
    assert stat["checksum"] == hashlib.md5(b"a,b\n").hexdigest()
    assert (stat["size_bytes"], stat["content_type"]) == (4, "text/csv")
    assert stat["metadata"] == {"origin": "sensor 7"}
    listed = rest.get("/refs/main/objects/ls").json()["results"]
    assert listed == [stat]
    without = rest.get("/refs/main/objects/ls", user_metadata="false").json()["results"]
    assert "metadata" not in without[0]


def test_a_form_upload_takes_the_content_part(rest, http):
    url = f"/repositories/{rest.repository}/branches/main/objects"
    files = {"note": ("n", b"ignored"), "content": ("f", b"--real\r\n--content", "text/plain")}
    made = http.post(url, params={"path": "form"}, files=files)
    assert made.status_code == 201
    assert made.json()["content_type"] == "text/plain"
    assert rest.content("main", "form") == b"--real\r\n--content"


@pytest.mark.parametrize(
    ("asked", "told", "content"),
    [
        ("bytes=0-3", "bytes 0-3/10", b"0123"),
        ("bytes=4-", "bytes 4-9/10", b"456789"),
        ("bytes=-3", "bytes 7-9/10", b"789"),
        ("bytes=8-99", "bytes 8-9/10", b"89"),
        ("bytes=-99", "bytes 0-9/10", b"0123456789"),
    ],
)
def test_a_range_of_an_object_is_served(rest, asked, told, content):
    rest.put("main", "key", b"0123456789")
    for method in ("GET", "HEAD"):
        answer = rest.call(
            method, "/refs/main/objects", params={"path": "key"}, headers={"Range": asked}
        )
        assert answer.status_code == 206
        assert answer.headers["content-range"] == told
        assert answer.headers["content-length"] == str(len(content))
        assert answer.content == (content if method == "GET" else b"")


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=a-b", "bytes 1-2"])
def test_a_header_that_is_no_byte_range_is_refused(rest, asked):
    rest.put("main", "key", b"0123456789")
    answer = rest.call(
        "GET", "/refs/main/objects", params={"path": "key"}, headers={"Range": asked}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=5-4", "bytes=-0"])
def test_a_range_outside_the_object_is_refused(rest, asked):
    rest.put("main", "key", b"0123456789")
    answer = rest.call(
        "GET", "/refs/main/objects", params={"path": "key"}, headers={"Range": asked}
    )
    assert message(answer) == (416, "Requested Range Not Satisfiable")


def test_an_empty_object_is_an_object(rest):
    rest.put("main", "empty", b"")
    assert rest.content("main", "empty") == b""
    assert rest.get("/refs/main/objects/stat", path="empty").json()["size_bytes"] == 0


def test_head_answers_without_a_body(rest):
    rest.put("main", "key", b"0123456789")
    there = rest.call("HEAD", "/refs/main/objects", params={"path": "key"})
    assert (there.status_code, there.headers["content-length"]) == (200, "10")
    assert there.headers["etag"] == f'"{hashlib.md5(b"0123456789").hexdigest()}"'
    assert rest.call("HEAD", "/refs/main/objects", params={"path": "no"}).status_code == 404


def test_an_etag_that_the_client_has_saves_the_download(rest):
    rest.put("main", "key")
    etag = rest.get("/refs/main/objects", path="key").headers["etag"]
    again = rest.call(
        "GET", "/refs/main/objects", params={"path": "key"}, headers={"If-None-Match": etag}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_what_is_not_there_is_not_found(rest):
    assert message(rest.get("/refs/main/objects", path="no")) == (404, "not found")
    assert message(rest.get("/refs/main/objects/stat", path="no")) == (404, "not found")
    assert message(rest.upload("nope", "key")) == (404, "branch 'nope' not found")
    gone = rest.call("DELETE", "/branches/main/objects", params={"path": "no"})
    assert gone.status_code == 204


def test_put_if_absent_is_refused_where_something_is(rest):
    absent = {"If-None-Match": "*"}
    assert rest.upload("main", "key", b"one", **absent).status_code == 201
    taken = rest.upload("main", "key", b"two", **absent)
    assert message(taken) == (412, "path already exists")
    rest.commit("main")
    assert rest.upload("main", "key", b"two", **absent).status_code == 412
    rest.call("DELETE", "/branches/main/objects", params={"path": "key"})
    assert rest.upload("main", "key", b"three", **absent).status_code == 201
    assert rest.content("main", "key") == b"three"


def test_put_if_absent_has_one_winner(rest):
    def put(number):
        return rest.upload("main", "key", b"%d" % number, **{"If-None-Match": "*"}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(put, range(8)))
    assert statuses == [201, *[412] * 7]


def test_listings_are_in_byte_order(rest):
    paths = ["B", "a", "a!", "a/b", "a0", "é", "z", "豆", "🦆", "\uffee"]
    for path in paths:
        rest.put("main", path)
    expected = sorted(paths, key=str.encode)
    assert rest.paths("main") == expected
    rest.commit("main")
    assert rest.paths("main@") == expected


def test_a_listing_folds_and_pages(rest):
    for path in ("a/1", "a/2", "b", "c/d/1", "c/d/2", "e"):
        rest.put("main", path)
    rest.commit("main")
    rest.put("main", "c/e")
    rest.call("DELETE", "/branches/main/objects", params={"path": "b"})
    assert rest.paths("main", delimiter="/") == ["a/", "c/", "e"]
    assert rest.paths("main", delimiter="/", prefix="c/") == ["c/d/", "c/e"]
    assert rest.paths("main", delimiter="/", after="a/") == ["c/", "e"]
    assert rest.paths("main", prefix="c") == ["c/d/1", "c/d/2", "c/e"]
    assert rest.paths("main", after="a/1", amount=2) == ["a/2", "c/d/1"]
    page = rest.get("/refs/main/objects/ls", amount=2, delimiter="/").json()["pagination"]
    assert (page["has_more"], page["next_offset"]) == (True, "c/")


def test_pages_join_up_without_loss(rest):
    expected = [f"k{number:03}" for number in range(57)]
    rest.branch("work")
    for path in expected[::2]:
        rest.put("work", path)
    rest.commit("work")
    for path in expected[1::2]:
        rest.put("work", path)
    found, after, more = [], "", True
    while more:
        page = rest.get("/refs/work/objects/ls", amount=10, after=after).json()
        found += [item["path"] for item in page["results"]]
        after, more = page["pagination"]["next_offset"], page["pagination"]["has_more"]
    assert found == expected


def test_several_objects_are_deleted_at_once(rest):
    for path in ("a", "b", "c"):
        rest.put("main", path)
    done = rest.post("/branches/main/objects/delete", {"paths": ["a", "c", "not-there"]})
    assert (done.status_code, done.json()) == (200, {"errors": []})
    assert rest.paths("main") == ["b"]


def test_more_than_a_thousand_deletions_are_refused(rest):
    done = rest.post("/branches/main/objects/delete", {"paths": ["p"] * 1001})
    assert done.status_code == 400


def test_a_copy_keeps_content_and_metadata(rest):
    rest.put("main", "from", b"content", **{"X-Lakefs-Meta-K": "v", "Content-Type": "text/x"})
    head = rest.commit("main")
    rest.branch("work")
    made = rest.call(
        "POST",
        "/branches/work/objects/copy",
        params={"dest_path": "to"},
        json={"src_path": "from", "src_ref": head},
    )
    assert made.status_code == 201
    assert rest.content("work", "to") == b"content"
    stat = rest.get("/refs/work/objects/stat", path="to").json()
    assert (stat["metadata"], stat["content_type"]) == ({"k": "v"}, "text/x")


def test_a_large_object_survives_whole(rest):
    content = hashlib.shake_128(b"seed").digest(5 << 20) + b"end"
    rest.put("main", "large", content)
    answer = rest.get("/refs/main/objects", path="large")
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(content).digest()


def test_what_is_not_supported_says_so(rest, endpoint):
    if endpoint.is_real:
        pytest.skip("lakeFS supports it")
    answer = rest.get("/actions/runs")
    assert answer.status_code == 501
    assert "does not support" in answer.json()["message"]
    hook = rest.upload("main", "_lakefs_actions/check.yaml", b"name: check")
    assert hook.status_code == 501
    assert "runs no hooks" in hook.json()["message"]


def test_a_header_is_checked_before_the_object_is_looked_for(rest):
    headers = {"Range": "bytes=a-b"}
    for method in ("GET", "HEAD"):
        answer = rest.call(method, "/refs/main/objects", params={"path": "no"}, headers=headers)
        assert answer.status_code == 400


@pytest.mark.parametrize("params", [{}, {"path": ""}])
def test_a_path_must_be_given(rest, params):
    for method in ("GET", "HEAD"):
        answer = rest.call(method, "/refs/main/objects", params=params)
        assert answer.status_code == 400
    assert rest.call("DELETE", "/branches/main/objects", params=params).status_code == 400


def test_a_copy_goes_to_a_branch_that_is_there(rest):
    rest.put("main", "key")
    body = {"src_path": "key", "src_ref": "main"}
    done = rest.call("POST", "/branches/nope/objects/copy", params={"dest_path": "to"}, json=body)
    assert message(done) == (404, "branch 'nope' not found")
    nowhere = rest.call("POST", "/branches/main/objects/copy", json=body)
    assert nowhere.status_code == 400


def test_deleting_from_a_missing_branch_deletes_nothing(rest):
    done = rest.post("/branches/nope/objects/delete", {"paths": ["key"]})
    assert (done.status_code, done.json()) == (200, {"errors": []})
