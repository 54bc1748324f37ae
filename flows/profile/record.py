"""Frozen dataclasses to canonical JSON and back, strictly, so that records have digests."""

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from flows.errors import ContractBroken

T = TypeVar("T")


def canonical_json(value: object) -> bytes:
    """Sorted keys, no blanks, UTF-8; equal values have equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def parse_json(payload: bytes, what: str) -> Any:
    """The JSON value of `payload`; duplicate keys and NaN are refused.

    Raises: ContractBroken, rule "record".
    """
    try:
        return json.loads(payload, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as cause:
        raise broken(f"{what} is not canonical JSON: {cause}") from cause


def encode(record: object) -> bytes:
    """Canonical JSON of a frozen dataclass; numbers that are not whole are decimal strings."""
    return canonical_json(_plain(record))


def decode(kind: type[T], payload: bytes) -> T:
    """The record that `encode` wrote.

    Raises: ContractBroken, rule "record", for missing or unknown keys and wrong types.
    """
    value = parse_json(payload, kind.__name__)
    record: T = _typed(kind, value, kind.__name__)
    return record


def broken(problem: str) -> ContractBroken:
    """The one way a stored record is refused."""
    return ContractBroken(problem, rule="record", remedy="read it with the version that wrote it")


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if math.isnan(value):
            raise broken("a record cannot hold NaN")
        return repr(float(value))  # numpy prints its own floats with their type
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def _typed(kind: Any, value: Any, where: str) -> Any:  # noqa: PLR0911 - one return a kind of type
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        inner = next(a for a in arguments if a is not types.NoneType)
        return None if value is None else _typed(inner, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(arguments[0], item, where) for item in value)
    if origin is typing.Literal and value in arguments:
        return value
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _record(kind, value, where)
    if kind is float and isinstance(value, str):
        return _parsed(float, value, where)
    if kind in (datetime, date) and isinstance(value, str):
        return _parsed(kind.fromisoformat, value, where)
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise broken(f"{where} has the wrong type: {str(value)[:60]!r}")


def _record(kind: Any, value: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    if names != set(value):
        raise broken(f"{where} has the wrong keys: {sorted(names ^ set(value))}")
    return kind(**{name: _typed(hints[name], value[name], f"{where}.{name}") for name in names})


def _parsed(parse: Any, text: str, where: str) -> Any:
    try:
        value = parse(text)
    except ValueError as cause:
        raise broken(f"{where} cannot be read: {text[:60]!r}") from cause
    if isinstance(value, float) and math.isnan(value):
        raise broken(f"{where} is NaN")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
