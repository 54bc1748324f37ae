"""How well the source tree is organised, measured at the top of it: `python bench/house.py [REV]`.

Without a revision it measures the working tree; two revisions, or one and `--against-working-tree`,
are printed side by side. `--list` prints what was counted. Only the syntax is read, so one script
measures old and new; imports inside functions and under TYPE_CHECKING count like any other, and
names that are put together at run time are not seen.

A room is a folder or a module directly in a package, an arrow is an import from one room to
another, and rooms that reach each other form a cycle. Floors are the longest way down, a cycle
taken as one room.

"Files behind" a stage are the modules of flows and storage, without storage.embedded and
`__init__`s, that the stage's entry module imports, directly or through each other: not what a run
executes, but what one may have to read to follow it. Its climbs are the arrows among them that lie
inside a cycle of rooms, so that in no order of floors all of them lead down.
"""

import argparse
import ast
import io
import re
import statistics
import subprocess
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path, PurePosixPath

PACKAGES = ("flows", "blocks", "storage", "security")
STAGES = "ingest|experiment|ci|cd|train|gate|release|serve|service|timestamp|monitor|reconcile"
CONVENTIONAL = {"__init__", "__main__", "flow", "errors"}
# The first that a tree has is measured: the new name, then the old.
ENTRIES = {
    "ingest": ("flows.ingest.flow",),
    "train": ("flows.train.flow",),
    "release": ("flows.release.flow", "flows.serve.flow"),
    "the service": ("flows.service.__main__", "flows.serve.service"),
}
PIECES = ("environments/", "timestamp", "candidates/", "models/", "metadata/", "ledger/")
NO_PARTICIPLES = {"open", "listen", "build", "hold", "fold", "feed", "need", "down"}
SHOWN = re.compile("more than one|stage to stage|cycles")

Graph = dict[str, set[str]]
# A title, the figure, and what was counted.
Figures = Iterator[tuple[str, object, list[str]]]


@dataclass(frozen=True)
class Module:
    name: str
    path: PurePosixPath
    text: str
    tree: ast.Module
    imports: set[str]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


@dataclass(frozen=True)
class House:
    modules: dict[str, Module]
    tested: set[str]

    def files(self, package: str = "") -> list[Module]:
        """The modules below a package, or all of them, without the `__init__`s."""
        found = [m for m in self.modules.values() if m.path.stem != "__init__"]
        return [m for m in found if f"{m.name}.".startswith(package and f"{package}.")]


def read_sources(revision: str | None) -> dict[str, str]:
    """The Python files of a revision, or of the working tree, by their path."""
    if revision is None:
        paths = [path for top in (*PACKAGES, "tests") for path in Path(top).rglob("*.py")]
        return {path.as_posix(): path.read_text() for path in paths}
    archive = subprocess.run(["git", "archive", revision], check=True, stdout=subprocess.PIPE)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        files = {m.name: tar.extractfile(m) for m in tar if m.name.endswith(".py")}
        return {name: file.read().decode() for name, file in files.items() if file}


def parse_house(sources: dict[str, str]) -> House:
    paths = [PurePosixPath(path) for path in sorted(sources)]
    names = {p: ".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in paths}
    house = House({}, set())
    known = {name for path, name in names.items() if path.parts[0] in PACKAGES}
    for path, name in names.items():
        tree = ast.parse(text := sources[str(path)])
        imports = find_imports(tree, ".".join(path.parent.parts), known) - {name}
        if name in known:
            house.modules[name] = Module(name, path, text, tree, imports)
        elif path.is_relative_to("tests/unit"):
            house.tested.update(imports)
    return house


def find_imports(tree: ast.Module, package: str, known: set[str]) -> set[str]:
    """The known modules it names: `from a import b` is a.b where that is a module, or else a."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            members = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if name in known else base for name in members}
    return found & known


def draw_rooms(modules: dict[str, Module], packages: Iterable[str]) -> Graph:
    """The rooms directly in these packages, each with those that its arrows lead to."""
    pattern = re.compile(rf"({'|'.join(map(re.escape, packages))})\.\w+")
    graph: Graph = {}
    for name, module in modules.items():
        if room := pattern.match(name):
            ends = {end[0] for other in module.imports if (end := pattern.match(other))}
            graph.setdefault(room[0], set()).update(ends - {room[0]})
    return graph


def find_reach(graph: Graph, start: str) -> set[str]:
    found, waiting = set[str](), [start]
    while waiting:
        if (node := waiting.pop()) not in found:
            found.add(node)
            waiting.extend(graph.get(node, ()))
    return found


def find_cycles(graph: Graph) -> dict[str, frozenset[str]]:
    """Each node's strongly connected component; one that is in no cycle is alone in its own."""
    reach = {node: find_reach(graph, node) for node in graph}
    return {node: frozenset(n for n in graph if node in reach[n] and n in reach[node]) for node in graph}


def count_floors(graph: Graph) -> int:
    cycles = find_cycles(graph)

    @cache
    def height(cycle: frozenset[str]) -> int:
        below = {cycles[end] for node in cycle for end in graph[node]} - {cycle}
        return 1 + max(map(height, below), default=0)

    return max(map(height, cycles.values()), default=0)


def measure_folders(house: House) -> Figures:
    for package in PACKAGES:
        folders = Counter(str(m.path.parent) for m in house.files(package))
        largest = max(folders, key=folders.__getitem__)
        yield f"{package}: loose files", folders[package], []
        yield f"{package}: largest folder", f"{folders[largest]} in {largest}", []


def measure_names(house: House) -> Figures:
    classes, files = defaultdict(set), defaultdict(set)
    for name, module in house.modules.items():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                classes[node.name].add(name)
        if module.path.stem not in CONVENTIONAL:
            files[module.path.name].add(name)
    for kind, places in (("classes", classes), ("files", files)):
        shared = sorted((-len(at), name) for name, at in places.items() if len(at) > 1)
        items = [f"{name} x{-n}: {', '.join(sorted(places[name]))}" for n, name in shared]
        yield f"names of more than one of the {kind}", len(shared), items


def measure_functions(house: House) -> Figures:
    wide, lengths, single, last = [], [], [], []
    for name, module in house.modules.items():
        for parent in ast.walk(module.tree):
            for node in ast.iter_child_nodes(parent):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    decorators = " ".join(map(ast.unparse, node.decorator_list))
                    bound = isinstance(parent, ast.ClassDef) and decorators != "staticmethod"
                    a, place = node.args, f"{name}.{node.name}"
                    count = len(a.posonlyargs + a.args + a.kwonlyargs) - bound
                    wide += [f"{count:2} {place}"] if count >= 6 else []
                    body = node.body[ast.get_docstring(node) is not None :]
                    lengths.append((node.end_lineno or 0) - body[0].lineno + 1 if body else 0)
                    if not re.search("property|setter|fixture", decorators):
                        *before, word = node.name.strip("_").split("_")
                        ending = ("ed",) if before else ("ed", "en", "wn", "ld")
                        if word.endswith(ending) and word not in NO_PARTICIPLES:
                            (last if before else single).append(place)
    yield "functions with six parameters or more", len(wide), sorted(wide)[::-1]
    yield "functions with eight or more", sum(int(w[:2]) >= 8 for w in wide), []
    yield "median lines of a function's body", statistics.median(lengths), []
    yield "functions named by a participle", len(single), single
    yield "functions of more words that end in -ed", len(last), last


def measure_stages(house: House) -> Figures:
    pair = re.compile(rf"flows\.({STAGES})\b.* -> flows\.(?!\1\b)({STAGES})\b")
    arrows = [f"{m.name} -> {end}" for m in house.modules.values() for end in sorted(m.imports)]
    across = [arrow for arrow in arrows if pair.match(arrow)]
    yield "imports from stage to stage", len(across), across


def measure_rooms(house: House) -> Figures:
    for package in (*PACKAGES, "storage.embedded"):
        graph = draw_rooms(house.modules, [package])
        arrows = sum(map(len, graph.values()))
        cycles = {cycle for cycle in find_cycles(graph).values() if len(cycle) > 1}
        items = [", ".join(sorted(cycle)) for cycle in cycles]
        figure = f"{len(graph)}, {arrows}, {count_floors(graph)}"
        yield f"{package}: rooms, arrows, floors", figure, []
        yield f"{package}: rooms in cycles", sum(map(len, cycles)), sorted(items)


def measure_tests(house: House) -> Figures:
    for package in ("", *PACKAGES):
        names = [m.name for m in house.files(package) if m.path.stem != "flow"]
        alone = [name for name in names if name not in house.tested]
        figure = f"{len(alone)} of {len(names)}"
        yield f"{package or 'all'}: imported by no unit test", figure, alone if package else []


def measure_sizes(house: House) -> Figures:
    files, every = house.files(), house.modules.values()
    full = [m for m in every if m not in files and m.lines]
    small = [m for m in files if m.lines < 50]
    large = [f"{m.lines} {m.name}" for m in files if m.lines > 250]
    inits = sum(m.lines < 50 for m in full)
    yield "modules, and __init__s with lines", f"{len(files)}, {len(full)}", []
    yield "lines", sum(m.lines for m in every), []
    items = [f"{m.lines:2} {m.name}" for m in small]
    yield "under 50 lines, and such __init__s", f"{len(small)}, {inits}", items
    yield "over 250 lines", len(large), large


def measure_ways(house: House) -> Figures:
    tops = re.compile(r"(flows|storage(?!\.embedded))\b")
    tree = {name: module for name, module in house.modules.items() if tops.match(name)}
    # An import runs the __init__s of the packages above, and so what those import.
    graph = {n: {*m.imports, n.rpartition(".")[0]} & tree.keys() for n, m in tree.items()}
    cycles = find_cycles(draw_rooms(tree, ["flows", "storage"]))
    for title, names in ENTRIES.items():
        behind = find_reach(graph, next((name for name in names if name in tree), "")) & tree.keys()
        files = sorted(name for name in behind if tree[name].path.stem != "__init__")
        rooms = draw_rooms({name: tree[name] for name in behind}, ["flows", "storage"])
        climbs = [(a, b) for a, ends in rooms.items() for b in ends if b in cycles.get(a, ())]
        yield f"files behind {title}, climbs", f"{len(files)}, {len(climbs)}", files


def measure_texts(house: House) -> Figures:
    nodes = [node for module in house.modules.values() for node in ast.walk(module.tree)]
    array = re.compile(r"^\w+(: TypeAlias)? = NDArray\[", re.MULTILINE)
    arrays = [m.name for m in house.modules.values() if array.search(m.text)]
    yield "modules that name an NDArray[...]", len(arrays), arrays
    values = [ast.unparse(node.value) for node in nodes if isinstance(node, ast.Subscript)]
    yield "details[...]", sum(bool(re.search(r"\bdetails$", value)) for value in values), []
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docs]
    for piece in PIECES:
        # It begins a string, or is anywhere in a piece of an f-string.
        found = [t.value for t in texts if piece in str(t.value)]
