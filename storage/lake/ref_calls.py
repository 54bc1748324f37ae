"""Calls about refs: branches, commits, merges, tags, and what differs between two of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lakefs_client.model.branch_creation import BranchCreation
from lakefs_client.model.commit_creation import CommitCreation
from lakefs_client.model.merge import Merge
from lakefs_client.model.tag_creation import TagCreation

from storage.errors import NotFound
from storage.lake.connection import TIMEOUT_S, Connection


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
class Change:
    """One path that differs between two refs."""

    path: str
    kind: Literal["added", "changed", "removed", "conflict", "prefix_changed"]


class RefCalls(Connection):
    """Branches, commits, merges and tags of a lakeFS."""

    def create_branch(
        self, repository: str, name: str, *, source: str, hidden: bool = False
    ) -> None:
        """Raises Conflict if the branch exists."""
        creation = BranchCreation(name=name, source=source, hidden=hidden)
        with self._translate_errors(f"branch {repository}/{name}"):
            self._api.branches.create_branch(repository, creation, _request_timeout=TIMEOUT_S)

    def delete_branch(self, repository: str, name: str) -> bool:
        """False if it was not there."""
        try:
            with self._translate_errors(f"branch {repository}/{name}"):
                self._api.branches.delete_branch(repository, name, _request_timeout=TIMEOUT_S)
        except NotFound:
            return False
        return True

    def branches(
        self, repository: str, *, prefix: str = "", hidden: bool = False
    ) -> dict[str, str]:
        """Branch name -> head commit."""
        found = self._list_all(
            self._api.branches.list_branches,
            f"branches of {repository}",
            repository,
            prefix=prefix,
            show_hidden=hidden,
        )
        return {b.id: b.commit_id for b in found}

    def head(self, repository: str, branch: str) -> str:
        """The branch's head commit, 64 hex digits."""
        with self._translate_errors(f"branch {repository}/{branch}"):
            return str(
                self._api.branches.get_branch(
                    repository, branch, _request_timeout=TIMEOUT_S
                ).commit_id
            )

    def resolve(self, repository: str, ref: str) -> Commit:
        """The commit that a branch, tag, commit prefix or `~N ^N @` expression names."""
        with self._translate_errors(f"ref {repository}/{ref}"):
            return _commit(
                self._api.commits.get_commit(repository, ref, _request_timeout=TIMEOUT_S)
            )

    def commit(
        self, repository: str, branch: str, *, message: str, metadata: Mapping[str, str]
    ) -> str:
        """Commit what is staged. Raises Refused when nothing is."""
        creation = CommitCreation(message=message, metadata=dict(metadata))
        with self._translate_errors(f"commit to {repository}/{branch}"):
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
        with self._translate_errors(f"merge of {source} into {repository}/{into}"):
            return str(
                self._api.refs.merge_into_branch(
                    repository, source, into, merge=body, _request_timeout=TIMEOUT_S
                ).reference
            )

    def merge_base(self, repository: str, left: str, right: str) -> str:
        """The best common ancestor of two refs."""
        with self._translate_errors(f"merge base of {left} and {right} in {repository}"):
            return str(
                self._api.refs.find_merge_base(
                    repository, right, left, _request_timeout=TIMEOUT_S
                ).base_commit_id
            )

    def log(
        self, repository: str, ref: str, *, limit: int = 100, first_parent: bool = True
    ) -> Iterator[Commit]:
        """Newest first, at most `limit`."""
        found = self._list_all(
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
        found = self._list_all(
            self._api.refs.diff_refs,
            f"diff of {left} and {right} in {repository}",
            repository,
            left,
            right,
            prefix=prefix,
            type="two_dot",
        )
        return [Change(d.path, d.type) for d in found]

    def list_uncommitted(self, repository: str, branch: str) -> list[Change]:
        """What is staged on the branch and not committed."""
        found = self._list_all(
            self._api.branches.diff_branch, f"changes of {repository}/{branch}", repository, branch
        )
        return [Change(d.path, d.type) for d in found]

    def tag(self, repository: str, name: str, *, ref: str) -> None:
        """Raises Conflict if the tag exists."""
        with self._translate_errors(f"tag {repository}/{name}"):
            self._api.tags.create_tag(
                repository, TagCreation(id=name, ref=ref), _request_timeout=TIMEOUT_S
            )

    def tags(self, repository: str) -> dict[str, str]:
        """Tag name -> commit."""
        found = self._list_all(self._api.tags.list_tags, f"tags of {repository}", repository)
        return {t.id: t.commit_id for t in found}

    def delete_tag(self, repository: str, name: str) -> bool:
        """False if it was not there."""
        try:
            with self._translate_errors(f"tag {repository}/{name}"):
                self._api.tags.delete_tag(repository, name, _request_timeout=TIMEOUT_S)
        except NotFound:
            return False
        return True


def _commit(c: Any) -> Commit:
    return Commit(
        id=c.id,
        parents=tuple(c.parents),
        message=c.message,
        metadata=dict(c.get("metadata") or {}),
        created_at=int(c.creation_date),
        committer=c.committer,
    )
