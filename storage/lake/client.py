"""The client of a lakeFS: the calls Headrace makes, with its own errors.

This and its neighbours `connection`, `ref_calls` and `object_calls` are all that speaks to lakeFS:
moving to another client is a change of these four.
"""

from lakefs_client.model.branch_protection_rule import BranchProtectionRule
from lakefs_client.model.repository_creation import RepositoryCreation

from storage.errors import Conflict
from storage.lake.connection import TIMEOUT_S, Access
from storage.lake.object_calls import ObjectCalls
from storage.lake.ref_calls import Change, Commit, RefCalls

__all__ = ["Access", "Change", "Commit", "LakeFS"]


class LakeFS(RefCalls, ObjectCalls):
    """A lakeFS at one endpoint, with one key. Safe to share between threads."""

    def health(self) -> None:
        """Raises Unavailable when nothing answers, Forbidden when the key is not accepted."""
        with self._translate_errors("the lake"):
            self._api.repositories.list_repositories(amount=1, _request_timeout=TIMEOUT_S)

    def create_repository(self, name: str, *, namespace: str) -> bool:
        """Create it with branch `main`; False if it was there already."""
        creation = RepositoryCreation(name=name, storage_namespace=namespace, default_branch="main")
        try:
            with self._translate_errors(f"repository {name}"):
                self._api.repositories.create_repository(creation, _request_timeout=TIMEOUT_S)
        except Conflict:
            return False
        return True

    def repositories(self) -> list[str]:
        """Names of all repositories."""
        return [
            r.id for r in self._list_all(self._api.repositories.list_repositories, "repositories")
        ]

    def protect(self, repository: str, pattern: str) -> None:
        """Refuse direct writes to the branches that match; other rules stay as they are."""
        with self._translate_errors(f"branch protection of {repository}"):
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
