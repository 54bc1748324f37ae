"""The files of an exported model, and its probabilities as whoever opened them computes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flows.arrays import Floats, Floats32
from flows.learn.fit import Encoding

MODEL, SKOPS, ENCODING, EXAMPLE = "model.onnx", "model.skops", "encoding.json", "example.json"
PROFILE = "profile.json"
# Names of the ONNX graph's input and output.
INPUT, PROBABILITIES = "features", "probabilities"


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
