"""The Pipeline definition: what a user writes for a model of their own.

Everything else in flows/ is written against this and knows nothing of flights.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import dataframely as dy
import polars as pl
from numpy.typing import NDArray

from flows.arrays import Floats
from flows.errors import Misconfigured
from flows.pipeline.gate_rules import Gate
from storage.features import FeatureView, Frames

Param = bool | int | float | str | None

# A lakeFS repository name is 3-63 characters; "-releases" must still fit.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{2,53}")


class Estimator(Protocol):
    """A scikit-learn classifier, as far as Headrace needs it."""

    def fit(self, x: NDArray[Any], y: NDArray[Any], /) -> Any:
        """Learn from x (n, features) and y (n,) of 0 and 1; NaN in x is missing."""
        ...

    def predict_proba(self, x: NDArray[Any], /) -> Floats:
        """Probabilities (n, 2): of 0, of 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A Delta table: its contract, its event time, and how bad a batch may be.

    `max_quarantined` is the share of a batch's rows that may be quarantined before the
    whole batch is refused; `max_batch_rows` bounds what one batch may hold. Rows whose event
    time is older than `retention` are forgotten by `headrace data expire`; None keeps them.
    """

    name: str
    contract: type[dy.Schema]
    event_time: str | None = None
    max_quarantined: float = 0.05
    max_batch_rows: int = 5_000_000
    retention: timedelta | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key, as the contract states it."""
        return tuple(self.contract.primary_key())


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One model's data, features, labels, estimator and gates.

    entities: frames -> rows to score: `key`, `at` (when the prediction is made, UTC), the
        views' keys, and the features that come with the request itself.
    labels: frames -> `key`, `label` (0 or 1; null when there is none), `known_at`.
    features: the model's inputs in order; Float64, or String if in `categorical`.
    base_rate: the usual share of positives; the gate metric `base_rate_gap` is the
        distance of a training set from it.
    checks_per_false_alarm: about one monitoring check in so many may alarm without cause.
    training_window: how far before the cutoff training reaches; None for all there is.
    Raises: Misconfigured if it contradicts itself.
    """

    name: str
    datasets: tuple[Dataset, ...]
    key: str
    entities: Callable[[Frames], pl.LazyFrame]
    labels: Callable[[Frames], pl.LazyFrame]
    views: tuple[FeatureView, ...]
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    estimator: Callable[[Mapping[str, Param]], Estimator]
    hyperparameters: Mapping[str, Param]
    gates: tuple[Gate, ...]
    holdout: timedelta
    positive: str
    base_rate: float
    training_window: timedelta | None = None
    checks_per_false_alarm: int = 52

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misconfigured(
                f"{self.name!r} cannot name a pipeline",
                remedy="3 to 54 of a-z, 0-9 and -; its lakeFS repositories take the name",
                code="pipeline.invalid",
            )
        _require_unique("dataset", [dataset.name for dataset in self.datasets])
        _require_unique("feature view", [view.name for view in self.views])
        _require_unique("feature", self.features)
        if stray := sorted(set(self.categorical) - set(self.features)):
            raise Misconfigured(
                f"categorical, but no feature: {', '.join(stray)}", code="pipeline.invalid"
            )
        if stray := sorted({g.group_by for g in self.gates if g.group_by} - set(self.categorical)):
            raise Misconfigured(
                f"a gate groups by what is not categorical: {', '.join(stray)}",
                code="pipeline.invalid",
            )

    @property
    def repository(self) -> str:
        """The lakeFS repository of the data."""
        return self.name

    @property
    def releases(self) -> str:
        """The lakeFS repository of the models."""
        return f"{self.name}-releases"

    def dataset(self, name: str) -> Dataset:
        """The dataset of that name.

        Raises: Misconfigured if the pipeline has none.
        """
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        raise Misconfigured(
            f"pipeline {self.name} has no dataset {name!r}",
            remedy=f"name one of {', '.join(dataset.name for dataset in self.datasets)}",
            code="pipeline.unknown_dataset",
        )

    def reads_since(self, start: datetime) -> datetime | None:
        """The oldest event time that can matter to a prediction at `start`; None for all."""
        timed = [view for view in self.views if view.event_time]
        if any(view.lifetime is None for view in timed):
            return None
        reach = [view.history + (view.lifetime or timedelta(0)) for view in timed]
        return start - max(reach, default=timedelta(0))


def _require_unique(what: str, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise Misconfigured(f"{what} named twice: {', '.join(twice)}", code="pipeline.invalid")
