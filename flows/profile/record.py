"""Canonical JSON: one value has one form in bytes, so that profiles and evidence have digests."""

import json
from typing import Any, TypeVar

from flows.errors import ContractBroken
from storage.errors import StorageError
from storage.runs.codec import CANONICAL

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
    """Canonical JSON of a frozen dataclass; numbers that are not whole are decimal strings.

    Raises: ContractBroken, rule "record", for a NaN.
    """
    try:
        return canonical_json(CANONICAL.to_plain(record))
    except StorageError as error:
        raise broken(str(error)) from error


def decode(kind: type[T], payload: bytes) -> T:
    """The record that `encode` wrote.

    Raises: ContractBroken, rule "record", for missing or unknown keys and wrong types.
    """
    value = parse_json(payload, kind.__name__)
    try:
        return CANONICAL.from_plain(kind, value, kind.__name__)
    except StorageError as error:
        raise broken(str(error)) from error


def broken(problem: str) -> ContractBroken:
    """The one way a stored record is refused."""
    return ContractBroken(problem, rule="record", remedy="read it with the version that wrote it")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
