"""docs/errors.md lists every code that the source can produce, and no other.

The codes are read from the syntax: `code = "…"` of an error class, `code=…` where an error is made,
`rule=…` of a ContractBroken, `"code": "…"` of an HTTP body. A code may be a literal, a constant, a
choice between them, or a parameter that callers fill with one of these.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = "docs/errors.md"
CODE = re.compile(r"[a-z][a-z0-9]*\.[a-z][a-z0-9_]*")
FAMILIES = {"StageError", "StorageError", "SecurityError"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Unreadable(Exception):
    """A code that is put together in a way that this test does not follow."""


@dataclass(frozen=True)
class Module:
    """One parsed file of the source."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """Local name to (module, name in it); the name is empty for a whole module."""
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {a.asname or a.name: (node.module, a.name) for a in node.names}
            elif isinstance(node, ast.Import):
                found |= {a.asname or a.name: (a.name, "") for a in node.names}
        return found

    def above(self, node: ast.AST, kind: type | tuple[type, ...]) -> ast.AST | None:
        while node := self.parents.get(node):  # type: ignore[assignment]
            if isinstance(node, kind):
                return node
        return None


class Source:
    """All modules of some source, and the codes that they can produce."""

    def __init__(self, files: dict[str, str]) -> None:
        self.modules = {
            path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): Module(path, text)
            for path, text in files.items()
        }

    @cached_property
    def codes(self) -> dict[str, str]:
        """Each code, and one place that can produce it."""
        found: dict[str, str] = {}
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                for code in self._codes_at(node, module):
                    where = f"{module.path}:{getattr(node, 'lineno', 0)}"
                    assert CODE.fullmatch(code), f"{where}: {code!r} is not area.what"
                    found.setdefault(code, where)
        return found

    @cached_property
    def errors(self) -> set[str]:
        """The names of all classes that derive from the three families."""
        bases = {
            node.name: {_last_name(base) for base in node.bases}
            for module in self.modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ClassDef)
        }
        found = set(FAMILIES)
        while more := {name for name, of in bases.items() if of & found} - found:
            found |= more
        return found

    @cached_property
    def calls(self) -> dict[str, list[tuple[ast.Call, Module]]]:
        found = defaultdict(list)
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Call):
                    found[_last_name(node.func)].append((node, module))
        return found

    def _codes_at(self, node: ast.AST, module: Module) -> set[str]:
        if isinstance(node, ast.ClassDef) and node.name in self.errors:
            own = [n.value for n in node.body if _assigns_code(n)]  # type: ignore[attr-defined]
            return {code for value in own for code in self._values(value, module)}
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            said = [
                v.value for k, v in pairs if _is_text(k, "code") and isinstance(v, ast.Constant)
            ]
            return {value for value in said if isinstance(value, str) and CODE.fullmatch(value)}
        if not isinstance(node, ast.Call) or not self._makes_error(node, module):
            return set()
        keywords = {k.arg: k.value for k in node.keywords}
        if "code" in keywords:
            return self._values(keywords["code"], module)
        rules = self._values(keywords["rule"], module) if "rule" in keywords else set()
        return {f"contract.{rule}" for rule in rules}

    def _makes_error(self, call: ast.Call, module: Module) -> bool:
        if _last_name(call.func) in self.errors:
            return True
        if _last_name(call.func) != "__init__":
            return False
        owner = module.above(call, ast.ClassDef)
        return isinstance(owner, ast.ClassDef) and owner.name in self.errors

    def _values(self, node: ast.AST, module: Module, seen: tuple[object, ...] = ()) -> set[str]:
        """Every text that an expression may be; what is empty means the class's own code."""
        match node:
            case ast.Constant(value=str() as text):
                return {text} - {""}
            case ast.Constant(value=None):
                return set()
            case ast.IfExp(body=left, orelse=right):
                return self._values(left, module, seen) | self._values(right, module, seen)
            case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                return {text for part in parts for text in self._values(part, module, seen)}
            case ast.Dict(values=parts):
                return {text for part in parts for text in self._values(part, module, seen)}
            case ast.JoinedStr(values=parts):
                each = [self._values(_inside(part), module, seen) for part in parts]
                return {"".join(texts) for texts in product(*each)}
            case ast.Subscript(value=table):
                return self._values(table, module, seen)
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, *default]):
                return {t for part in (table, *default) for t in self._values(part, module, seen)}
            case ast.Attribute(attr="code" | "rule"):
                return set()  # handed on from an error that was made elsewhere
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in module.imported:
                place, inside = module.imported[name]
                return self._constant(f"{place}.{inside}".rstrip("."), attribute, seen)
            case ast.Name(id=name):
                return self._named(name, node, module, seen)
        raise Unreadable(f"{module.path}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}")

    def _named(
        self, name: str, node: ast.AST, module: Module, seen: tuple[object, ...]
    ) -> set[str]:
        function = module.above(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if isinstance(function, Function):
            assigned = list(_assigned(name, function))
            if assigned:
                return {t for v in assigned for t in self._values(v, module, seen)}
            if name in _parameters(function):
                return self._given(name, function, module, seen)
        if name in module.imported:
            return self._constant(*module.imported[name], seen)
        if assigned := list(_assigned(name, module.tree)):
            return {t for value in assigned for t in self._values(value, module, seen)}
        raise Unreadable(f"{module.path}:{getattr(node, 'lineno', 0)}: {name}")

    def _constant(self, place: str, name: str, seen: tuple[object, ...]) -> set[str]:
        module = self.modules.get(place)
        if module is None:
            raise Unreadable(f"{place}.{name} is not of this source")
        if assigned := list(_assigned(name, module.tree)):
            return {t for value in assigned for t in self._values(value, module, seen)}
        if name in module.imported:
            return self._constant(*module.imported[name], seen)
        raise Unreadable(f"{module.path}: {name}")

    def _given(
        self, name: str, function: Function, module: Module, seen: tuple[object, ...]
    ) -> set[str]:
        """What the callers of a function, or its default, put into a parameter."""
        owner = module.above(function, (ast.ClassDef, ast.FunctionDef))
        is_method = isinstance(owner, ast.ClassDef)
        if is_method and function.name == "__init__" and owner.name in self.errors:  # type: ignore[union-attr]
            return set()  # the calls of the class itself are read where they are
        if (function, name) in seen:
            return set()
        seen = (*seen, (function, name))
        places = _parameters(function)
        position = places.index(name) - (1 if is_method else 0)
        found = set()
        for call, caller in self.calls[function.name]:
            keywords = {k.arg: k.value for k in call.keywords}
            if name in keywords:
                found |= self._values(keywords[name], caller, seen)
            elif 0 <= position < len(call.args):
                found |= self._values(call.args[position], caller, seen)
        default = _default(name, function)
        return found | (self._values(default, module, seen) if default else set())


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_text(node: ast.AST | None, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text


def _assigns_code(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return getattr(node, "value", None) is not None and any(
        isinstance(target, ast.Name) and target.id == "code" for target in targets
    )


def _inside(part: ast.expr) -> ast.expr:
    return part.value if isinstance(part, ast.FormattedValue) else part


def _assigned(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    """What is assigned to a name in a function, or at the top of a module."""
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    for node in nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                pairs = [(target, value) for target in targets]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case ast.NamedExpr(target=target, value=value):
                pairs = [(target, value)]
            case ast.For(target=target, iter=value):
                pairs = [(target, value)]
            case _:
                continue
        for target, value in pairs:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                parts = zip(target.elts, value.elts, strict=True)
                yield from (v for t, v in parts if isinstance(t, ast.Name) and t.id == name)
            elif isinstance(target, ast.Name) and target.id == name:
                yield value


def _parameters(function: Function) -> list[str]:
    told = function.args
    return [a.arg for a in (*told.posonlyargs, *told.args, *told.kwonlyargs)]


def _default(name: str, function: Function) -> ast.expr | None:
    told = function.args
    places = [a.arg for a in (*told.posonlyargs, *told.args)]
    last = dict(zip(reversed(places), reversed(told.defaults), strict=False))
    named = dict(zip((a.arg for a in told.kwonlyargs), told.kw_defaults, strict=True))
    return last.get(name) or named.get(name)


@cache
def source() -> Source:
    """Headrace's own."""
    files = [
        p
        for room in ("flows", "blocks", "storage", "security")
        for p in ROOT.glob(f"{room}/**/*.py")
    ]
    return Source({str(path.relative_to(ROOT)): path.read_text() for path in files})


@cache
def rows() -> list[tuple[str, str]]:
    """Section and code of every row of the page."""
    found, section = [], ""
    for line in ROOT.joinpath(PAGE).read_text().splitlines():
        if heading := re.match(r"## `(\w+)\.\*`", line):
            section = heading[1]
        elif row := re.match(r"\| `([^`]+)` \|", line):
            found.append((section, row[1]))
    return found


def test_every_code_of_the_source_has_a_row() -> None:
    listed = {code for _, code in rows()}
    missing = [
        f"{place} can produce it; add to {PAGE}:  | `{code}` | what it means | what to do |"
        for code, place in sorted(source().codes.items())
        if code not in listed
    ]
    assert not missing, "\n".join(missing)


def test_every_row_is_a_code_that_the_source_can_produce() -> None:
    gone = [code for _, code in rows() if code not in source().codes]
    assert not gone, f"{PAGE} lists what no error has: {', '.join(gone)}"


def test_each_code_has_one_row_in_the_section_of_its_area() -> None:
    assert [code for section, code in rows() if not code.startswith(f"{section}.")] == []
    codes = [code for _, code in rows()]
    assert sorted(codes) == sorted(set(codes))


ERRORS = """
class StageError(Exception):
    code = "stage.error"
    def __init__(self, problem, *, code=""):
        self.code = code or type(self).code
class ContractBroken(StageError):
    def __init__(self, problem, *, rule, code=""):
        super().__init__(problem, code=code or f"contract.{rule}")
"""
MAKE = "from errors import ContractBroken, StageError\n"


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("raise StageError('no', code='stage.late')", {"stage.late"}),
        ("raise ContractBroken('no', rule='dtype')", {"contract.dtype"}),
        ("raise ContractBroken('no', rule=column, code='contract.many')", {"contract.many"}),
        ("raise StageError('no', code='stage.a' if x else 'stage.b')", {"stage.a", "stage.b"}),
        ("LATE = 'late'\nraise StageError('no', code=f'stage.{LATE}')", {"stage.late"}),
        ("BY = {1: 'stage.a', 2: 'stage.b'}\nStageError('', code=BY[x])", {"stage.a", "stage.b"}),
        ("def f(x, code=''):\n  return StageError(x, code=code)\nf(1, 'stage.a')", {"stage.a"}),
        ("class Late(StageError):\n  code = 'stage.late'", {"stage.late"}),
        ("def f(e):\n  raise StageError('no', code=e.code)", set()),
        ("def f():\n  a, b = 'dtype', ''\n  raise ContractBroken('', rule=a)", {"contract.dtype"}),
        ("answer = {'code': 'stage.late', 'x': {'code': 200}}", {"stage.late"}),
        ("provenance(code='not.an_error')", set()),
    ],
)
def test_codes_are_read_however_they_are_spelt(text: str, codes: set[str]) -> None:
    found = Source({"errors.py": ERRORS, "made.py": MAKE + text}).codes
    assert found.keys() == {"stage.error", *codes}


def test_a_constant_of_another_module_is_followed() -> None:
    files = {
        "errors.py": ERRORS,
        "names.py": "LATE = 'stage.late'",
        "one.py": MAKE + "from names import LATE\nraise StageError('', code=LATE)",
        "two.py": MAKE + "import names\nraise StageError('', code=names.LATE)",
    }
    assert Source(files).codes.keys() == {"stage.error", "stage.late"}


def test_a_code_that_is_computed_is_refused() -> None:
    text = MAKE + "def f(x):\n  raise StageError('', code=x.lower())"
    with pytest.raises(Unreadable, match=r"made\.py:3"):
        _ = Source({"errors.py": ERRORS, "made.py": text}).codes
