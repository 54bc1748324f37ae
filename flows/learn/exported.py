"""An exported model: its files, its encoding, and the probabilities that it gives."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flows.arrays import Floats, Floats32

MODEL, SKOPS, ENCODING, EXAMPLE = "model.onnx", "model.skops", "encoding.json", "example.json"
PROFILE = "profile.json"
# Names of the ONNX graph's input and output.
INPUT, PROBABILITIES = "features", "probabilities"
ENCODING_FORMAT = "headrace-encoding/v1"


@dataclass(frozen=True)
class Encoding:
    """Feature order, and for each categorical feature its categories; the code is the place.

    Null and what was not seen when fitting become NaN, which the trees take as missing.
    """

    features: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]

    def matrix(self, frame: pl.DataFrame) -> Floats32:
        """Shape (n, features). float32, because that is what the service computes with.

        An estimator is never given anything else: many thresholds are data values, and a
        double that was not rounded can fall on the other side of one.
        """
        columns = [self._codes(name) for name in self.features]
        encoded: Floats32 = frame.select(columns).to_numpy().astype(np.float32, copy=False)
        return encoded

    def to_json(self) -> bytes:
        """Canonical JSON, the sidecar that goes with the ONNX file."""
        document = {
            "format": ENCODING_FORMAT,
            "features": list(self.features),
            "categories": {name: list(known) for name, known in self.categories.items()},
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, document: bytes) -> "Encoding":
        """The inverse of `to_json`, for an encoding that was verified before."""
        found = json.loads(document)
        categories = {name: tuple(known) for name, known in found["categories"].items()}
        return cls(tuple(found["features"]), categories)

    def _codes(self, name: str) -> pl.Expr:
        column = pl.col(name)
        if name in self.categories:
            codes = {category: float(i) for i, category in enumerate(self.categories[name])}
            column = column.replace_strict(codes, default=None, return_dtype=pl.Float64)
        return column.cast(pl.Float32).fill_null(float("nan")).alias(name)


@dataclass(frozen=True)
class Exported:
    """An opened ONNX model behind its own encoding. `size` is that of its file, in bytes."""

    session: Any
    encoding: Encoding
    size: int

    @classmethod
    def read(cls, folder: Path, session: Any) -> "Exported":
        """The model of a private, verified folder; `session` is its ONNX file, opened safely."""
        encoding = Encoding.from_json((folder / ENCODING).read_bytes())
        return cls(session, encoding, (folder / MODEL).stat().st_size)

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Probability of the positive class, shape (n,), for a `feature_frame` of n rows."""
        return self.probabilities(self.encoding.matrix(frame))[:, 1].astype(np.float64)

    def probabilities(self, matrix: Floats32) -> Floats32:
        """Shape (n, 2): of 0, of 1."""
        output: Floats32 = self.session.run([PROBABILITIES], {INPUT: matrix})[0]
        return output
