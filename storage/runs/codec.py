"""The one way between frozen dataclasses and unsigned JSON; signed documents have their own.

A dataclass with a field `later` is open: fields that a later version wrote go there and are
written back, a field with a default may be missing, and one whose default is None is left out
when it is None. Any other dataclass is exact: all of its fields and no other.
"""

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, TypeVar

from storage.errors import StorageError

T = TypeVar("T")

LATER = "later"
_SHOWN = 60
_REMEDY = "Read it with the version of Headrace that wrote it."


@dataclass(frozen=True, slots=True)
class Codec:
    """How a value is written where JSON leaves a choice.

    `canonical`: numbers that are not whole are decimal strings and times end in Z, so that equal
    values have equal bytes; NaN is refused. Otherwise JSON numbers, and ISO 8601 as it is.
    """

    canonical: bool = False

    def to_plain(self, value: object) -> Any:
        """The value as dicts, lists, texts and numbers. Raises: StorageError for a NaN."""
        if is_dataclass(value) and not isinstance(value, type):
            return self._object(value)
        if isinstance(value, Mapping):
            return {key: self.to_plain(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [self.to_plain(item) for item in value]
        if isinstance(value, float) and self.canonical:
            return _decimal(value)
        if isinstance(value, datetime) and self.canonical:
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return value.isoformat() if isinstance(value, date) else value

    def from_plain(self, kind: type[T], value: object, where: str) -> T:
        """The inverse of `to_plain`; `where` names the record in an error.

        Raises: StorageError `lake.record_incomplete` for a missing field,
        `lake.record_malformed` for an unknown one in an exact class or a wrong type.
        """
        return typing.cast(T, self._read(kind, value, where))

    def _object(self, record: Any) -> dict[str, Any]:
        kind: Any = type(record)
        is_open = LATER in _shape(kind)
        body: dict[str, Any] = {}
        for one in fields(record):
            value = getattr(record, one.name)
            if one.name == LATER or (is_open and value is None and one.default is None):
                continue
            body[one.name] = self.to_plain(value)
        return {**body, **getattr(record, LATER)} if is_open else body

    def _read(self, kind: Any, value: Any, where: str) -> Any:
        if kind is Any:
            return value
        if is_dataclass(kind):
            return self._read_object(kind, value, where)
        if read := _CONTAINERS.get(typing.get_origin(kind)):
            return read(self, kind, value, where)
        return self._read_scalar(kind, value, where)

    def _read_object(self, kind: Any, value: Any, where: str) -> Any:
        if not isinstance(value, Mapping):
            raise malformed(where, value)
        shape = _shape(kind)
        is_open = LATER in shape
        known = shape.keys() - {LATER}
        unknown = {name: item for name, item in value.items() if name not in known}
        if unknown and not is_open:
            raise StorageError(
                f"{where} has an unknown field {sorted(unknown)[0][:_SHOWN]!r}.",
                remedy=_REMEDY,
                code="lake.record_malformed",
            )
        found: dict[str, Any] = {LATER: unknown} if is_open else {}
        for name, (hint, one) in shape.items():
            if name in value and name != LATER:
                found[name] = self._read(hint, value[name], f"{where}: {name}")
            elif not is_open or _is_required(one):
                raise StorageError(
                    f"{where} lacks the field {name!r}.",
                    remedy=_REMEDY,
                    code="lake.record_incomplete",
                )
        return kind(**found)

    def _read_scalar(self, kind: Any, value: Any, where: str) -> Any:
        if kind is float:
            return self._read_float(value, where)
        if kind in (datetime, date) and isinstance(value, str):
            return _parse(kind.fromisoformat, value, where)
        # bool is an int to isinstance, and 1 is not true.
        if type(value) is kind:
            return value
        raise malformed(where, value)

    def _read_float(self, value: Any, where: str) -> float:
        if not self.canonical and type(value) in (float, int):
            return typing.cast(float, value)
        if self.canonical and isinstance(value, str):
            number = _parse(float, value, where)
            if not math.isnan(number):
                return number
        raise malformed(where, value)

    def _read_tuple(self, kind: Any, value: Any, where: str) -> Any:
        if not isinstance(value, list | tuple):
            raise malformed(where, value)
        item = typing.get_args(kind)[0]
        return tuple(self._read(item, one, f"{where}[{i}]") for i, one in enumerate(value))

    def _read_mapping(self, kind: Any, value: Any, where: str) -> Any:
        if not isinstance(value, Mapping):
            raise malformed(where, value)
        item = typing.get_args(kind)[1]
        return {
            self._read(str, key, where): self._read(item, one, f"{where}: {key}")
            for key, one in value.items()
        }

    def _read_union(self, kind: Any, value: Any, where: str) -> Any:
        choices = typing.get_args(kind)
        if value is None and types.NoneType in choices:
            return None
        left = [choice for choice in choices if choice is not types.NoneType]
        for choice in left[:-1]:
            try:
                return self._read(choice, value, where)
            except StorageError:
                continue
        return self._read(left[-1], value, where)

    def _read_literal(self, kind: Any, value: Any, where: str) -> Any:
        if value not in typing.get_args(kind):
            raise malformed(where, value)
        return value


PLAIN, CANONICAL = Codec(), Codec(canonical=True)


def malformed(where: str, value: object) -> StorageError:
    """The error for a value that is not of its field's type."""
    return StorageError(
        f"{where} has the wrong type: {str(value)[:_SHOWN]!r}.",
        remedy=_REMEDY,
        code="lake.record_malformed",
    )


@cache
def _shape(kind: Any) -> dict[str, tuple[Any, Field[Any]]]:
    """Field name to its type and itself."""
    hints = typing.get_type_hints(kind)
    return {one.name: (hints[one.name], one) for one in fields(kind)}


def _is_required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _decimal(value: float) -> str:
    if math.isnan(value):
        raise StorageError("A record cannot hold NaN.", code="lake.record_malformed")
    return repr(float(value))  # numpy prints its own floats with their type


def _parse(parse: Callable[[str], T], text: str, where: str) -> T:
    try:
        return parse(text)
    except ValueError as cause:
        raise malformed(where, text) from cause


_CONTAINERS: dict[Any, Callable[[Codec, Any, Any, str], Any]] = {
    tuple: Codec._read_tuple,
    Mapping: Codec._read_mapping,
    types.UnionType: Codec._read_union,
    typing.Union: Codec._read_union,
    typing.Literal: Codec._read_literal,
}
