"""The lake, over HTTP, against a model of it made of dicts.

A hypothesis state machine makes branches, writes, commits, merges, reverts, resets and tags, and
asks for contents, listings, diffs and logs; every answer must be the model's.
"""

import secrets
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

Tree = dict[str, bytes]
PATHS = ["a", "a/1", "a/2", "a/b/1", "b", "b/", "c d", "é/ü", "z"]
BRANCHES = ["main", "one", "two"]
STRATEGIES = [None, None, "source-wins", "dest-wins"]
PREFIXES = ["", "a", "a/", "b", "q"]
paths, branches = st.sampled_from(PATHS), st.sampled_from(BRANCHES)
few = st.integers(0, 3)


@dataclass(frozen=True)
class Commit:
    id: str
    number: int
    parents: tuple["Commit", ...]
    tree: Tree

    def ancestors(self) -> set["Commit"]:
        return {self}.union(*(parent.ancestors() for parent in self.parents))

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass
class Branch:
    head: Commit
    staged: dict[str, bytes | None] = field(default_factory=dict)

    @property
    def seen(self) -> Tree:
        both = {**self.head.tree, **self.staged}
        return {key: value for key, value in both.items() if value is not None}


def changes(left: Tree, right: Tree) -> list[tuple[str, str]]:
    """What lakeFS calls the changes from one to the other."""
    found = []
    for key in sorted({*left, *right}, key=str.encode):
        if left.get(key) != right.get(key):
            kind = "added" if key not in left else "removed" if key not in right else "changed"
            found.append((kind, key))
    return found


def merged(base: Tree, source: Tree, target: Tree, strategy: str | None) -> Tree | None:
    """The three-way merge; None for a conflict."""
    result = dict(target)
    for _, key in changes(base, source):
        ours, theirs = target.get(key), source.get(key)
        conflict = ours not in (base.get(key), theirs)
        if conflict and strategy is None:
            return None
        if not conflict or strategy == "source-wins":
            result.pop(key, None)
            result |= {} if theirs is None else {key: theirs}
    return result


def folded(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    """A listing: keys beyond a delimiter stand behind their common prefix."""
    found: dict[str, None] = {}
    for key in keys:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            found[key if at < 0 else key[: at + 1]] = None
    return list(found)


class Lake(RuleBasedStateMachine):
    """One repository, and what it must hold. `main` keeps an object that nothing touches."""

    def __init__(self, http: Any, *, is_real: bool) -> None:
        super().__init__()
        self.http, self.is_real = http, is_real
        self.commits: list[Commit] = []
        self.branches: dict[str, Branch] = {}
        self.tags: dict[str, Commit] = {}
        self.contents = count()

    def call(self, method: str, path: str, /, **named: Any) -> Any:
        return self.http.request(method, f"/repositories/{self.name}{path}", **named)

    def added(self, commit_id: str, parents: tuple[Commit, ...], tree: Tree) -> Commit:
        made = Commit(commit_id, len(self.commits), parents, tree)
        self.commits.append(made)
        return made

    def commit_of(self, pick: int) -> Commit:
        return self.commits[-1 - pick % len(self.commits)]

    @initialize()
    def an_empty_repository(self) -> None:
        self.name = f"model-{secrets.token_hex(6)}"
        body = {"name": self.name, "storage_namespace": f"local://{self.name}"}
        assert self.http.post("/repositories", json=body).status_code == 201
        first = self.call("GET", "/branches/main").json()["commit_id"]
        self.branches["main"] = Branch(self.added(first, (), {}))
        self.put("main", "seed")
        self.commit("main")
        for name in BRANCHES[1:]:
            self.branch(name, 0)
            self.change(name, "a")

    @rule(name=branches, path=paths)
    def put(self, name: str, path: str) -> None:
        content = f"{next(self.contents)}".encode()
        done = self.upload(name, path, content)
        assert done.status_code == (201 if name in self.branches else 404)
        if name in self.branches:
            self.branches[name].staged[path] = content

    @rule(name=branches, path=paths)
    def put_if_absent(self, name: str, path: str) -> None:
        content = f"{next(self.contents)}".encode()
        done = self.upload(name, path, content, {"If-None-Match": "*"})
        if name not in self.branches:
            assert done.status_code == 404
        elif path in self.branches[name].seen:
            assert done.status_code == 412
        else:
            assert done.status_code == 201
            self.branches[name].staged[path] = content

    def upload(self, name: str, path: str, content: bytes, headers: Any = None) -> Any:
        url = f"/branches/{name}/objects"
        kind = {"Content-Type": "text/plain", **(headers or {})}
        return self.call("POST", url, params={"path": path}, content=content, headers=kind)

    @rule(name=branches, path=paths)
    def delete(self, name: str, path: str) -> None:
        done = self.call("DELETE", f"/branches/{name}/objects", params={"path": path})
        assert done.status_code == (204 if name in self.branches else 404)
        if name in self.branches and path in self.branches[name].seen:
            self.branches[name].staged[path] = None

    # A real lakeFS 1.84 can lose an object whose bytes equal those of a deleted neighbour.
    @precondition(lambda self: not self.is_real)
    @rule(name=branches, path=paths, pick=few, to=paths)
    def copy(self, name: str, path: str, pick: int, to: str) -> None:
        source = self.commit_of(pick)
        body = {"src_path": path, "src_ref": source.id}
        done = self.call(
            "POST", f"/branches/{name}/objects/copy", params={"dest_path": to}, json=body
        )
        there = name in self.branches and path in source.tree
        assert done.status_code == (201 if there else 404)
        if there:
            self.branches[name].staged[to] = source.tree[path]

    @rule(name=branches)
    def commit(self, name: str) -> None:
        done = self.call("POST", f"/branches/{name}/commits", json={"message": "m"})
        if name not in self.branches:
            assert done.status_code == 404
            return
        branch = self.branches[name]
        if branch.seen == branch.head.tree:
            assert done.status_code == 400
            return
        assert done.status_code == 201
        assert done.json()["parents"] == [branch.head.id]
        made = self.added(done.json()["id"], (branch.head,), branch.seen)
        self.branches[name] = Branch(made)

    @rule(name=branches, path=paths)
    def change(self, name: str, path: str) -> None:
        self.put(name, path)
        self.commit(name)

    @rule(name=branches, path=paths)
    def remove(self, name: str, path: str) -> None:
        self.delete(name, path)
        self.commit(name)

    @rule(name=branches, pick=few)
    def branch(self, name: str, pick: int) -> None:
        source = self.commit_of(pick)
        done = self.call("POST", "/branches", json={"name": name, "source": source.id})
        assert done.status_code == (409 if name in self.branches else 201)
        self.branches.setdefault(name, Branch(source))

    @rule(name=branches)
    def delete_branch(self, name: str) -> None:
        done = self.call("DELETE", f"/branches/{name}")
        expected = 403 if name == "main" else 204 if name in self.branches else 404
        assert done.status_code == expected
        if expected == 204:
            del self.branches[name]

    @rule(name=st.sampled_from(["v1", "v2"]), pick=few)
    def tag(self, name: str, pick: int) -> None:
        commit = self.commit_of(pick)
        done = self.call("POST", "/tags", json={"id": name, "ref": commit.id})
        assert done.status_code == (409 if name in self.tags else 201)
        self.tags.setdefault(name, commit)
        assert self.call("GET", f"/tags/{name}").json()["commit_id"] == self.tags[name].id

    @rule(
        source=branches, name=branches, strategy=st.sampled_from(STRATEGIES), squash=st.booleans()
    )
    def merge(self, source: str, name: str, strategy: str | None, squash: bool) -> None:
        body = {"squash_merge": squash, **({"strategy": strategy} if strategy else {})}
        done = self.call("POST", f"/refs/{source}/merge/{name}", json=body)
        if not {source, name} <= set(self.branches):
            assert done.status_code in (400, 404)
            return
        ours, theirs = self.branches[name].head, self.branches[source].head
        base = self.merge_base(theirs, ours)
        result = merged(base.tree, theirs.tree, ours.tree, strategy)
        if self.branches[name].seen != ours.tree or theirs.tree == base.tree:
            assert done.status_code == 400
        elif result is None:
            assert done.status_code == 409
        else:
            assert done.status_code == 200, done.text
            parents = (ours,) if squash else (ours, theirs)
            self.branches[name] = Branch(self.added(done.json()["reference"], parents, result))

    def merge_base(self, one: Commit, other: Commit) -> Commit:
        """The server's, which must be a common ancestor, and the older one of a straight line."""
        answer = self.call("GET", f"/refs/{one.id}/merge/{other.id}").json()["base_commit_id"]
        common = one.ancestors() & other.ancestors()
        (base,) = [commit for commit in common if commit.id == answer]
        assert base in (one, other) or not {one, other} & common
        return base

    @rule(name=branches, pick=few, parent=st.integers(0, 2))
    def revert(self, name: str, pick: int, parent: int) -> None:
        undone = self.commit_of(pick)
        if undone.number < 2:  # it brought the object that nothing touches
            undone = self.commits[-1]
        body = {"ref": undone.id, "parent_number": parent}
        done = self.call("POST", f"/branches/{name}/revert", json=body)
        if name not in self.branches:
            assert done.status_code in (400, 404, 409)
            return
        branch, before = self.branches[name], undone.parents[max(parent - 1, 0) :][:1]
        if len(undone.parents) > 1 and not parent:
            assert done.status_code == 409
        elif parent > len(undone.parents) or branch.seen != branch.head.tree:
            assert done.status_code == 400
        else:
            result = merged(undone.tree, before[0].tree if before else {}, branch.head.tree, None)
            if result is None:
                assert done.status_code == 409
            elif result == branch.head.tree:
                assert done.status_code == 400
            else:
                assert done.status_code == 204, done.text
                head = self.call("GET", f"/branches/{name}").json()["commit_id"]
                self.branches[name] = Branch(self.added(head, (branch.head,), result))

    @rule(name=branches, kind=st.sampled_from(["reset", "common_prefix", "object"]), path=paths)
    def reset(self, name: str, kind: str, path: str) -> None:
        done = self.call("PUT", f"/branches/{name}", json={"type": kind, "path": path})
        assert done.status_code == (204 if name in self.branches else 404)
        if name in self.branches:
            kept = self.branches[name].staged
            for key in list(kept):
                under = kind == "common_prefix" and key.startswith(path)
                if kind == "reset" or under or (kind == "object" and key == path):
                    del kept[key]

    @rule(name=branches, prefix=st.sampled_from(PREFIXES), slash=st.booleans(), amount=few)
    def uncommitted_changes(self, name: str, prefix: str, slash: bool, amount: int) -> None:
        if name in self.branches:
            branch = self.branches[name]
            found = self.pages(f"/branches/{name}/diff", amount, prefix=prefix)
            expected = changes(branch.head.tree, branch.seen)
            assert [(item["type"], item["path"]) for item in found] == [
                change for change in expected if change[1].startswith(prefix)
            ]
            self.listing(name, branch.seen, prefix, slash, amount)

    @rule(pick=few, prefix=st.sampled_from(PREFIXES), slash=st.booleans(), amount=few)
    def an_old_listing(self, pick: int, prefix: str, slash: bool, amount: int) -> None:
        commit = self.commit_of(pick)
        self.listing(commit.id, commit.tree, prefix, slash, amount)

    def listing(self, ref: str, tree: Tree, prefix: str, slash: bool, amount: int) -> None:
        delimiter = "/" if slash else ""
        found = self.pages(f"/refs/{ref}/objects/ls", amount, prefix=prefix, delimiter=delimiter)
        keys = sorted(tree, key=str.encode)
        assert [item["path"] for item in found] == folded(keys, prefix, delimiter)

    @rule(left=few, right=few, amount=few)
    def differences(self, left: int, right: int, amount: int) -> None:
        one, other = self.commit_of(left), self.commit_of(right)
        path = f"/refs/{one.id}/diff/{other.id}"
        two = self.pages(path, amount, type="two_dot")
        assert [(item["type"], item["path"]) for item in two] == changes(one.tree, other.tree)
        base = self.merge_base(other, one).tree
        expected = []
        for kind, key in changes(one.tree, other.tree):
            if other.tree.get(key) != base.get(key):
                clean = one.tree.get(key) == base.get(key)
                expected.append((kind if clean else "conflict", key))
        three = self.pages(path, amount, type="three_dot")
        assert [(item["type"], item["path"]) for item in three] == expected

    @rule(pick=few, amount=few, path=paths, first=st.booleans())
    def history(self, pick: int, amount: int, path: str, first: bool) -> None:
        commit = self.commit_of(pick)
        expected = sorted(commit.ancestors(), key=lambda found: -found.number)
        if first:
            expected = [commit]
            while expected[-1].parents:
                expected.append(expected[-1].parents[0])
        url = f"/refs/{commit.id}/commits"
        found = self.pages(url, amount, first_parent=str(first).lower())
        assert [item["id"] for item in found] == [commit.id for commit in expected]
        touching = self.pages(url, amount, objects=path, first_parent=str(first).lower())
        assert [item["id"] for item in touching] == [
            commit.id
            for commit in expected
            if len(commit.parents) == 1
            and commit.tree.get(path) != commit.parents[0].tree.get(path)
        ]

    def pages(self, path: str, amount: int, **params: str) -> list[dict[str, Any]]:
        """All results, `amount` at a time; 0 asks for lakeFS's default."""
        found, after, more = [], "", True
        while more:
            asked = {**params, "after": after, "amount": amount}
            answer = self.call("GET", path, params=asked).json()
            found += answer["results"]
            after, more = answer["pagination"]["next_offset"], answer["pagination"]["has_more"]
        return found

    @rule(name=branches, path=paths)
    def content(self, name: str, path: str) -> None:
        if name in self.branches:
            branch = self.branches[name]
            for ref, tree in ((name, branch.seen), (f"{name}@", branch.head.tree)):
                answer = self.call("GET", f"/refs/{ref}/objects", params={"path": path})
                expected = (200, tree[path]) if path in tree else (404, b'{"message":"not found"}')
                assert (answer.status_code, answer.content.strip()) == expected

    def teardown(self) -> None:
        """No commit ever changed."""
        for commit in self.commits[-5:]:
            self.listing(commit.id, commit.tree, "", slash=False, amount=0)
        for name, tag in self.tags.items():
            self.listing(name, tag.tree, "", slash=False, amount=0)


def run(http: Any, endpoint: Any, *, rounds: int) -> None:
    run_state_machine_as_test(
        lambda: Lake(http, is_real=endpoint.is_real),
        settings=settings(
            max_examples=rounds,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_lake_does_what_its_model_does(http, endpoint):
    run(http, endpoint, rounds=25)


@pytest.mark.long
def test_the_lake_does_what_its_model_does_in_2000_rounds(http, endpoint):
    run(http, endpoint, rounds=2000)
