"""Repositories, branches, tags and what a ref expression stands for."""

import secrets

import pytest


def message(answer):
    return answer.status_code, answer.json()["message"]


def test_a_repository_cannot_be_made_twice(http, repository):
    body = {"name": repository, "storage_namespace": f"local://{repository}-two"}
    again = http.post("/repositories", json=body)
    assert message(again) == (409, "error creating repository: not unique")


def test_two_repositories_cannot_share_a_namespace(http, repository):
    body = {"name": f"{repository}-two", "storage_namespace": f"local://{repository}"}
    status, text = message(http.post("/repositories", json=body))
    assert status == 400
    assert "storage namespace already in use" in text


@pytest.mark.parametrize("name", ["UPPER", "ab", "under_score", "-dash", "a" * 64, ""])
def test_a_repository_name_must_follow_the_rule(http, name):
    body = {"name": name, "storage_namespace": f"local://{secrets.token_hex(6)}"}
    assert http.post("/repositories", json=body).status_code == 400


def test_a_namespace_of_another_store_is_refused(http):
    name = f"contract-{secrets.token_hex(6)}"
    made = http.post("/repositories", json={"name": name, "storage_namespace": f"s3://{name}"})
    assert message(made) == (400, "failed to match required regex ^local://: invalid namespace")


def test_a_repository_is_listed_read_and_deleted(http, repository, eventually):
    listed = http.get("/repositories", params={"prefix": repository}).json()["results"]
    assert [found["id"] for found in listed] == [repository]
    read = http.get(f"/repositories/{repository}").json()
    assert read == listed[0]
    assert (read["default_branch"], read["storage_namespace"]) == ("main", f"local://{repository}")
    assert http.delete(f"/repositories/{repository}").status_code == 204
    eventually(lambda: http.get(f"/repositories/{repository}").status_code == 404)
    gone = http.get(f"/repositories/{repository}")
    assert message(gone) == (404, "repository not found")
    assert http.delete(f"/repositories/{repository}").status_code == 404


def test_repositories_are_paged(http, new_repository):
    names = sorted(new_repository() for _ in range(3))
    listed = http.get("/repositories", params={"after": names[0], "amount": 1}).json()
    assert listed["results"][0]["id"] > names[0]
    assert listed["pagination"]["results"] == 1
    assert listed["pagination"]["max_per_page"] == 1000


def test_wrong_credentials_are_refused(http, repository):
    answer = http.get(f"/repositories/{repository}", auth=("AKIAWRONG", "wrong"))
    assert message(answer) == (401, "error authenticating request")
    without = http.get(f"/repositories/{repository}", auth=lambda request: request)
    assert message(without) == (401, "error authenticating request")


def test_a_login_token_works_like_the_key(http, endpoint, repository):
    key = {"access_key_id": endpoint.key_id, "secret_access_key": endpoint.secret}
    token = http.post("/auth/login", json=key).json()["token"]

    def bearer(request):
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    assert http.get(f"/repositories/{repository}", auth=bearer).status_code == 200
    wrong = http.post("/auth/login", json={**key, "secret_access_key": "wrong"})
    assert wrong.status_code == 401


def test_a_branch_starts_at_its_source_and_sees_no_uncommitted_data(rest):
    rest.put("main", "committed")
    head = rest.commit("main")
    rest.put("main", "uncommitted")
    assert rest.branch("work") == head
    assert rest.paths("work") == ["committed"]
    assert rest.get("/branches/work").json() == {"id": "work", "commit_id": head}


def test_a_branch_cannot_be_made_twice_or_from_nowhere(rest):
    rest.branch("work")
    again = rest.post("/branches", {"name": "work", "source": "main"})
    assert message(again) == (409, "branch already exists: not unique")
    nowhere = rest.post("/branches", {"name": "other", "source": "nope"})
    assert message(nowhere) == (404, "source reference 'nope': not found")


@pytest.mark.parametrize("name", ["a/b", "-dash", "a b", "a.b", "ü"])
def test_a_branch_name_must_follow_the_rule(rest, name):
    made = rest.post("/branches", {"name": name, "source": "main"})
    rule = "must consist of letters, digits, underscores and dashes, and cannot start with a dash"
    assert message(made)[0] == 400
    assert rule in message(made)[1]


def test_a_deleted_branch_that_is_made_again_is_empty(rest):
    rest.branch("work")
    rest.put("work", "staged")
    assert rest.call("DELETE", "/branches/work").status_code == 204
    assert message(rest.get("/branches/work")) == (404, "branch not found")
    rest.branch("work")
    assert rest.paths("work") == []
    assert rest.changes("/branches/work/diff") == []


def test_the_default_branch_cannot_be_deleted(rest):
    refused = rest.call("DELETE", "/branches/main")
    assert message(refused) == (403, "cannot delete repository default branch")


def test_branches_are_listed_by_prefix_in_pages_hidden_ones_on_request(rest):
    for name in ("run-a", "run-b", "run-c", "zed"):
        rest.branch(name)
    rest.branch("run-secret", hidden=True)

    def names(**params):
        return [found["id"] for found in rest.get("/branches", **params).json()["results"]]

    assert names() == ["main", "run-a", "run-b", "run-c", "zed"]
    assert names(prefix="run-") == ["run-a", "run-b", "run-c"]
    assert names(prefix="run-", after="run-a") == ["run-b", "run-c"]
    assert "run-secret" in names(show_hidden="true")
    page = rest.get("/branches", amount=2).json()["pagination"]
    assert page == {"has_more": True, "max_per_page": 1000, "next_offset": "run-a", "results": 2}


@pytest.mark.parametrize(
    ("kind", "path", "left"),
    [
        ("reset", "", []),
        ("common_prefix", "a/", ["b"]),
        ("object", "a/1", ["a/2", "b"]),
    ],
)
def test_uncommitted_changes_are_forgotten_on_request(rest, kind, path, left):
    for key in ("a/1", "a/2", "b"):
        rest.put("main", key)
    done = rest.call("PUT", "/branches/main", json={"type": kind, "path": path})
    assert done.status_code == 204
    assert rest.paths("main") == left


def test_resetting_an_object_brings_the_committed_one_back(rest):
    rest.put("main", "key", b"old")
    rest.commit("main")
    rest.put("main", "key", b"new")
    rest.call("PUT", "/branches/main", json={"type": "object", "path": "key"})
    assert rest.content("main", "key") == b"old"
    assert rest.changes("/branches/main/diff") == []


def test_tags_are_made_listed_read_and_deleted(rest):
    rest.put("main", "key")
    head = rest.commit("main")
    made = rest.post("/tags", {"id": "v1.0", "ref": "main"})
    assert (made.status_code, made.json()) == (201, {"id": "v1.0", "commit_id": head})
    assert message(rest.post("/tags", {"id": "v1.0", "ref": "main"})) == (
        409,
        "tag already exists: not unique",
    )
    assert rest.get("/tags/v1.0").json() == {"id": "v1.0", "commit_id": head}
    assert [tag["id"] for tag in rest.get("/tags").json()["results"]] == ["v1.0"]
    assert rest.paths("v1.0") == ["key"]
    assert rest.call("DELETE", "/tags/v1.0").status_code == 204
    assert message(rest.get("/tags/v1.0")) == (404, "tag not found")


def test_a_tag_and_a_branch_cannot_share_a_name(rest):
    rest.branch("work")
    rest.post("/tags", {"id": "v1", "ref": "main"})
    assert rest.post("/tags", {"id": "work", "ref": "main"}).status_code == 409
    assert rest.post("/branches", {"name": "v1", "source": "main"}).status_code == 409


@pytest.mark.parametrize(
    "name", ["a..b", "a/b", "@", "x.lock", "dot.", "sp ace", "ca^ret", "co:on"]
)
def test_a_tag_name_must_follow_the_rule(rest, name):
    made = rest.post("/tags", {"id": name, "ref": "main"})
    assert message(made) == (400, "argument tagID: tag id: invalid value: validation error")


def test_ref_expressions_walk_the_graph(rest):
    first = rest.get("/branches/main").json()["commit_id"]
    rest.put("main", "one")
    second = rest.commit("main")
    rest.branch("side", "main~1")
    rest.put("side", "two")
    side = rest.commit("side")
    merged = rest.merge("side", "main").json()["reference"]
    rest.post("/tags", {"id": "v1", "ref": "main"})

    def at(expression):
        return rest.get(f"/commits/{expression}").json()["id"]

    assert at("main") == at("main@") == at("v1") == at(merged) == at(merged[:12]) == merged
    assert at("main~") == at("main~1") == at("main^1") == second
    assert at("main^2") == side
    assert at("main~2") == at("main^2~1") == at("main~1^1") == first
    assert at("main^0") == merged


@pytest.mark.parametrize(
    ("ref", "status"),
    [
        ("nope", 404),
        ("main~99", 404),
        ("main~1@", 404),
        ("0" * 64, 404),
        ("main^3", 400),
        ("main@1", 400),
        ("main~x", 400),
        ("main@~1", 400),
        ("~1", 400),
    ],
)
def test_a_ref_that_leads_nowhere_is_refused(rest, ref, status):
    assert rest.get(f"/refs/{ref}/objects/ls").status_code == status


def test_a_committed_only_ref_hides_what_is_staged(rest):
    rest.put("main", "committed")
    rest.commit("main")
    rest.put("main", "staged")
    assert rest.paths("main") == ["committed", "staged"]
    assert rest.paths("main@") == ["committed"]


def test_a_protected_branch_takes_merges_only(rest, eventually):
    rest.branch("work")
    path = "/settings/branch_protection"
    assert rest.get(path).json() == []
    assert rest.call("PUT", path, json=[{"pattern": "mai*"}]).status_code == 204
    assert rest.get(path).json() == [{"pattern": "mai*"}]
    eventually(lambda: rest.upload("main", "key").status_code == 403)

    blocked = (403, "cannot write to protected branch")
    assert message(rest.upload("main", "key")) == blocked
    assert message(rest.call("DELETE", "/branches/main/objects?path=key")) == blocked
    assert message(rest.call("PUT", "/branches/main", json={"type": "reset"})) == blocked
    listed = rest.post("/branches/main/objects/delete", {"paths": ["key"]}).json()["errors"]
    assert [(found["status_code"], found["message"]) for found in listed] == [blocked]
    committed = rest.post("/branches/main/commits", {"message": "m", "allow_empty": True})
    assert message(committed) == (403, "cannot commit to protected branch")

    rest.put("work", "key")
    rest.commit("work")
    assert rest.merge("work", "main").status_code == 200
    assert rest.paths("main") == ["key"]


def test_protection_rules_change_only_from_the_version_that_was_read(rest):
    path = "/settings/branch_protection"
    assert rest.get(path).headers["etag"] == ""
    rest.call("PUT", path, json=[{"pattern": "main"}])
    version = rest.get(path).headers["etag"]
    stale = rest.call("PUT", path, json=[], headers={"If-Match": "0" * 64})
    assert message(stale) == (412, "Precondition failed")
    assert rest.call("PUT", path, json=[], headers={"If-Match": version}).status_code == 204
    assert rest.get(path).json() == []


def test_a_hard_reset_needs_a_commit(rest):
    moved = rest.call("PUT", "/branches/main/hard_reset", params={"ref": "nope"})
    assert message(moved) == (404, "hard-reset main to nope: not found")
    assert rest.call("PUT", "/branches/main/hard_reset").status_code == 400


def test_resetting_an_object_of_a_missing_branch_says_so(rest):
    done = rest.call("PUT", "/branches/nope", json={"type": "object", "path": "key"})
    assert message(done) == (404, "getting branch: branch not found")


def test_a_rule_protects_no_branch_without_a_pattern(rest):
    done = rest.call("PUT", "/settings/branch_protection", json=[{"pattern": ""}])
    assert done.status_code == 400
