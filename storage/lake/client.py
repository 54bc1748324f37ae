"""The one module that speaks to lakeFS; moving to another client is a change of this file only.

Every vendor error is translated here, with what was asked for in the text. Timeouts raise
Unavailable: whether the call took effect is then unknown, and the caller must look.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lakefs_client
import urllib3
from lakefs_client.client import LakeFSClient
from lakefs_client.exceptions import ApiException
from lakefs_client.model.branch_creation import BranchCreation
from lakefs_client.model.branch_protection_rule import BranchProtectionRule
from lakefs_client.model.commit_creation import CommitCreation
from lakefs_client.model.merge import Merge
from lakefs_client.model.object_copy_creation import ObjectCopyCreation
from lakefs_client.model.repository_creation import RepositoryCreation
from lakefs_client.model.tag_creation import TagCreation

from storage.errors import Conflict, Forbidden, NotFound, Refused, StorageError, Unavailable

TIMEOUT_S = (5, 60)
PAGE = 1000
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Access:
    """Where a lakeFS answers, and with which key."""

    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Commit:
    """One lakeFS commit; `created_at` is in Unix seconds."""

    id: str
    parents: tuple[str, ...]
    message: str
    metadata: Mapping[str, str]
    created_at: int
    committer: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as listed; `checksum` is the ETag, `size` in bytes.

    `address` is where the bytes lie below lakeFS: objects that share it share them.
    """

    path: str
    size: int
    checksum: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two refs."""

    path: str
    kind: Literal["added", "changed", "removed", "conflict", "prefix_changed"]


class LakeFS:
    """The calls Headrace makes, with its own errors. Safe to share between threads."""

    def __init__(self, access: Access) -> None:
        self.access = access
        configuration = lakefs_client.Configuration(
            host=access.endpoint.rstrip("/"),
            username=access.access_key_id,
            password=access.secret_access_key,
        )
        # A request that may have been applied is never sent twice by the transport.
        configuration.retries = urllib3.Retry(connect=2, read=0, redirect=0, status=0, other=0)
        self._api = LakeFSClient(configuration)

    def health(self) -> None:
        """Raises Unavailable when nothing answers, Forbidden when the key is not accepted."""
        with self._errors("the lake"):
            self._api.repositories.list_repositories(amount=1, _request_timeout=TIMEOUT_S)

    def create_repository(self, name: str, *, namespace: str) -> bool:
        """Create it with branch `main`; False if it was there already."""
        creation = RepositoryCreation(name=name, storage_namespace=namespace, default_branch="main")
        try:
            with self._errors(f"repository {name}"):
                self._api.repositories.create_repository(creation, _request_timeout=TIMEOUT_S)
        except Conflict:
            return False
        return True

    def repositories(self) -> list[str]:
        """Names of all repositories."""
        return [r.id for r in self._pages(self._api.repositories.list_repositories, "repositories")]

    def protect(self, repository: str, pattern: str) -> None:
        """Refuse direct writes to the branches that match; other rules stay as they are."""
        with self._errors(f"branch protection of {repository}"):
            standing = self._api.repositories.get_branch_protection_rules(
                repository, _request_timeout=TIMEOUT_S
            )
            patterns = [rule.pattern for rule in standing]
            if pattern in patterns:
                return
            rules = [BranchProtectionRule(pattern=p) for p in (*patterns, pattern)]
            self._api.repositories.set_branch_protection_rules(
                repository, rules, _request_timeout=TIMEOUT_S
            )

    def create_branch(
        self, repository: str, name: str, *, source: str, hidden: bool = False
    ) -> None:
        """Raises Conflict if the branch exists."""
        creation = BranchCreation(name=name, source=source, hidden=hidden)
        with self._errors(f"branch {repository}/{name}"):
            self._api.branches.create_branch(repository, creation, _request_timeout=TIMEOUT_S)

    def delete_branch(self, repository: str, name: str) -> bool:
        """False if it was not there."""
        try:
            with self._errors(f"branch {repository}/{name}"):
                self._api.branches.delete_branch(repository, name, _request_timeout=TIMEOUT_S)
        except NotFound:
            return False
        return True

    def branches(
        self, repository: str, *, prefix: str = "", hidden: bool = False
    ) -> dict[str, str]:
        """Branch name -> head commit."""
        found = self._pages(
            self._api.branches.list_branches,
            f"branches of {repository}",
            repository,
            prefix=prefix,
            show_hidden=hidden,
        )
        return {b.id: b.commit_id for b in found}

    def head(self, repository: str, branch: str) -> str:
        """The branch's head commit, 64 hex digits."""
        with self._errors(f"branch {repository}/{branch}"):
            return str(
                self._api.branches.get_branch(
                    repository, branch, _request_timeout=TIMEOUT_S
                ).commit_id
            )

    def resolve(self, repository: str, ref: str) -> Commit:
        """The commit that a branch, tag, commit prefix or `~N ^N @` expression names."""
        with self._errors(f"ref {repository}/{ref}"):
            return _commit(
                self._api.commits.get_commit(repository, ref, _request_timeout=TIMEOUT_S)
            )

    def commit(
        self, repository: str, branch: str, *, message: str, metadata: Mapping[str, str]
    ) -> str:
        """Commit what is staged. Raises Refused when nothing is."""
        creation = CommitCreation(message=message, metadata=dict(metadata))
        with self._errors(f"commit to {repository}/{branch}"):
            return str(
                self._api.commits.commit(
                    repository, branch, creation, _request_timeout=TIMEOUT_S
                ).id
            )

    def merge(
        self,
        repository: str,
        source: str,
        *,
        into: str,
        message: str,
        metadata: Mapping[str, str],
    ) -> str:
        """Merge without a strategy: a path changed on both sides raises Conflict."""
        body = Merge(message=message, metadata=dict(metadata))
        with self._errors(f"merge of {source} into {repository}/{into}"):
            return str(
                self._api.refs.merge_into_branch(
                    repository, source, into, merge=body, _request_timeout=TIMEOUT_S
                ).reference
            )

    def merge_base(self, repository: str, left: str, right: str) -> str:
        """The best common ancestor of two refs."""
        with self._errors(f"merge base of {left} and {right} in {repository}"):
            return str(
                self._api.refs.find_merge_base(
                    repository, right, left, _request_timeout=TIMEOUT_S
                ).base_commit_id
            )

    def log(
        self, repository: str, ref: str, *, limit: int = 100, first_parent: bool = True
    ) -> Iterator[Commit]:
        """Newest first, at most `limit`."""
        found = self._pages(
            self._api.refs.log_commits,
            f"log of {repository}/{ref}",
            repository,
            ref,
            first_parent=first_parent,
            most=limit,
        )
        return (_commit(c) for c in found)

    def diff(self, repository: str, left: str, right: str, *, prefix: str = "") -> list[Change]:
        """Paths that differ from `left` to `right` (two dots)."""
        found = self._pages(
            self._api.refs.diff_refs,
            f"diff of {left} and {right} in {repository}",
            repository,
            left,
            right,
            prefix=prefix,
            type="two_dot",
        )
        return [Change(d.path, d.type) for d in found]

    def uncommitted(self, repository: str, branch: str) -> list[Change]:
        """What is staged on the branch and not committed."""
        found = self._pages(
            self._api.branches.diff_branch, f"changes of {repository}/{branch}", repository, branch
        )
        return [Change(d.path, d.type) for d in found]

    def tag(self, repository: str, name: str, *, ref: str) -> None:
        """Raises Conflict if the tag exists."""
        with self._errors(f"tag {repository}/{name}"):
            self._api.tags.create_tag(
                repository, TagCreation(id=name, ref=ref), _request_timeout=TIMEOUT_S
            )

    def tags(self, repository: str) -> dict[str, str]:
        """Tag name -> commit."""
        found = self._pages(self._api.tags.list_tags, f"tags of {repository}", repository)
        return {t.id: t.commit_id for t in found}

    def delete_tag(self, repository: str, name: str) -> bool:
        """False if it was not there."""
        try:
            with self._errors(f"tag {repository}/{name}"):
                self._api.tags.delete_tag(repository, name, _request_timeout=TIMEOUT_S)
        except NotFound:
            return False
        return True

    def put(
        self, repository: str, branch: str, path: str, data: bytes, *, if_absent: bool = False
    ) -> None:
        """Write one object. Raises Conflict if `if_absent` and it exists."""
        content = io.BytesIO(data)
        content.name = path.rsplit("/", 1)[-1]
        condition = {"if_none_match": "*"} if if_absent else {}
        with self._errors(f"object {repository}/{branch}/{path}"):
            self._api.objects.upload_object(
                repository, branch, path, content=content, _request_timeout=TIMEOUT_S, **condition
            )

    def delete(self, repository: str, branch: str, path: str) -> None:
        """Stage the removal of one object; one that is not there is no error."""
        with suppress(NotFound), self._errors(f"object {repository}/{branch}/{path}"):
            self._api.objects.delete_object(repository, branch, path, _request_timeout=TIMEOUT_S)

    def get(self, repository: str, ref: str, path: str) -> bytes:
        """The object's bytes, whole."""
        with self._errors(f"object {repository}/{ref}/{path}"):
            response = self._api.objects.get_object(
                repository, ref, path, _preload_content=False, _request_timeout=TIMEOUT_S
            )
            try:
                return bytes(response.data)
            finally:
                response.release_conn()

    def download(self, repository: str, ref: str, path: str, target: Path) -> None:
        """Write the object's bytes to a new file, in bounded memory."""
        with self._errors(f"object {repository}/{ref}/{path}"), target.open("xb") as file:
            response = self._api.objects.get_object(
                repository, ref, path, _preload_content=False, _request_timeout=TIMEOUT_S
            )
            try:
                file.writelines(response.stream(CHUNK_BYTES))
            finally:
                response.release_conn()

    def exists(self, repository: str, ref: str, path: str) -> bool:
        """Whether the object is there at the ref."""
        try:
            with self._errors(f"object {repository}/{ref}/{path}"):
                self._api.objects.stat_object(repository, ref, path, _request_timeout=TIMEOUT_S)
        except NotFound:
            return False
        return True

    def address(self, repository: str, ref: str, path: str) -> str:
        """Where the object's bytes lie below lakeFS, whether or not they still do."""
        with self._errors(f"object {repository}/{ref}/{path}"):
            found = self._api.objects.stat_object(repository, ref, path, _request_timeout=TIMEOUT_S)
        return str(found.physical_address)

    def readable(self, repository: str, ref: str, path: str) -> bool:
        """Whether the object's bytes are there; false for none, and for bytes that are gone."""
        try:
            with self._errors(f"object {repository}/{ref}/{path}"):
                response = self._api.objects.get_object(
                    repository,
                    ref,
                    path,
                    range="bytes=0-0",
                    _preload_content=False,
                    _request_timeout=TIMEOUT_S,
                )
                try:
                    return len(response.data) > 0
                finally:
                    response.release_conn()
        except NotFound:
            return False

    def objects(self, repository: str, ref: str, *, prefix: str = "") -> list[Entry]:
        """Every object below the prefix, in byte order of the path."""
        found = self._pages(
            self._api.objects.list_objects,
            f"objects {repository}/{ref}/{prefix}",
            repository,
            ref,
            prefix=prefix,
        )
        return [
            Entry(o.path, int(o.get("size_bytes", 0)), o.checksum, o.physical_address)
            for o in found
        ]

    def folders(self, repository: str, ref: str, *, prefix: str) -> list[str]:
        """Names one level below `prefix` (which ends in a slash) that have objects in them."""
        found = self._pages(
            self._api.objects.list_objects,
            f"objects {repository}/{ref}/{prefix}",
            repository,
            ref,
            prefix=prefix,
            delimiter="/",
        )
        return [o.path[len(prefix) :].rstrip("/") for o in found if o.path_type == "common_prefix"]

    def copy(self, repository: str, path: str, *, source_ref: str, branch: str) -> None:
        """Stage on `branch` the object that stood at `source_ref`; no bytes are read."""
        creation = ObjectCopyCreation(src_path=path, src_ref=source_ref)
        with self._errors(f"copy of {repository}/{source_ref}/{path}"):
            self._api.objects.copy_object(
                repository, branch, path, creation, _request_timeout=TIMEOUT_S
            )

    def _pages(
        self, call: Any, what: str, *args: str, most: int | None = None, **options: Any
    ) -> Iterator[Any]:
        after, left = "", most
        while left is None or left > 0:
            amount = PAGE if left is None else min(PAGE, left)
            with self._errors(what):
                page = call(
                    *args, after=after, amount=amount, _request_timeout=TIMEOUT_S, **options
                )
            yield from page.results
            left = None if left is None else left - len(page.results)
            if not page.pagination.has_more:
                return
            after = page.pagination.next_offset

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            raise _translated(error, what, self.access) from error
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(
                f"No answer from lakeFS at {self.access.endpoint} ({what}).",
                remedy="Start it with `headrace up`, or correct LAKEFS_ENDPOINT.",
            ) from error


def _translated(error: ApiException, what: str, access: Access) -> StorageError:
    status, said = error.status or 0, _message(error)
    text = f"{what}: {said} (lakeFS answered {status})"
    if status == 401 and "insufficient permissions" in said:
        return Forbidden(
            f"The access key {access.access_key_id} may not do this ({what}).",
            remedy="Use a key with a grant for it: `headrace lake keys create`.",
        )
    if status == 401:
        return Forbidden(
            f"lakeFS at {access.endpoint} does not accept the access key "
            f"{access.access_key_id} ({what}).",
            remedy="Correct LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY.",
        )
    kinds: dict[int, type[StorageError]] = {
        403: Forbidden,
        404: NotFound,
        # The commit has the object, and its bytes were purged.
        410: NotFound,
        409: Conflict,
        412: Conflict,
        423: Conflict,
        429: Unavailable,
    }
    # lakeFS reports a branch that moved under a merge or commit as 400 or 423 in some versions.
    kind = kinds.get(status, Unavailable if status >= 500 and status != 501 else Refused)
    return kind(text, remedy=_REMEDIES.get(kind, ""))


_REMEDIES: dict[type[StorageError], str] = {
    Forbidden: "Use a key that may do this, or write through a run branch.",
    NotFound: "`headrace data branch` and `headrace data ls` print what there is.",
    Conflict: "Look at what stands there now, and repeat if it is still right.",
    Unavailable: "Try again; the lake's own log says what held it up.",
}


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def _commit(c: Any) -> Commit:
    return Commit(
        id=c.id,
        parents=tuple(c.parents),
        message=c.message,
        metadata=dict(c.get("metadata") or {}),
        created_at=int(c.creation_date),
        committer=c.committer,
    )
