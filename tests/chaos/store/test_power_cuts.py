"""The power fails: what was not synced is lost, torn or reordered; what was acknowledged stands.

strace records every call by which the server changes files. The disk is then rebuilt as it may be
found after a cut at any of those calls: file contents reach it with a sync of the file, names with
a sync of their folder, and of the rest any part may be there or not.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CALLS = (
    "open,openat,creat,mkdir,write,pwrite64,writev,pwritev,rename,renameat,renameat2,link,unlink,"
    "unlinkat,rmdir,ftruncate,truncate,fallocate,copy_file_range,sendfile,fsync,fdatasync,sendto"
)
HANDLED = {
    "openat", "mkdir", "write", "pwrite64", "rename", "unlink", "ftruncate", "fsync", "fdatasync"
}  # fmt: skip
LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")
HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
STRINGS = re.compile(r'"([^"]*)"')
NEW = re.compile(r"O_CREAT")
SOME_CUTS, ALL_STATES = 12, 3


@dataclass(frozen=True)
class Call:
    """One finished or begun system call on the lake; `text` has its arguments and its result."""

    name: str
    text: str

    @property
    def strings(self) -> list[bytes]:
        return [_bytes(text) for text in STRINGS.findall(self.text)]

    @property
    def paths(self) -> list[Path]:
        return [Path(text.decode()) for text in self.strings]

    @property
    def file(self) -> Path:
        """The file behind the descriptor that is the first argument."""
        found = re.match(r"\d+<([^>]*)>", self.text)
        assert found, self.text[:200]
        return Path(_bytes(found[1]).decode())

    @property
    def last_number(self) -> int:
        """The last argument."""
        return int(re.findall(r", (\d+)(?:\)| <unfinished)", self.text)[-1])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if "\\x" in text else text.encode()


def calls(trace: Path, root: Path) -> Iterator[Call]:
    """What the trace says, in order. A sync counts when it returns, all else when it begins."""
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        thread, name, rest = found.groups()
        is_sync = name in ("fsync", "fdatasync")
        if "resumed>" in line:
            if is_sync:
                yield Call(name, begun.pop(thread))
        elif rest.endswith("<unfinished ...>") and is_sync:
            begun[thread] = rest
        elif " = -1 " not in rest[-80:] and _matters(name, rest, root):
            yield Call(name, rest)


def _matters(name: str, rest: str, root: Path) -> bool:
    if name == "sendto":
        return any(_bytes(text).startswith(b"HTTP/1.1 2") for text in STRINGS.findall(rest))
    shown = HEX.sub(lambda match: _bytes(match[0][:2000]).decode("latin-1"), rest)
    return f"{root}" in shown or name in ("fsync", "fdatasync")


@dataclass
class File:
    """A file's contents as changes, `synced` of which are on the disk for good."""

    changes: list[tuple[int, bytes | None]] = field(default_factory=list)
    synced: int = 0
    size: int = 0

    def found(self, dice: random.Random | None) -> bytes:
        """What is on the disk: the synced changes and, with dice, some of the others."""
        content = bytearray()
        for number, (at, data) in enumerate(self.changes):
            kept = data
            if number >= self.synced:
                if dice is None or dice.random() < 0.5:
                    continue
                if data and dice.random() < 0.3:
                    kept = data[: dice.randrange(0, len(data), 512)]  # torn between sectors
            if kept is None:
                del content[at:]
            content.extend(bytes(max(at + len(kept or b"") - len(content), 0)))
            content[at : at + len(kept or b"")] = kept or b""
        return bytes(content)


@dataclass
class Disk:
    """Names and files, each as running programs see them and as a power cut leaves them."""

    root: Path
    seen: dict[Path, File | None] = field(default_factory=dict)
    kept: dict[Path, File | None] = field(default_factory=dict)
    waiting: dict[Path, list[tuple[Path, File | None, bool]]] = field(default_factory=dict)
    answers: int = 0

    def apply(self, call: Call) -> None:
        if call.name == "sendto":
            self.answers += 1
        elif call.name in ("fsync", "fdatasync"):
            self._sync(call.file)
        elif call.name == "openat":
            self._open(call)
        elif call.name == "mkdir":
            self._name(call.paths[0], None)
        elif call.name == "rename":
            source, target = call.paths
            self._name(target, self.seen[source])
            self._unname(source)
        elif call.name == "unlink":
            self._unname(call.paths[0])
        elif self._holds(call.file):
            self._change(call)

    def _holds(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    def _open(self, call: Call) -> None:
        path = call.paths[0]
        if not self._holds(path):
            return
        if path not in self.seen and NEW.search(call.text):
            self._name(path, File())
        if "O_TRUNC" in call.text:
            self._file(path).changes.append((0, None))

    def _change(self, call: Call) -> None:
        file = self._file(call.file)
        if call.name == "ftruncate":
            file.size = call.last_number
            file.changes.append((file.size, None))
            return
        data = call.strings[0]
        at = call.last_number if call.name == "pwrite64" else file.size
        file.changes.append((at, data))
        file.size = max(file.size, at + len(data))

    def _file(self, path: Path) -> File:
        found = self.seen[path]
        assert found is not None
        return found

    def _name(self, path: Path, file: File | None) -> None:
        self.seen[path] = file
        self.waiting.setdefault(path.parent, []).append((path, file, True))

    def _unname(self, path: Path) -> None:
        self.waiting.setdefault(path.parent, []).append((path, self.seen.pop(path), False))

    def _sync(self, path: Path) -> None:
        if isinstance(found := self.seen.get(path), File):
            found.synced = len(found.changes)
        for change in self.waiting.pop(path, []):
            self._settle(self.kept, change)

    @staticmethod
    def _settle(names: dict[Path, File | None], change: tuple[Path, File | None, bool]) -> None:
        path, file, is_there = change
        if is_there:
            names[path] = file
        else:
            names.pop(path, None)

    def cut(self, target: Path, dice: random.Random | None) -> None:
        """Write to `target` what a power cut now would leave of the root."""
        names = dict(self.kept)
        for changes in self.waiting.values() if dice else ():
            for change in changes[: dice.randint(0, len(changes))]:
                self._settle(names, change)
        target.mkdir(parents=True)
        for path in sorted(names) if self.root in names else ():
            place = target / path.relative_to(self.root)
            if path.name.endswith("-shm") or (path != self.root and not place.parent.is_dir()):
                continue  # rebuilt after a cut; or lost with the folder it was in
            file = names[path]
            if file is None:
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(file.found(dice))


@pytest.fixture
def recorded(store, tmp_path) -> list[Call]:
    """Every call of a server's whole life, from an empty folder to its end."""
    trace = tmp_path / "trace"
    store.start(
        "strace", "-f", "-y", "-xx", "-s", "4000000", "-o", str(trace), "-e", f"trace={CALLS}"
    )
    assert store.run_steps() == 8
    store.end_inside_strace()
    found = list(calls(trace, store.root))
    assert {call.name for call in found} - {"sendto"} <= HANDLED
    return found


def judge(recorded, root, tmp_path, assert_acknowledged, cuts, states) -> None:
    disk = Disk(root)
    for number, call in enumerate(recorded):
        disk.apply(call)
        if number not in cuts:
            continue
        for seed in range(states):
            place = tmp_path / f"cut-{number}-{seed}" / "lake"
            disk.cut(place, random.Random(f"{number} {seed}") if seed else None)
            assert_acknowledged(place, disk.answers)


def test_a_power_cut_leaves_what_was_acknowledged(recorded, store, tmp_path, assert_acknowledged):
    dice = random.Random("some")
    answered = [n for n, call in enumerate(recorded) if call.name == "sendto"]
    cuts = {*dice.sample(range(len(recorded)), SOME_CUTS), *answered}
    judge(recorded, store.root, tmp_path, assert_acknowledged, cuts, states=2)


@pytest.mark.long
def test_a_power_cut_at_any_call_leaves_what_was_acknowledged(
    recorded, store, tmp_path, assert_acknowledged
):
    first = next(n for n, call in enumerate(recorded) if call.name != "mkdir")
    cuts = set(range(first, len(recorded)))
    judge(recorded, store.root, tmp_path, assert_acknowledged, cuts, states=ALL_STATES)
