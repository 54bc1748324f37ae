"""Verified models in memory: what scores a request, and which of them answers it."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flows.errors import ContractBroken
from flows.service.models.encode import Encoder, EncodingFile
from flows.service.models.rows import Signature, Value
from flows.service.predictions.segments import Columns

INPUT, PROBABILITIES = "features", "probabilities"


class Session(Protocol):
    """An onnxruntime session, as far as it is used here."""

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, NDArray[np.float32]], /
    ) -> Sequence[NDArray[np.float32]]:
        """The outputs by name."""
        ...


class ServedModel:
    """One verified release: signature, encoders and session.

    There is an encoder for the event loop and one for the batch thread, because an encoder
    counts unknown categories without a lock.
    """

    def __init__(
        self,
        *,
        name: str,
        version: int,
        digest: str,
        encoding: EncodingFile,
        key: str,
        session: Session,
    ) -> None:
        self.name, self.version, self.digest = name, version, digest
        self.release = f"{name}/{version}"
        self.signature = Signature.of(encoding, key=key)
        self._session = session
        self._inline = Encoder(encoding.features, encoding.categories)
        self._batch = Encoder(encoding.features, encoding.categories)
        self.columns = ""

    def score(self, rows: Sequence[Mapping[str, Value]], *, inline: bool) -> list[float]:
        """Probabilities of the positive class; `inline` means on the event loop.

        Raises: ContractBroken for a value of the wrong kind or beyond float32.
        """
        matrix = self._encode(rows, self._inline if inline else self._batch)
        scores: list[float] = self._session.run([PROBABILITIES], {INPUT: matrix})[0][:, 1].tolist()
        return scores

    def unknown_categories(self) -> dict[str, int]:
        """Values that fitting never saw, by feature, since the release was loaded."""
        return {
            name: count + self._batch.unknown[name] for name, count in self._inline.unknown.items()
        }

    def spool_columns(self) -> Columns:
        """The columns of the predictions table for this release, in its order."""
        kinds: Columns = {
            "request_id": "String",
            self.signature.key: "String",
            "at": "Moment",
            "predicted_at": "Moment",
            "release": "String",
            "score": "Float64",
        }
        known = self.signature.categories
        return {**kinds} | {
            name: "String" if name in known else "Float64" for name in self.signature.features
        }

    def _encode(self, rows: Sequence[Mapping[str, Value]], encoder: Encoder) -> NDArray[np.float32]:
        matrix = encoder.encode(rows)
        if np.isinf(matrix).any():
            raise ContractBroken(
                "a number is beyond the range of float32",
                rule="range",
                remedy="the model computes with numbers up to 3.4e38",
            )
        return matrix


@dataclass(frozen=True, slots=True)
class Deployment:
    """What one signed index says should run: a champion, perhaps a canary, perhaps a shadow."""

    index: int
    index_digest: str
    champion: ServedModel
    canary: ServedModel | None = None
    canary_percent: int = 0
    shadow: ServedModel | None = None

    def choose(self, request_id: str) -> ServedModel:
        """Who answers: the same for the same request id."""
        if self.canary and zlib.crc32(request_id.encode()) % 100 < self.canary_percent:
            return self.canary
        return self.champion

    def named(self, model: str, version: str) -> ServedModel | None:
        """The release that a path names; None if it answers nobody here."""
        for one in (self.champion, self.canary):
            if one and (one.name, str(one.version)) == (model, version):
                return one
        return None

    @property
    def models(self) -> list[ServedModel]:
        """Everything that is loaded."""
        return [one for one in (self.champion, self.canary, self.shadow) if one]
