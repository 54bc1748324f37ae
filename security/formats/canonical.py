"""Canonical JSON (RFC 8785) without non-integer numbers, and a parser that refuses the rest.

Whatever is signed has exactly one byte form, so that no two programs can read one signature
as two meanings. `rfc8785` writes that form; what it writes and we do not allow (fractions, deep
nesting) is refused here first. Sizes and depth are capped before the real parser sees a byte.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import rfc8785

from security.errors import Untrusted, format_error

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
_MAX_DIGITS = len(str(MAX_INTEGER))

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# Strings are skipped whole so that brackets inside them do not count as nesting.
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def encode(value: object) -> bytes:
    """The one canonical UTF-8 form of `value`.

    Raises: Untrusted for floats, integers past 2^53 - 1, lone surrogates and other types.
    """
    allowed = _require_allowed(value, 0)
    try:
        return rfc8785.dumps(allowed)
    # All else that it refuses was refused already: CanonicalizationError for a text,
    # UnicodeEncodeError for a key, both of them ValueErrors.
    except ValueError:
        raise format_error("a text holds half of a surrogate pair") from None


def parse(data: bytes, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read one strict JSON object, in any spacing and key order.

    Raises: Untrusted for anything that is not one object of unambiguous meaning.
    """
    refuse_large_or_deep(data, max_bytes=max_bytes)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_twins,
            parse_int=_read_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as error:
        raise format_error("the document is not valid JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise format_error("the document is not a JSON object")
    if _SURROGATE.search(data):
        encode(value)  # refuses a half pair, which no text that is used later could hold
    return value


def parse_canonical(data: bytes, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a signed payload, which must already be in canonical form.

    Raises: Untrusted as `parse` does, or if the bytes are not the canonical ones.
    """
    value = parse(data, max_bytes=max_bytes)
    if encode(value) != data:
        raise format_error("the signed document is not in canonical form")
    return value


def refuse_large_or_deep(data: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> None:
    """Cap length and nesting before a parser sees the bytes.

    Raises: Untrusted.
    """
    if len(data) > max_bytes:
        raise Untrusted(f"the document is larger than {max_bytes} bytes", code="trust.too_large")
    depth = 0
    for token in _STRUCTURE.finditer(data):
        if token[0] in b"[{":
            depth += 1
        elif token[0] in b"]}":
            depth -= 1
        if depth > max_depth:
            raise format_error(f"the document is nested deeper than {max_depth} levels")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise format_error("the document names a key twice")
    return found


def _read_integer(digits: str) -> int:
    # int() on a million digits is quadratic: measure before converting.
    if len(digits.lstrip("-")) > _MAX_DIGITS or abs(int(digits)) > MAX_INTEGER:
        raise format_error("the document holds a number past 2^53")
    return int(digits)


def _refuse_number(_text: str) -> NoReturn:
    raise format_error("the document holds a number that is not whole")


def _require_allowed(value: object, depth: int) -> Any:
    """`value` in the types that rfc8785 knows, if a signed document may hold it."""
    if depth > MAX_DEPTH:
        raise format_error(f"the document is nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return _read_integer(str(value))
    if isinstance(value, Mapping):
        return {_require_text(key): _require_allowed(value[key], depth + 1) for key in value}
    if isinstance(value, list | tuple):
        return [_require_allowed(item, depth + 1) for item in value]
    raise format_error(f"a {type(value).__name__} cannot stand in a signed document")


def _require_text(key: object) -> str:
    if not isinstance(key, str):
        raise format_error("a key of a signed document is not text")
    return key
