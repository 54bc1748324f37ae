"""From a request's rows to the model's input, by the sidecar of the release.

One row takes a few microseconds; polars would take longer to start.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.errors import ContractBroken, Misconfigured

Row = Mapping[str, float | int | str | None]


class EncodingFile(BaseModel):
    """`encoding.json` as it stands in a release."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["headrace-encoding/v1"]
    features: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]


class Encoder:
    """Encodes rows exactly as fitting did, and counts the categories that fitting never saw.

    `unknown` holds the counts by feature since the encoder was made; null is not counted.
    """

    def __init__(self, features: Sequence[str], categories: Mapping[str, Sequence[str]]) -> None:
        self.features = tuple(features)
        self.unknown: dict[str, int] = dict.fromkeys(categories, 0)
        self._columns = [
            (name, {c: float(i) for i, c in enumerate(categories[name])})
            if name in categories
            else (name, None)
            for name in self.features
        ]

    @classmethod
    def from_json(cls, document: bytes) -> Self:
        """Read the sidecar.

        Raises: Misconfigured if it is not an encoding of this format.
        """
        try:
            parsed = EncodingFile.model_validate_json(document)
        except ValidationError as error:
            raise Misconfigured(
                f"the release's encoding.json cannot be used: {error.error_count()} faults",
                remedy="serve a release that this version of Headrace exported",
            ) from error
        return cls(parsed.features, parsed.categories)

    def encode(self, rows: Sequence[Row]) -> NDArray[np.float32]:
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
            return _number(value, name)
        if not isinstance(value, str):
            raise ContractBroken(f"{name} is not text", rule="dtype", column=name)
        code = codes.get(value)
        if code is None:
            self.unknown[name] += 1
            return np.nan
        return code


def _number(value: Any, name: str) -> float:
    if type(value) not in (float, int):
        raise ContractBroken(f"{name} is not a number", rule="dtype", column=name)
    try:
        return float(value)
    except OverflowError:
        raise ContractBroken(f"{name} is too large a number", rule="max", column=name) from None
