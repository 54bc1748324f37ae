"""Frozen dataclasses to and from strict JSON objects: exact keys, exact types, checked words.

Field names become lowerCamelCase, as in-toto writes them. A field whose default is None is left
out when it is None. Both directions check every text against its pattern, so a signer cannot
sign what a verifier would refuse.
"""

import dataclasses
import functools
import re
import types
import typing
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from security.errors import format_error
from security.files import FILE_NAME
from security.formats import canonical

R = TypeVar("R")


@dataclass(frozen=True)
class Text:
    """What a text field must look like, and its name for people."""

    pattern: str
    meaning: str

    def check(self, value: str, where: str) -> None:
        """Refuse `value` unless the whole of it fits."""
        if not re.fullmatch(self.pattern, value):
            raise format_error(f"{where} is not {self.meaning}")


@dataclass(frozen=True)
class AtLeast:
    """The smallest whole number a field may hold."""

    minimum: int

    def check(self, value: int, where: str) -> None:
        """Refuse anything smaller."""
        if value < self.minimum:
            raise format_error(f"{where} is below {self.minimum}")


class Sentence(Text):
    """One line of free text: no control, format or bidirectional characters."""

    def check(self, value: str, where: str) -> None:
        """Refuse characters that make a text look different from what it is."""
        super().check(value, where)
        if any(
            unicodedata.category(character).startswith(("C", "Z")) and character != " "
            for character in value
        ):
            raise format_error(f"{where} holds invisible characters")


# Lower case ASCII only: two names that look alike are then the same name.
Name = Annotated[str, Text(r"[a-z0-9][a-z0-9_-]{0,62}", "a name of a-z, 0-9, _ and -")]
Identifier = Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,199}", "an identifier")]
FileName = Annotated[str, Text(FILE_NAME, "a plain lower-case file name")]
Sha256 = Annotated[str, Text(r"[0-9a-f]{64}", "a SHA-256 digest")]
LakeCommit = Annotated[str, Text(r"[0-9a-f]{64}", "a full commit id of 64 hex digits")]
GitCommit = Annotated[str, Text(r"[0-9a-f]{40}|[0-9a-f]{64}", "a full git commit id")]
Moment = Annotated[
    str,
    Text(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z", "a UTC time"),
]
DECIMAL = Text(r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,39})?", "a plain decimal number")
Decimal = Annotated[str, DECIMAL]
Line = Annotated[str, Sentence(r".{1,500}", "one line of at most 500 characters")]
Size = Annotated[int, AtLeast(0)]
Ordinal = Annotated[int, AtLeast(1)]
Scalar = str | int | bool | None


def to_json(record: Any) -> dict[str, Any]:
    """The JSON object of a dataclass instance, checked by reading it back."""
    written = _write_object(record)
    from_json(type(record), written)
    return written


def from_json(cls: type[R], value: object, where: str = "") -> R:
    """Read `value` as a `cls`.

    Raises: Untrusted for a missing, unknown or mistyped field; the message names its path.
    """
    return typing.cast(R, _read_object(cls, value, where or cls.__name__))


def to_bytes(record: Any) -> bytes:
    """The canonical bytes of a dataclass instance."""
    return canonical.encode(to_json(record))


def from_bytes(cls: type[R], payload: bytes) -> R:
    """Read a signed payload as a `cls`."""
    return from_json(cls, canonical.parse_canonical(payload))


def _write_name(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _write_object(record: Any) -> dict[str, Any]:
    values = ((field, getattr(record, field.name)) for field in dataclasses.fields(record))
    return {
        _write_name(field.name): _write_value(value)
        for field, value in values
        if not (value is None and field.default is None)
    }


def _write_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _write_object(value)
    if isinstance(value, Mapping):
        return {key: _write_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_write_value(item) for item in value]
    return value


def _read_object(cls: Any, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise format_error(f"{where} is not an object")
    fields, hints = _find_fields(cls)
    unknown = sorted(value.keys() - fields.keys())
    if unknown:
        raise format_error(f"{where} has an unknown field {unknown[0][:40]!r}")
    found: dict[str, Any] = {}
    for key, field in fields.items():
        if key in value:
            found[field.name] = _read(hints[field.name], value[key], f"{where}.{key}")
        elif field.default is not None:
            raise format_error(f"{where} lacks {key}")
    return cls(**found)


@functools.cache
def _find_fields(cls: Any) -> tuple[dict[str, dataclasses.Field[Any]], dict[str, Any]]:
    fields = {_write_name(field.name): field for field in dataclasses.fields(cls)}
    return fields, typing.get_type_hints(cls, include_extras=True)


def _read(hint: Any, value: object, where: str) -> object:
    if dataclasses.is_dataclass(hint):
        return _read_object(hint, value, where)
    read = _CONTAINERS.get(typing.get_origin(hint))
    if read is not None:
        return read(hint, value, where)
    # bool is an int to isinstance; a signed `true` must not pass for 1.
    if type(value) is not hint:
        raise format_error(f"{where} is not {_name_type(hint)}")
    return value


def _name_type(hint: Any) -> str:
    return {str: "text", int: "a whole number", bool: "true or false"}.get(hint, "null")


def _read_with_checks(hint: Any, value: object, where: str) -> object:
    base, *checks = typing.get_args(hint)
    text = _read(base, value, where)
    for check in checks:
        check.check(text, where)
    return text


def _read_literal(hint: Any, value: object, where: str) -> object:
    if not isinstance(value, str) or value not in typing.get_args(hint):
        raise format_error(f"{where} is not one of {', '.join(typing.get_args(hint))}")
    return value


def _read_tuple(hint: Any, value: object, where: str) -> object:
    if not isinstance(value, list):
        raise format_error(f"{where} is not an array")
    item, _ = typing.get_args(hint)
    return tuple(_read(item, entry, f"{where}[{place}]") for place, entry in enumerate(value))


def _read_mapping(hint: Any, value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise format_error(f"{where} is not an object")
    key_hint, item = typing.get_args(hint)
    return {
        str(_read(key_hint, key, f"a key of {where}")): _read(item, entry, f"{where}.{key[:40]}")
        for key, entry in value.items()
    }


def _read_union(hint: Any, value: object, where: str) -> object:
    for choice in typing.get_args(hint):
        if (value is None) == (choice is types.NoneType) and _fits(choice, value):
            return None if value is None else _read(choice, value, where)
    raise format_error(f"{where} has the wrong type")


def _fits(choice: Any, value: object) -> bool:
    return choice not in (str, int, bool) or type(value) is choice


_CONTAINERS: dict[Any, Any] = {
    Annotated: _read_with_checks,
    Literal: _read_literal,
    tuple: _read_tuple,
    Mapping: _read_mapping,
    types.UnionType: _read_union,
    typing.Union: _read_union,
}
