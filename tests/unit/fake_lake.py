"""A lake in memory, for unit tests of what works with `lake.fs`; the real run transaction too.

It keeps to what lakeFS does and `LakeFS` promises: commits never change, reads of a branch see
what is staged there, a merge has three ways and conflicts on a path that both sides changed, and
protected branches take merges only. There are no tables. What the real clients and servers do is
tested in tests/contract; a call that is not here fails, because nothing answers at its address.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import RLock

from storage.errors import Conflict, Forbidden, NotFound, Refused
from storage.lake import Lake
from storage.lake.client import Access, Commit, LakeFS
from storage.lake.object_calls import StoredObject

NOBODY = Access("http://127.0.0.1:1", "AKIANOBODY", "nothing-listens-there")
Tree = dict[str, bytes]
Parents = tuple[str, ...]
Said = tuple[str, Mapping[str, str]]


@dataclass
class _Branch:
    head: str
    staged: dict[str, bytes | None] = field(default_factory=dict)
    hidden: bool = False


@dataclass
class _Repository:
    branches: dict[str, _Branch]
    commits: dict[str, tuple[Commit, Tree]]
    protected: set[str] = field(default_factory=set)


class MemoryFS(LakeFS):
    """`now_s` dates the next commits; `calls` counts what was asked, by name."""

    def __init__(self) -> None:
        super().__init__(NOBODY)
        self.now_s = 1_372_636_800
        self.calls: dict[str, int] = {}
        self._lock = RLock()
        self._held: dict[str, _Repository] = {}

    def create_repository(self, name: str, *, namespace: str) -> bool:
        self._count("create_repository")
        if name in self._held:
            return False
        first = self._make((), {}, ("Repository created", {}), salt=name)
        self._held[name] = _Repository({"main": _Branch(first[0].id)}, {first[0].id: first})
        return True

    def repositories(self) -> list[str]:
        self._count("repositories")
        return sorted(self._held)

    def protect(self, repository: str, pattern: str) -> None:
        self._repository(repository).protected.add(pattern)

    def create_branch(
        self, repository: str, name: str, *, source: str, hidden: bool = False
    ) -> None:
        held, head = self._repository(repository), self.resolve(repository, source).id
        if name in held.branches:
            raise Conflict(f"branch {repository}/{name}: it exists")
        held.branches[name] = _Branch(head, hidden=hidden)

    def delete_branch(self, repository: str, name: str) -> bool:
        return self._repository(repository).branches.pop(name, None) is not None

    def branches(
        self, repository: str, *, prefix: str = "", hidden: bool = False
    ) -> dict[str, str]:
        found = sorted(self._repository(repository).branches.items())
        return {
            name: one.head
            for name, one in found
            if name.startswith(prefix) and (hidden or not one.hidden)
        }

    def resolve(self, repository: str, ref: str) -> Commit:
        self._count("resolve")
        held = self._repository(repository)
        if ref in held.branches:
            return held.commits[held.branches[ref].head][0]
        found = [one for commit, (one, _) in held.commits.items() if ref and commit.startswith(ref)]
        if len(found) != 1:
            raise NotFound(f"ref {repository}/{ref}: not found")
        return found[0]

    def commit(
        self, repository: str, branch: str, *, message: str, metadata: Mapping[str, str]
    ) -> str:
        with self._lock:
            held, one = self._repository(repository), self._branch(repository, branch)
            self._refuse_protected(repository, branch)
            before, after = held.commits[one.head][1], self._tree(repository, branch)
            if before == after:
                raise Refused(f"commit to {repository}/{branch}: no changes")
            self._publish(held, one, (one.head,), after, (message, metadata))
            one.staged.clear()
            return one.head

    def merge(
        self,
        repository: str,
        source: str,
        *,
        into: str,
        message: str,
        metadata: Mapping[str, str],
    ) -> str:
        with self._lock:
            held, target = self._repository(repository), self._branch(repository, into)
            if target.staged:
                raise Refused(f"merge into {repository}/{into}: uncommitted changes")
            head = self.resolve(repository, source).id
            base = held.commits[self.merge_base(repository, target.head, head)][1]
            ours, theirs = held.commits[target.head][1], held.commits[head][1]
            if base == theirs:
                raise Refused(f"merge of {source} into {repository}/{into}: no changes")
            merged = dict(ours)
            for path in _differing(base, theirs):
                if base.get(path) != ours.get(path) != theirs.get(path):
                    raise Conflict(f"merge of {source} into {repository}/{into}: {path}")
                _set(merged, path, theirs.get(path))
            self._publish(held, target, (target.head, head), merged, (message, metadata))
            return target.head

    def merge_base(self, repository: str, left: str, right: str) -> str:
        mine = {one.id for one in self.log(repository, left, limit=10**6, first_parent=False)}
        theirs = self.log(repository, right, limit=10**6, first_parent=False)
        return next(one.id for one in theirs if one.id in mine)

    def log(
        self, repository: str, ref: str, *, limit: int = 100, first_parent: bool = True
    ) -> Iterator[Commit]:
        held, waiting = self._repository(repository), [self.resolve(repository, ref).id]
        seen: list[str] = []
        while waiting and len(seen) < limit:
            commit = held.commits[waiting.pop(0)][0]
            if commit.id in seen:
                continue
            seen.append(commit.id)
            waiting += commit.parents[:1] if first_parent else commit.parents
        return iter([held.commits[one][0] for one in seen])

    def put(
        self, repository: str, branch: str, path: str, data: bytes, *, if_absent: bool = False
    ) -> None:
        with self._lock:
            self._count("put")
            one = self._branch(repository, branch)
            self._refuse_protected(repository, branch)
            if if_absent and path in self._tree(repository, branch):
                raise Conflict(f"object {repository}/{branch}/{path}: it exists")
            one.staged[path] = data

    def delete(self, repository: str, branch: str, path: str) -> None:
        with self._lock:
            self._refuse_protected(repository, branch)
            self._branch(repository, branch).staged[path] = None

    def get(self, repository: str, ref: str, path: str) -> bytes:
        self._count("get")
        tree = self._tree(repository, ref)
        if path not in tree:
            raise NotFound(f"object {repository}/{ref}/{path}: not found")
        return tree[path]

    def download(self, repository: str, ref: str, path: str, target: Path) -> None:
        with target.open("xb") as file:
            file.write(self.get(repository, ref, path))

    def exists(self, repository: str, ref: str, path: str) -> bool:
        return path in self._tree(repository, ref)

    def objects(self, repository: str, ref: str, *, prefix: str = "") -> list[StoredObject]:
        self._count("objects")
        tree = self._tree(repository, ref)
        paths = sorted((p for p in tree if p.startswith(prefix)), key=str.encode)
        return [StoredObject(p, len(tree[p]), sha256(tree[p]).hexdigest()) for p in paths]

    def folders(self, repository: str, ref: str, *, prefix: str) -> list[str]:
        tails = (one.path[len(prefix) :] for one in self.objects(repository, ref, prefix=prefix))
        return list(dict.fromkeys(tail.partition("/")[0] for tail in tails if "/" in tail))

    def _count(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1

    def _repository(self, name: str) -> _Repository:
        if name not in self._held:
            raise NotFound(f"repository {name}: not found")
        return self._held[name]

    def _branch(self, repository: str, name: str) -> _Branch:
        branches = self._repository(repository).branches
        if name not in branches:
            raise NotFound(f"branch {repository}/{name}: not found")
        return branches[name]

    def _refuse_protected(self, repository: str, branch: str) -> None:
        if branch in self._repository(repository).protected:
            raise Forbidden(f"{repository}/{branch}: cannot write to protected branch")

    def _tree(self, repository: str, ref: str) -> Tree:
        held = self._repository(repository)
        tree = dict(held.commits[self.resolve(repository, ref).id][1])
        if ref in held.branches:
            for path, data in held.branches[ref].staged.items():
                _set(tree, path, data)
        return tree

    def _publish(
        self, held: _Repository, branch: _Branch, parents: Parents, tree: Tree, said: Said
    ) -> None:
        made = self._make(parents, tree, said, salt=str(len(held.commits)))
        held.commits[made[0].id] = made
        branch.head = made[0].id

    def _make(self, parents: Parents, tree: Tree, said: Said, salt: str) -> tuple[Commit, Tree]:
        told = repr((parents, sorted(tree.items()), said[0], sorted(said[1].items()), salt))
        digest = sha256(told.encode()).hexdigest()
        return Commit(digest, parents, said[0], dict(said[1]), self.now_s, "tests"), tree


class MemoryLake(Lake):
    """The real `Lake`, over `MemoryFS`."""

    fs: MemoryFS

    def __init__(self) -> None:
        super().__init__(NOBODY)
        self.fs = MemoryFS()


def _differing(left: Tree, right: Tree) -> list[str]:
    return [p for p in sorted(left.keys() | right.keys()) if left.get(p) != right.get(p)]


def _set(tree: Tree, path: str, data: bytes | None) -> None:
    if data is None:
        tree.pop(path, None)
    else:
        tree[path] = data
