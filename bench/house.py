"""How well the source tree is organised: `python bench/house.py [REV [REV]]`, at the top of the tree.

One name measures a git revision, none the working tree; two, or one and `--against-working-tree`,
print both beside each other. `--list` adds the long lists. Only the syntax is read, so one script
measures old and new; imports inside functions and under TYPE_CHECKING count like any other, and
imports of a name put together at run time are not seen.

A room is a folder or a module directly in a package (in storage.embedded: directly in that), an
arrow is an import from one room to another, and rooms that reach each other form a cycle. Floors
are the longest way down once every cycle is taken as one room.

"Files behind" a stage is the number of modules, `__init__` not counted, of flows and storage but
not storage.embedded, that the stage's entry module imports, directly or through others of them. It
is not what a run executes: it is what can be needed to follow one. Its climbs are the arrows among
those modules that lie inside a cycle of rooms, so that no order of floors makes all of them go down.
"""

import argparse
import ast
import io
import re
import statistics
import subprocess
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

PACKAGES = ("flows", "blocks", "storage", "security")
SCOPES = ("flows", "blocks", "storage", "storage.embedded", "security")
STAGES = "ingest experiment ci cd train gate release serve service timestamp monitor reconcile"
CONVENTIONAL = {"__init__", "__main__", "flow", "errors"}
# The first that exists is measured: the new tree's name, then the old one's.
ENTRIES = {
    "ingest": ("flows.ingest.flow",),
    "train": ("flows.train.flow",),
    "release": ("flows.release.flow", "flows.serve.flow"),
    "the service": ("flows.service.__main__", "flows.serve.service"),
}
PIECES = ("environments/", "timestamp", "candidates/", "models/", "metadata/", "ledger/")
# Words that end like a participle and are none.
PLAIN = set(
    [
        "open",
        "listen",
        "build",
        "hold",
        "fold",
        "field",
        "child",
        "token",
        "children",
        "feed",
        "seed",
        "need",
        "when",
        "own",
    ]
)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Module:
    """A parsed file; an `__init__` has its package's name."""

    name: str
    path: PurePosixPath
    lines: int
    tree: ast.Module
    imports: frozenset[str]

    @property
    def stem(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class House:
    modules: dict[str, Module]
    unit_tests: tuple[Module, ...]

    def files(self, package: str = "") -> list[Module]:
        """The modules below a package, or all of them; `__init__`s are no files of a folder."""
        found = [m for m in self.modules.values() if m.stem != "__init__"]
        return [m for m in found if not package or is_below(m.name, package)]


@dataclass
class Report:
    figures: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    long_lists: dict[str, list[str]] = field(default_factory=dict)


def read_sources(revision: str | None) -> dict[str, str]:
    """The Python files of a revision, or of the working tree, by path."""
    if revision is None:
        found = [path for top in (*PACKAGES, "tests") for path in Path(top).rglob("*.py")]
        return {path.as_posix(): path.read_text() for path in found}
    archive = subprocess.run(["git", "archive", revision], check=True, stdout=subprocess.PIPE)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        opened = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
        return {n: f.read().decode() for n, f in opened if f is not None and n.endswith(".py")}


def parse_house(sources: dict[str, str]) -> House:
    names = {path: dotted_name(PurePosixPath(path)) for path in sorted(sources)}
    known = {name for path, name in names.items() if path.split("/")[0] in PACKAGES}

    def parse(path: str) -> Module:
        text, name, place = sources[path], names[path], PurePosixPath(path)
        tree = ast.parse(text, path)
        imports = frozenset(imports_of(tree, dotted_name(place.parent), known) - {name})
        return Module(name, place, len(text.splitlines()), tree, imports)

    production = [parse(path) for path, name in names.items() if name in known]
    tests = [parse(path) for path in names if path.startswith("tests/unit/")]
    return House({module.name: module for module in production}, tuple(tests))


def dotted_name(path: PurePosixPath) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports_of(tree: ast.Module, package: str, known: set[str]) -> set[str]:
    """Known modules that are named: `from a import b` is a.b where that is a module, else a."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join(
                [*(above if node.level else []), *([node.module] if node.module else [])]
            )
            names = [f"{base}.{alias.name}" for alias in node.names]
            found |= {name if name in known else base for name in names}
    return found & known


def is_below(name: str, package: str) -> bool:
    return name.startswith(f"{package}.")


def functions_of(tree: ast.AST) -> Iterator[tuple[Function, bool]]:
    """Every function, nested ones too, and whether it is a method with self or cls."""
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Function):
                static = "staticmethod" in decorator_names(node)
                yield node, isinstance(parent, ast.ClassDef) and not static


def decorator_names(function: Function) -> set[str]:
    return {re.split(r"[.(]", ast.unparse(d))[-1] for d in function.decorator_list}


def room_graph(house: House, scopes: Sequence[str]) -> Graph:
    """The arrows between the rooms of some packages."""

    def room(name: str) -> str | None:
        inside = [s for s in scopes if is_below(name, s)]
        return ".".join(name.split(".")[: inside[0].count(".") + 2]) if inside else None

    graph: Graph = {r: set() for name in house.modules if (r := room(name))}
    for name, module in house.modules.items():
        start, ends = room(name), {room(other) for other in module.imports}
        if start:
            graph[start] |= {end for end in ends if end and end != start}
    return graph


def find_reach(graph: Graph, starts: Iterable[str]) -> set[str]:
    found, waiting = set[str](), list(starts)
    while waiting:
        if (node := waiting.pop()) not in found:
            found.add(node)
            waiting.extend(graph.get(node, ()))
    return found


def find_groups(graph: Graph) -> dict[str, frozenset[str]]:
    """For every node its strongly connected component."""
    reach = {node: find_reach(graph, [node]) for node in graph}
    return {node: frozenset(n for n in reach[node] if node in reach[n]) for node in graph}


def count_floors(graph: Graph) -> int:
    groups = find_groups(graph)

    @cache
    def height(group: frozenset[str]) -> int:
        below = {groups[end] for node in group for end in graph[node]} - {group}
        return 1 + max(map(height, below), default=0)

    return max(map(height, groups.values()), default=0)


def measure_folders(house: House, report: Report) -> None:
    for package in PACKAGES:
        folders = Counter(m.path.parent.as_posix() for m in house.files(package))
        (largest, count), *_ = folders.most_common(1)
        report.figures[f"{package}: loose files"] = str(folders[package])
        report.figures[f"{package}: largest folder"] = f"{count} in {largest}"


def measure_names(house: House, report: Report) -> None:
    classes, files = defaultdict(list), defaultdict(list)
    for module in house.modules.values():
        for name in {n.name for n in module.tree.body if isinstance(n, ast.ClassDef)}:
            classes[name].append(module.name)
        if module.stem not in CONVENTIONAL:
            files[f"{module.stem}.py"].append(module.name)
    for title, places in (("class names", classes), ("file names", files)):
        again = sorted((-len(at), name) for name, at in places.items() if len(at) > 1)
        title = f"{title} used more than once"
        report.figures[title] = f"{len(again)}, for {-sum(n for n, _ in again)} things"
        report.lists[title] = [", ".join(f"{name} x{-count}" for count, name in again)]
        report.long_lists[title] = [f"{name}: {', '.join(places[name])}" for _, name in again]


def measure_functions(house: House, report: Report) -> None:
    lengths, wide, participles = [], [], []
    for module in house.modules.values():
        for function, bound in functions_of(module.tree):
            a = function.args
            count = len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) - bound
            where = f"{module.name}.{function.name}"
            wide += [(count, where)] if count >= 6 else []
            participles += [where] if is_participle(function) else []
            body = function.body[1:] if ast.get_docstring(function) else function.body
            lengths += [(function.end_lineno or 0) - body[0].lineno + 1] if body else [0]
    report.figures["functions with six parameters or more"] = str(len(wide))
    report.figures["functions with eight or more"] = str(sum(count >= 8 for count, _ in wide))
    report.figures["median lines of a function's body"] = f"{statistics.median(lengths):g}"
    report.figures["functions named by a participle"] = str(len(participles))
    report.long_lists["wide functions"] = [f"{n} {where}" for n, where in sorted(wide)[::-1]]
    report.long_lists["participles"] = sorted(participles)


def is_participle(function: Function) -> bool:
    """One word in -ed, -en, -wn or -ld, or several and the last in -ed; no property."""
    if decorator_names(function) & {"property", "cached_property", "setter", "fixture"}:
        return False
    *before, last = function.name.strip("_").split("_")
    return last not in PLAIN and last.endswith(("ed",) if before else ("ed", "en", "wn", "ld"))


def measure_stages(house: House, report: Report) -> None:
    def stage(name: str) -> str:
        first = (*name.split("."), "")[1]
        return first if is_below(name, "flows") and first in STAGES.split() else ""

    pairs = [(m.name, end) for m in house.modules.values() for end in sorted(m.imports)]
    across = [(a, b) for a, b in pairs if stage(a) and stage(b) and stage(a) != stage(b)]
    report.figures["imports from stage to stage"] = str(len(across))
    report.lists["imports from stage to stage"] = [f"{a} -> {b}" for a, b in across]


def measure_rooms(house: House, report: Report) -> None:
    for scope in SCOPES:
        graph = room_graph(house, [scope])
        arrows, floors = sum(map(len, graph.values())), count_floors(graph)
        cycles = {group for group in find_groups(graph).values() if len(group) > 1}
        report.figures[f"{scope}: rooms, arrows, floors"] = f"{len(graph)}, {arrows}, {floors}"
        report.figures[f"{scope}: cycles"] = f"{len(cycles)}, of {sum(map(len, cycles))} rooms"
        shown = sorted(", ".join(sorted(group)) for group in cycles)
        report.lists[f"{scope}: cycles"] = shown


def measure_tests(house: House, report: Report) -> None:
    named = {name for test in house.unit_tests for name in test.imports}
    for package in ("", *PACKAGES):
        files = [m.name for m in house.files(package) if m.stem != "flow"]
        alone = [name for name in files if name not in named]
        title = f"{package or 'all'}: modules no unit test imports"
        report.figures[title] = f"{len(alone)} of {len(files)}"
        if not package:
            report.long_lists[title] = alone


def measure_sizes(house: House, report: Report) -> None:
    files = house.files()
    small, large = [m for m in files if m.lines < 50], [m for m in files if m.lines > 250]
    report.figures["modules"] = f"{len(files)}, and {len(house.modules) - len(files)} __init__"
    report.figures["lines"] = f"{sum(m.lines for m in house.modules.values()):,}"
    report.figures["modules under 50 lines"] = str(len(small))
    report.figures["modules over 250 lines"] = str(len(large))
    report.long_lists["modules under 50 lines"] = [f"{m.lines:3} {m.name}" for m in small]


def measure_ways(house: House, report: Report) -> None:
    tree = {n: m for n, m in house.modules.items() if n.split(".")[0] in {"flows", "storage"}}
    tree = {n: m for n, m in tree.items() if not f"{n}.".startswith("storage.embedded.")}
    # Importing a module runs its packages' __init__s too, and what those import.
    graph = {n: {*m.imports, n.rpartition(".")[0]} & tree.keys() for n, m in tree.items()}
    groups = find_groups(room_graph(house, ["flows", "storage"]))
    for title, names in ENTRIES.items():
        entry = next((name for name in names if name in tree), None)
        behind = find_reach(graph, [entry] if entry else [])
        files = [name for name in behind if tree[name].stem != "__init__"]
        rooms = room_graph(House({n: tree[n] for n in behind}, ()), ["flows", "storage"])
        climbs = [(a, b) for a in rooms for b in rooms[a] if groups[a] == groups[b]]
        report.figures[f"files behind {title}"] = f"{len(files)}, {len(climbs)} climbs"


def measure_texts(house: House, report: Report) -> None:
    trees = {name: module.tree for name, module in house.modules.items()}
    arrays = [name for name, tree in trees.items() if defines_array(tree)]
    details = [n for t in trees.values() for n in ast.walk(t) if isinstance(n, ast.Subscript)]
    untyped = [n for n in details if re.search(r"(^|\.)details$", ast.unparse(n.value))]
    report.figures["modules that name an NDArray[...]"] = str(len(arrays))
    report.figures["details[...] subscripts"] = str(len(untyped))
    for piece in PIECES:
        found = [f"{name}: {text}" for name, t in trees.items() for text in strings_with(t, piece)]
        report.figures[f"strings with {piece}"] = str(len(found))
        report.long_lists[f"strings with {piece}"] = found


def defines_array(tree: ast.Module) -> bool:
    values = [n.value for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign) and n.value]
    return any(ast.unparse(value).startswith(("NDArray[", "npt.NDArray[")) for value in values)


def strings_with(tree: ast.Module, piece: str) -> list[str]:
    """The strings, no docstrings, that begin with it, and the parts of f-strings that have it."""
    nodes = list(ast.walk(tree))
    ignored = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    parts = {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
    texts = [
        (n.value, id(n) in parts)
        for n in nodes
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in ignored
    ]
    return [text for text, part in texts if (piece in text if part else text.startswith(piece))]


MEASURES = (
    measure_folders,
    measure_names,
    measure_functions,
    measure_stages,
    measure_rooms,
    measure_tests,
    measure_sizes,
    measure_ways,
    measure_texts,
)


def measure_house(revision: str | None) -> Report:
    report, house = Report(), parse_house(read_sources(revision))
    for measure in MEASURES:
        measure(house, report)
    return report


def print_reports(reports: dict[str, Report], *, long: bool) -> None:
    print(f"{'':44}" + "".join(f"{title:>28}" for title in reports))
    for name in dict.fromkeys(name for report in reports.values() for name in report.figures):
        values = [report.figures.get(name, "-") for report in reports.values()]
        print(f"{name:44}" + "".join(f"{value:>28}" for value in values))
    for title, report in reports.items():
        lists = report.lists | report.long_lists if long else report.lists
        for name, lines in lists.items():
            if lines:
                print(f"\n{title}, {name}:", *lines, sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("revisions", nargs="*", metavar="REV", help="at most two")
    parser.add_argument("--against-working-tree", action="store_true")
    parser.add_argument("--list", action="store_true", help="print the long lists too")
    given = parser.parse_args()
    wanted = [*given.revisions, *([None] if given.against_working_tree else [])] or [None]
    titles = ("before", "after") if len(wanted) == 2 else (wanted[0] or "working tree",)
    if len(wanted) > 2:
        parser.error("two trees at most")
    reports = {title: measure_house(r) for title, r in zip(titles, wanted, strict=True)}
    print_reports(reports, long=given.list)


if __name__ == "__main__":
    main()
