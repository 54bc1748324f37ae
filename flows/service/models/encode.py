"""From a request's rows to the model's input, by the release's own encoding.

One row takes a few microseconds; polars would take longer to start.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.arrays import Floats32
from flows.errors import ContractBroken, Misconfigured
from flows.learn.exported import Encoding

Row = Mapping[str, float | int | str | None]


class EncodingFile(BaseModel):
    """`encoding.json` of a release, read strictly: an unknown key may change what a row means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["headrace-encoding/v1"]
    features: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]


def read_encoding(document: bytes) -> Encoding:
    """Read a release's `encoding.json`. Raises: Misconfigured if it is of another format."""
    try:
        found = EncodingFile.model_validate_json(document)
    except ValidationError as error:
        raise Misconfigured(
            f"the release's encoding.json cannot be used: {error.error_count()} faults",
            remedy="serve a release that this version of Headrace exported",
        ) from error
    return Encoding(found.features, found.categories)


class Encoder:
    """Encodes rows exactly as fitting did, and counts the categories that fitting never saw.

    `unknown` holds the counts by feature since the encoder was made; null is not counted.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.features, known = encoding.features, encoding.categories
        self.unknown: dict[str, int] = dict.fromkeys(known, 0)
        self._columns = [
            (name, {c: float(i) for i, c in enumerate(known[name])} if name in known else None)
            for name in self.features
        ]

    def encode(self, rows: Sequence[Row]) -> Floats32:
        """Shape (rows, features); null and unknown categories are NaN.

        Raises: ContractBroken, naming the feature, if one is absent or of the wrong kind.
        """
        encoded = np.empty((len(rows), len(self.features)), dtype=np.float32)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as it was when fitting
            for i, row in enumerate(rows):
                encoded[i] = [self._code(row, name, codes) for name, codes in self._columns]
        return encoded

    def _code(self, row: Row, name: str, codes: Mapping[str, float] | None) -> float:
        try:
            value: Any = row[name]
        except KeyError:
            raise ContractBroken(
                f"the row has no feature {name}", rule="column_missing", column=name
            ) from None
        if value is None:
            return np.nan
        if codes is None:
            return _read_number(value, name)
        if not isinstance(value, str):
            raise ContractBroken(f"{name} is not text", rule="dtype", column=name)
        code = codes.get(value)
        if code is None:
            self.unknown[name] += 1
            return np.nan
        return code


def _read_number(value: Any, name: str) -> float:
    if type(value) not in (float, int):
        raise ContractBroken(f"{name} is not a number", rule="dtype", column=name)
    try:
        return float(value)
    except OverflowError:
        raise ContractBroken(f"{name} is too large a number", rule="max", column=name) from None
