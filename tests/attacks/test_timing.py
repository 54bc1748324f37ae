"""Attack 60: on how long a comparison takes. Nothing is timed: the whole tree is read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    p for name in ("security", "storage", "flows", "blocks") for p in (ROOT / name).rglob("*.py")
]
SECRET = re.compile(
    r"(^|_)(secret(_access_key)?|passphrase|phrase|password|h?mac|seal|signing_key|bundle_key"
    r"|private_bytes(_raw)?|private_halves)$"
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
STOPS = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
# Of secrets, but of nothing that their bytes say.
JUSTIFIED = {
    "security/keys/keyfiles.py": ["(passphrase is None) == (folder / _SALT).exists()"],
    "storage/embedded/keys/keyring.py": ["len(seal) != SEAL_BYTES"],
}
# Everything that security computes with: no arithmetic on a key is our own.
LIBRARIES = {"cryptography", "hashlib", "secrets"}
COULD_COMPUTE = {"hmac", "random", "nacl", "Crypto", "ecdsa", "rsa", "oqs", "gmpy2"}


def names(node: ast.AST) -> set[str]:
    parts = ast.walk(node)
    return {getattr(part, "id", getattr(part, "attr", "")) for part in parts}


def macs(tree: ast.AST) -> set[str]:
    """What a module calls the results of its own MACs."""
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "hmac" in names(node.value)
        for target in node.targets
        for name in names(target)
        if "compare_digest" not in names(node.value)
    }


def early_exits(source: str) -> Iterator[str]:
    """Comparisons that may stop at the first byte that differs, and have a secret on a side."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    for scope in functions or [tree]:
        known = macs(scope) | {"hmac"}
        for node in ast.walk(scope):
            if isinstance(node, ast.Compare) and any(isinstance(op, STOPS) for op in node.ops):
                found = names(node) - {""}
                if found & known or any(SECRET.search(name) for name in found):
                    yield ast.unparse(node)


def imported(source: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(source)))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in found}


def test_60_no_secret_is_compared_by_a_comparison_that_can_stop_early() -> None:
    found = {str(p.relative_to(ROOT)): sorted(early_exits(p.read_text())) for p in SOURCES}
    assert len(found) > 150
    assert {path: lines for path, lines in found.items() if lines} == JUSTIFIED


@pytest.mark.parametrize(
    "source",
    [
        "if given == self.secret: pass",
        "if passphrase in known: pass",
        "expected = hmac.digest(key, text, 'sha256').hex()\nif expected != told: pass",
        "if key.private_bytes_raw() == other: pass",
        "if hmac.new(key, text, sha256).digest() == told: pass",
    ],
)
def test_60_the_reader_sees_each_kind_of_comparison(source: str) -> None:
    assert len(list(early_exits(source))) == 1


def test_60_whoever_checks_a_mac_uses_the_librarys_comparison() -> None:
    """flows/data/forget.py makes MACs and checks none."""
    with_macs = {p for p in SOURCES if "hmac" in imported(p.read_text())}
    without = {p for p in with_macs if "hmac.compare_digest(" not in p.read_text()}
    assert len(with_macs) > 4
    assert {str(p.relative_to(ROOT)) for p in without} == {"flows/data/forget.py"}


def test_60_security_computes_with_library_primitives_only() -> None:
    sources = [p.read_text() for p in SOURCES if p.is_relative_to(ROOT / "security")]
    found = set().union(*(imported(source) for source in sources))
    assert found >= LIBRARIES
    assert found & COULD_COMPUTE == set()
    used = "\n".join(sources)
    for primitive in (
        "Cobblestone256Decryptor(",
        "hpke",
        "Argon2id(",
        "verify(signature, message)",
    ):
        assert primitive in used
