"""One training on real rows, shared by the tests of every stage that has to do with it.

Imported late: most tests here need neither the data nor scikit-learn.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import polars as pl

    from flows.gate.parity import Parity
    from flows.learn.dataset import Split
    from flows.learn.exported import Exported
    from flows.learn.fit import Fitted
    from storage.features import Frames

CUTOFF = datetime(2013, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def frames() -> "Frames":
    from examples.flights import feed

    return {name: rows.lazy() for name, rows in feed.year().items()}


@pytest.fixture(scope="session")
def labelled(frames: "Frames") -> "pl.DataFrame":
    from examples.flights.pipeline import pipeline
    from flows.learn.dataset import training_frame

    return training_frame(pipeline, frames, cutoff=CUTOFF)


@pytest.fixture(scope="session")
def split(labelled: "pl.DataFrame") -> "Split":
    from examples.flights.pipeline import pipeline
    from flows.learn.dataset import split_by_time

    return split_by_time(pipeline, labelled, cutoff=CUTOFF)


@pytest.fixture(scope="session")
def fitted(split: "Split") -> "Fitted":
    from examples.flights.pipeline import pipeline
    from flows.learn.fit import fit

    return fit(pipeline, split.train)


@pytest.fixture(scope="session")
def files(fitted: "Fitted", split: "Split") -> Mapping[str, bytes]:
    """What a candidate's payload holds of the fitted model."""
    from flows.train.export import export

    return export(fitted, split.holdout)


@pytest.fixture(scope="session")
def model(fitted: "Fitted", files: Mapping[str, bytes]) -> "Exported":
    """The ONNX file, opened."""
    return opened(fitted, files)


@pytest.fixture(scope="session")
def checks(model: "Exported", fitted: "Fitted", split: "Split") -> "Parity":
    """How the export compares with what was fitted."""
    from flows.gate.parity import parity

    return parity(model, fitted.estimator, split.holdout)


def opened(fitted: "Fitted", files: Mapping[str, bytes]) -> "Exported":
    import onnxruntime

    from flows.learn.exported import MODEL, Exported

    session = onnxruntime.InferenceSession(files[MODEL], providers=["CPUExecutionProvider"])
    return Exported(session, fitted.encoding, len(files[MODEL]))


@pytest.fixture(scope="session")
def export_and_compare():  # type: ignore[no-untyped-def]
    """Export a model and compare it with itself on rows: the way from trainer to gate, in short."""
    from flows.gate.parity import parity
    from flows.train.export import export

    def run(fitted: "Fitted", rows: "pl.DataFrame") -> "Parity":
        return parity(opened(fitted, export(fitted, rows)), fitted.estimator, rows)

    return run
