"""How well the source tree is organised: `python bench/house.py [REV [REV]]`, run at its top.

Without a revision it measures the working tree; two, or one and `--against-working-tree`, stand
side by side. Only the syntax is read: imports in functions and under TYPE_CHECKING count, names put
together at run time do not. A room is a folder or module directly in a package, an arrow an import
from one room to another; rooms that reach each other are a cycle, and floors the longest way down
with each cycle as one room. "Files behind" an entry are the modules of flows and storage, but not
of storage.embedded, that it imports, directly or through others: not what a run executes, but what
one may have to read to follow it. Climbs are the arrows among them that lie inside a cycle.
"""

import argparse
import ast
import io
import re
import statistics
import subprocess
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("flows", "blocks", "storage", "security")
STAGES = "ingest|experiment|ci|cd|train|gate|release|serve|service|timestamp|monitor|reconcile"
CONVENTIONAL = {"__init__.py", "__main__.py", "flow.py", "errors.py"}
# In flows/, by the names of the new tree and of the old.
ENTRIES = ("ingest.flow", "train.flow", "(release|serve).flow", "service.__main__|serve.service")
PIECES = ("environments/", "timestamp", "candidates/", "models/", "metadata/", "ledger/")
NO_PARTICIPLES = {"open", "listen", "build", "hold", "fold", "feed", "need", "down", "len"}
SHOWN = re.compile("more than one|stage to stage|cycles")

Graph = dict[str, set[str]]
Figure = tuple[str, object, list[str]]  # A title, the figure, and what was counted.


class Module(NamedTuple):
    name: str
    file: str
    text: str
    tree: ast.Module
    imports: set[str]


class House(NamedTuple):
    modules: dict[str, Module]
    tested: set[str]

    def files(self, package: str = "") -> list[Module]:
        """The modules below a package, or all of them, without the `__init__`s."""
        every = self.modules.items()
        return [m for name, m in every if name.startswith(package) and m.file != "__init__.py"]


def read_sources(revision: str | None) -> dict[str, str]:
    """The Python files of a revision, or of the working tree, by their path."""
    if revision is None:
        paths = [path for top in (*PACKAGES, "tests") for path in Path(top).rglob("*.py")]
        return {path.as_posix(): path.read_text() for path in paths}
    archive = subprocess.check_output(["git", "archive", "--format=zip", revision])
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return {n: files.read(n).decode() for n in files.namelist() if n.endswith(".py")}


def parse_house(sources: dict[str, str]) -> House:
    names = {p: p[:-3].replace("/", ".").removesuffix(".__init__") for p in sorted(sources)}
    known = {name for path, name in names.items() if path.split("/")[0] in PACKAGES}
    house = House({}, set())
    for path, name in names.items():
        folder, _, file = path.rpartition("/")
        tree = ast.parse(text := sources[path])
        imports = find_imports(tree, folder.replace("/", "."), known) - {name}
        if name in known:
            house.modules[name] = Module(name, file, text, tree, imports)
        elif path.startswith("tests/unit/"):
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


def draw_rooms(modules: dict[str, Module], packages: str) -> Graph:
    """The rooms directly in these packages, each with those that its arrows lead to."""
    pattern = re.compile(rf"({packages})\.\w+")
    graph: Graph = defaultdict(set)
    for name, module in modules.items():
        if room := pattern.match(name):
            ends = {end[0] for other in module.imports if (end := pattern.match(other))}
            graph[room[0]] |= ends - {room[0]}
    return graph


def find_reach(graph: Graph) -> Graph:
    """What each node leads to in any number of steps, itself included."""
    reach = {node: {node} | ends for node, ends in graph.items()}
    for middle in graph:
        for found in reach.values():
            found.update(reach[middle] if middle in found else ())
    return reach


def measure_rooms(house: House) -> Iterator[Figure]:
    for package in (*PACKAGES, "storage.embedded"):
        folders = Counter(m.name.rpartition(".")[0] for m in house.files(package))
        (largest, count), *_ = folders.most_common(1)
        yield f"{package}: loose files", folders[package], []
        yield f"{package}: largest folder", f"{count} in {largest}", []
        reach = find_reach(graph := draw_rooms(house.modules, package))
        every = {frozenset(b for b in reach[a] if a in reach[b]) for a in graph}
        floors: dict[str, int] = {}
        # What reaches less lies below.
        for cycle in sorted(every, key=lambda cycle: len(reach[min(cycle)])):
            below = [floors[room] for room in reach[min(cycle)] - cycle]
            floors |= dict.fromkeys(cycle, 1 + max(below, default=0))
        cycles = [sorted(cycle) for cycle in every if len(cycle) > 1]
        inside = [f"{a} -> {b}" for a in graph for b in graph[a] if a in reach[b]]
        size = f"{len(graph)}, {sum(map(len, graph.values()))}, {max(floors.values())}"
        yield f"{package}: rooms, arrows, floors", size, []
        yield f"{package}: rooms in cycles", sum(map(len, cycles)), sorted(map(", ".join, cycles))
        yield f"{package}: arrows in them", len(inside), sorted(inside)


def measure_names(house: House) -> Iterator[Figure]:
    classes, files = defaultdict(set), defaultdict(set)
    for name, module in house.modules.items():
        for node in (node for node in module.tree.body if isinstance(node, ast.ClassDef)):
            classes[node.name].add(name)
        if module.file not in CONVENTIONAL:
            files[module.file].add(name)
    for kind, places in (("classes", classes), ("files", files)):
        shared = sorted((-len(at), name) for name, at in places.items() if len(at) > 1)
        items = [f"{name} x{-n}: {', '.join(sorted(places[name]))}" for n, name in shared]
        yield f"names of more than one of the {kind}", len(shared), items


def measure_functions(house: House) -> Iterator[Figure]:
    wide, lengths, single, more = [], [], list[str](), list[str]()
    for name, module in house.modules.items():
        nodes = list(ast.walk(module.tree))
        methods = {id(n) for node in nodes if isinstance(node, ast.ClassDef) for n in node.body}
        functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        for function in functions:
            decorators = " ".join(map(ast.unparse, function.decorator_list))
            a, place = function.args, f"{name}.{function.name}"
            bound = id(function) in methods and "staticmethod" not in decorators
            count = len(a.posonlyargs + a.args + a.kwonlyargs) - bound
            wide += [f"{count:2} {place}"] if count >= 6 else []
            body = function.body[ast.get_docstring(function) is not None :]
            lengths.append((function.end_lineno or 0) - body[0].lineno + 1 if body else 0)
            *before, word = function.name.strip("_").split("_")
            ends = word.endswith("ed" if before else ("ed", "en", "wn", "ld"))
            if ends and word not in NO_PARTICIPLES and not re.search("property|setter", decorators):
                (more if before else single).append(place)
    yield "functions with six parameters or more", len(wide), sorted(wide)[::-1]
    yield "functions with eight or more", sum(int(each[:2]) >= 8 for each in wide), []
    yield "median lines of a function's body", f"{statistics.median(lengths):g}", []
    yield "functions that are one participle", len(single), single
    yield "functions of more words, last in -ed", len(more), more


def measure_modules(house: House) -> Iterator[Figure]:
    files = house.files()
    lines = {name: module.text.count("\n") for name, module in house.modules.items()}
    small = [f"{n:3} {name}" for name, n in lines.items() if 0 < n < 50]
    large = [f"{n:3} {name}" for name, n in lines.items() if n > 250]
    yield "modules, and __init__s", f"{len(files)}, {len(lines) - len(files)}", []
    yield "lines", f"{sum(lines.values()):,}", []
    under = sum(lines[module.name] < 50 for module in files)
    yield "modules under 50 lines, with full __init__s", f"{under}, {len(small)}", small
    yield "modules over 250 lines", len(large), large
    for package in ("", *PACKAGES):
        names = [m.name for m in house.files(package) if m.file != "flow.py"]
        alone = [name for name in names if name not in house.tested]
        yield f"{package or 'all'}: in no unit test", f"{len(alone)} of {len(names)}", alone


def measure_ways(house: House) -> Iterator[Figure]:
    pair = re.compile(rf"flows\.({STAGES})\b.* -> flows\.(?!\1\b)({STAGES})\b")
    imports = [f"{m.name} -> {end}" for m in house.modules.values() for end in sorted(m.imports)]
    across = [each for each in imports if pair.match(each)]
    yield "imports from stage to stage", len(across), across
    inside = re.compile(r"(flows|storage(?!\.embedded))\b").match
    tree = {name: module for name, module in house.modules.items() if inside(name)}
    # An import runs the __init__s of the packages above, and so what those import.
    graph = {n: {*m.imports, n.rpartition(".")[0]} & tree.keys() for n, m in tree.items()}
    reach, rooms = find_reach(graph), find_reach(draw_rooms(tree, "flows|storage"))
    for entry in ENTRIES:
        found = [reach[name] for name in tree if re.fullmatch(rf"flows\.({entry})", name)]
        behind = found[0] if found else set()
        files = sorted(name for name in behind if tree[name].file != "__init__.py")
        arrows = draw_rooms({name: tree[name] for name in behind}, "flows|storage")
        climbs = [f"{a} -> {b}" for a in arrows for b in arrows[a] if a in rooms.get(b, ())]
        yield f"files behind {entry}", len(files), files
        yield f"climbs behind {entry}", len(climbs), sorted(climbs)


def measure_texts(house: House) -> Iterator[Figure]:
    nodes = [node for module in house.modules.values() for node in ast.walk(module.tree)]
    array = re.compile(r"(?m)^\w[\w: ]* = NDArray\[").search
    arrays = [name for name, module in house.modules.items() if array(module.text)]
    yield "modules that name an NDArray[...]", len(arrays), arrays
    values = [ast.unparse(node.value) for node in nodes if isinstance(node, ast.Subscript)]
    yield "details[...]", sum(bool(re.search(r"\bdetails$", value)) for value in values), []
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    strings = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docs]
    texts = [(id(node) in parts, node.value) for node in strings if isinstance(node.value, str)]
    for piece in PIECES:
        # At the beginning of a string, and anywhere in a part of an f-string.
        found = [repr(t) for part, t in texts if (piece in t if part else t.startswith(piece))]
        yield f"strings with {piece}", len(found), found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("revisions", nargs="*", metavar="REV", help="one, or two to compare")
    parser.add_argument("--against-working-tree", action="store_true")
    parser.add_argument("--list", action="store_true", help="print what was counted")
    given = parser.parse_args()
    trees = [*given.revisions, *([None] if given.against_working_tree else [])] or [None]
    titles = ["before", "after"] if len(trees) == 2 else [trees[0] or "working tree"]
    measures = [work for name, work in globals().items() if name.startswith("measure_")]
    columns: dict[str, list[Figure]] = {}
    for title, revision in zip(titles, trees, strict=True):
        house = parse_house(read_sources(revision))
        columns[title] = [figure for measure in measures for figure in measure(house)]
    print(f"{'measure':44}" + "".join(f"{title:>32}" for title in columns))
    for row in zip(*columns.values(), strict=True):
        print(f"{row[0][0]:44}" + "".join(f"{figure!s:>32}" for _, figure, _ in row))
    for title, figures in columns.items():
        for name, _, items in figures:
            if items and (given.list or SHOWN.search(name)):
                print(f"\n{title}, {name}:", *items, sep="\n  ")


if __name__ == "__main__":
    main()
