"""The two Python clients, unmodified: lakefs-client (old) and lakefs with lakefs-sdk (new)."""

import io
from typing import Any

import lakefs
import lakefs_client
import pytest
from lakefs.client import Client
from lakefs.exceptions import ConflictException, NotFoundException
from lakefs_client import models
from lakefs_client.client import LakeFSClient


@pytest.fixture
def old(endpoint) -> Any:
    configuration = lakefs_client.Configuration(
        host=f"{endpoint.url}/api/v1", username=endpoint.key_id, password=endpoint.secret
    )
    return LakeFSClient(configuration)


@pytest.fixture
def new(endpoint, repository) -> Any:
    client = Client(host=endpoint.url, username=endpoint.key_id, password=endpoint.secret)
    return lakefs.Repository(repository, client=client)


def test_the_old_client_works_through_a_run(old, repository):
    creation = models.BranchCreation(name="run-1", source="main")
    old.branches_api.create_branch(repository, creation)
    old.objects_api.upload_object(repository, "run-1", "a/key", content=_named(b"content"))
    changes = old.branches_api.diff_branch(repository, "run-1").results
    assert [(change.type, change.path) for change in changes] == [("added", "a/key")]
    commit = old.commits_api.commit(
        repository, "run-1", models.CommitCreation(message="m", metadata={"run": "1"})
    )
    assert commit.metadata == {"run": "1"}
    result = old.refs_api.merge_into_branch(
        repository, "run-1", "main", merge=models.Merge(message="merge")
    )
    log = old.refs_api.log_commits(repository, "main").results
    assert log[0].id == result.reference
    # This client cannot preload what has a Content-Disposition without a filename.
    raw = old.objects_api.get_object(repository, "main", "a/key", _preload_content=False)
    assert raw.data == b"content"
    listed = old.objects_api.list_objects(repository, "main", delimiter="/").results
    assert [(found.path, found.path_type) for found in listed] == [("a/", "common_prefix")]
    stat = old.objects_api.stat_object(repository, "main", "a/key")
    assert (stat.size_bytes, stat.path_type) == (7, "object")
    old.branches_api.delete_branch(repository, "run-1")


def test_the_old_client_reads_errors(old, repository):
    with pytest.raises(lakefs_client.exceptions.NotFoundException):
        old.branches_api.get_branch(repository, "nope")
    with pytest.raises(lakefs_client.ApiException) as caught:
        old.commits_api.commit(repository, "main", models.CommitCreation(message="m"))
    assert (caught.value.status, "no changes" in caught.value.body) == (400, True)


def test_the_old_client_sees_config_user_and_protection(old, repository):
    assert old.config_api.get_config().version_config.version
    assert old.auth_api.get_current_user().user.id == "admin"
    old.repositories_api.set_branch_protection_rules(
        repository, [models.BranchProtectionRule(pattern="main")]
    )
    rules = old.repositories_api.get_branch_protection_rules(repository)
    assert [rule.pattern for rule in rules] == ["main"]


def test_the_new_client_works_through_a_run(new):
    work = new.branch("work").create("main")
    with work.object("a/key").writer("wb", metadata={"k": "v"}) as writer:
        writer.write(b"content")
    commit = work.commit("m", metadata={"run": "1"})
    reference = work.merge_into(new.branch("main"))
    main = new.branch("main")
    assert main.head.id == reference
    assert main.object("a/key").reader("rb").read() == b"content"
    assert main.object("a/key").stat().metadata == {"k": "v"}
    assert [found.path for found in main.objects()] == ["a/key"]
    assert next(main.log(max_amount=2)).id == reference
    assert commit.get_commit().metadata == {"run": "1"}
    tag = new.tag("v1").create(main)
    assert tag.get_commit().id == reference
    assert [found.path for found in new.ref("main~1").diff("main")] == ["a/key"]


def test_the_new_client_commits_in_a_transaction(new):
    with new.branch("main").transact(commit_message="both") as transaction:
        for key in ("one", "two"):
            transaction.object(key).upload(key.encode())
    assert [found.path for found in new.branch("main").objects()] == ["one", "two"]


def test_the_new_client_reads_errors(new):
    with pytest.raises(NotFoundException):
        new.branch("nope").get_commit()
    new.branch("work").create("main")
    with pytest.raises(ConflictException):
        new.branch("work").create("main")


def _named(content: bytes) -> io.BytesIO:
    stream = io.BytesIO(content)
    stream.name = "content"
    return stream
