"""The rows of a prediction request, checked against the signature of the release that answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flows.errors import ContractBroken
from flows.learn.exported import Encoding

MAX_TEXT = 256
AT = "at"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """What a release takes: its features in order, and the name of the pipeline's key.

    `categories` are the known values of each categorical feature; the others are numbers.
    """

    key: str
    features: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    expected: frozenset[str]

    @classmethod
    def of(cls, encoding: Encoding, *, key: str) -> "ModelSignature":
        """The signature that a release's encoding states."""
        return cls(key, encoding.features, encoding.categories, frozenset(encoding.features))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to score, as lists of one length.

    `keys` are the caller's, or the row's number; `at_us` are UTC microseconds since 1970, None
    where the caller gave no time.
    """

    features: list[dict[str, Value]]
    keys: list[str]
    at_us: list[int | None]


def take_rows(records: object, signature: ModelSignature, *, max_rows: int) -> Rows:
    """Check a list of records against the release's signature, and take `key` and `at` out.

    Raises: ContractBroken, naming the row and the column. Types are checked when encoding.
    """
    if not isinstance(records, list) or not records:
        raise ContractBroken("the request holds no rows", rule="rows", remedy="send at least one")
    check_row_count(len(records), max_rows)
    taken = Rows([], [], [])
    for number, record in enumerate(records):
        _take_row(record, number, signature, taken)
    if len(set(taken.keys)) != len(taken.keys):
        raise ContractBroken(
            f"two rows have the same {signature.key}",
            rule="primary_key",
            column=signature.key,
            remedy="send them in two requests: predictions are logged by request and key",
        )
    return taken


def check_row_count(rows: int, most: int) -> None:
    """Raises: ContractBroken if there are more rows than one request may hold."""
    if rows > most:
        raise ContractBroken(
            f"the request holds {rows} rows",
            rule="too_large",
            code="service.too_large",
            remedy=f"send at most {most}",
        )


def _take_row(record: object, number: int, signature: ModelSignature, into: Rows) -> None:
    if not isinstance(record, dict):
        raise ContractBroken(f"row {number} is not an object of feature names", rule="dtype")
    key, at = record.pop(signature.key, None), record.pop(AT, None)
    if record.keys() != signature.expected:
        raise _other_columns(record, number, signature)
    for name in signature.categories:
        _check_text(record[name], name)
    if bool in map(type, record.values()):
        record = {name: float(v) if isinstance(v, bool) else v for name, v in record.items()}
    into.features.append(record)
    into.keys.append(str(number) if key is None else _key(key, signature.key))
    into.at_us.append(None if at is None else _microseconds(at))


def _other_columns(
    record: Mapping[str, Any], number: int, signature: ModelSignature
) -> ContractBroken:
    if missing := [name for name in signature.features if name not in record]:
        return ContractBroken(
            f"row {number} has no {missing[0]}",
            rule="column_missing",
            column=missing[0],
            remedy="send every feature; null where the value is not known",
        )
    extra = min(record.keys() - signature.expected)[:MAX_TEXT]
    return ContractBroken(
        f"row {number} has a column {extra!r} that the release does not take",
        rule="column_unknown",
        column=extra,
        remedy=f"leave it out; beside the features only {signature.key} and {AT} are taken",
    )


def _check_text(value: object, name: str) -> None:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ContractBroken(
            f"{name} is {len(value)} characters long",
            rule="max_length",
            column=name,
            remedy=f"text may have {MAX_TEXT}",
        )


def _key(value: object, name: str) -> str:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not 1 <= len(text) <= MAX_TEXT:
        raise ContractBroken(
            f"{name} is not a text of 1 to {MAX_TEXT} characters, or a whole number",
            rule="dtype",
            column=name,
        )
    return text


def _microseconds(value: object) -> int:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        # Arithmetic on aware datetimes is exact; timestamp() would round to a float.
        since = moment - _EPOCH if moment is not None and moment.tzinfo else None
    except (ValueError, OverflowError):
        since = None
    if since is None:
        raise ContractBroken(
            f"{AT} is not a time with a zone",
            rule="dtype",
            column=AT,
            remedy="write ISO 8601 with an offset, such as 2013-07-01T12:00:00Z",
        )
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
