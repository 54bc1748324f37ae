"""What people note about repositories and objects, and what the API says of itself."""

import pytest


def message(answer):
    return answer.status_code, answer.json()["message"]


def test_a_repository_carries_metadata(rest):
    assert rest.get("/metadata").json() == {}
    assert rest.post("/metadata", {"metadata": {"owner": "ana", "ü": ""}}).status_code == 204
    assert rest.post("/metadata", {"metadata": {"owner": "bo"}}).status_code == 204
    assert rest.get("/metadata").json() == {"owner": "bo", "ü": ""}
    gone = rest.call("DELETE", "/metadata", json={"keys": ["owner", "never there"]})
    assert gone.status_code == 204
    assert rest.get("/metadata").json() == {"ü": ""}


@pytest.mark.parametrize("body", [{}, {"metadata": {"key": 1}}, {"metadata": None}])
def test_metadata_of_a_repository_is_text_by_key(rest, body):
    assert rest.post("/metadata", body).status_code == 400


def test_metadata_of_a_repository_goes_with_it(http, new_repository):
    name = new_repository()
    http.post(f"/repositories/{name}/metadata", json={"metadata": {"key": "old"}})
    assert http.delete(f"/repositories/{name}").status_code == 204
    missing = http.get(f"/repositories/{name}/metadata")
    assert message(missing) == (404, "repository not found")


def annotate(rest, path, metadata):
    url = "/branches/main/objects/stat/user_metadata"
    return rest.call("PUT", url, params={"path": path}, json={"set": metadata})


def test_user_metadata_of_an_object_is_replaced_and_committed(rest):
    rest.put("main", "key", b"content", **{"X-Lakefs-Meta-Old": "1"})
    first = rest.commit("main")
    assert annotate(rest, "key", {"new": "2"}).status_code in (201, 204)
    assert rest.get("/refs/main/objects/stat", path="key").json()["metadata"] == {"new": "2"}
    assert rest.changes("/branches/main/diff") == [("changed", "key")]
    rest.commit("main")
    before = rest.get(f"/refs/{first}/objects/stat", path="key").json()
    assert before["metadata"] == {"old": "1"}
    assert rest.content("main", "key") == b"content"


def test_user_metadata_needs_an_object(rest):
    told = f"update user metadata on {rest.repository}/main/no: not found"
    assert message(annotate(rest, "no", {"k": "v"})) == (404, told)


def test_a_local_store_has_no_storage_class(rest):
    rest.put("main", "key")
    url = "/refs/main/objects/underlyingProperties"
    assert rest.get(url, path="key").json().get("storage_class") is None
    assert rest.get(url, path="no").status_code == 404


def test_a_key_that_may_do_everything_is_told_so(rest):
    upload = rest.get("/branches/main/objects/stage_allowed", path="key")
    protect = rest.get("/branch_protection/set_allowed")
    assert (upload.status_code, protect.status_code) == (204, 204)


def test_the_server_says_which_lakefs_it_is(http):
    version = http.get("/config/version").json()
    assert version["version_context"] == "lakeFS"
    assert http.get("/config").json()["version_config"] == version


@pytest.mark.parametrize("path", ["/nope", "/repositories/r/nope", "/repositories/r/branches/b/x"])
def test_a_path_that_lakefs_has_not_is_not_found(http, path):
    assert message(http.get(path)) == (404, "invalid API endpoint")


def test_an_unknown_storage_id_is_refused(http):
    body = {"name": "some-name", "storage_namespace": "local://x", "storage_id": "other"}
    told = "storage id: invalid value: validation error"
    assert message(http.post("/repositories", json=body)) == (400, told)
