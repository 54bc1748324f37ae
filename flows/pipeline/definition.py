"""The Pipeline definition: what a user writes for a model of their own.

Everything else in flows/ is written against this and knows nothing of flights.
"""

import functools
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Protocol

import dataframely as dy
import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.errors import Misconfigured
from storage.features import FeatureView, Frames

Param = bool | int | float | str | None

# A lakeFS repository name is 3-63 characters; "-releases" must still fit.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{2,53}")


class Estimator(Protocol):
    """A scikit-learn classifier, as far as Headrace needs it."""

    def fit(self, x: NDArray[Any], y: NDArray[Any], /) -> Any:
        """Learn from x (n, features) and y (n,) of 0 and 1; NaN in x is missing."""
        ...

    def predict_proba(self, x: NDArray[Any], /) -> NDArray[np.float64]:
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


@dataclass(frozen=True)
class Gate:
    """A bound on a metric; the threshold is a decimal string, as it will be signed.

    With `group_by` the bound is on the widest gap of the metric between two groups of
    that categorical feature. The metrics are listed in flows/gate/gates.py.
    """

    metric: str
    comparator: Literal["<=", ">="]
    threshold: str
    group_by: str = ""

    def __post_init__(self) -> None:
        try:
            finite = Decimal(self.threshold).is_finite()
        except InvalidOperation:
            finite = False
        if not finite or self.comparator not in ("<=", ">="):
            raise Misconfigured(
                f"the gate on {self.metric} reads {self.comparator!r} {self.threshold!r}",
                remedy="give <= or >= and a finite decimal number as text",
            )

    def passes(self, value: str) -> bool:
        """Whether a decimal string is within the bound; what is not finite never is."""
        number, bound = Decimal(value), Decimal(self.threshold)
        if not number.is_finite():
            return False
        return number <= bound if self.comparator == "<=" else number >= bound


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
            )
        _require_unique("dataset", [dataset.name for dataset in self.datasets])
        _require_unique("feature view", [view.name for view in self.views])
        _require_unique("feature", self.features)
        if stray := sorted(set(self.categorical) - set(self.features)):
            raise Misconfigured(f"categorical, but no feature: {', '.join(stray)}")
        if stray := sorted({g.group_by for g in self.gates if g.group_by} - set(self.categorical)):
            raise Misconfigured(f"a gate groups by what is not categorical: {', '.join(stray)}")

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
        raise Misconfigured(f"pipeline {self.name} has no dataset {name!r}")

    def reads_since(self, start: datetime) -> datetime | None:
        """The oldest event time that can matter to a prediction at `start`; None for all."""
        timed = [view for view in self.views if view.event_time]
        if any(view.lifetime is None for view in timed):
            return None
        reach = [view.history + (view.lifetime or timedelta(0)) for view in timed]
        return start - max(reach, default=timedelta(0))


def load_pipeline(reference: str) -> Pipeline:
    """The pipeline at `package.module:attribute`.

    Raises: Misconfigured, saying what is missing.
    """
    module, _, attribute = reference.partition(":")
    if not module or not attribute:
        raise Misconfigured(
            f"{reference!r} does not name a pipeline",
            remedy="write package.module:attribute, such as examples.flights.pipeline:pipeline",
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(
            f"cannot load the pipeline {reference}: {error}",
            remedy="check the module and the attribute, and run where it can be imported",
        ) from error
    if not isinstance(found, Pipeline):
        raise Misconfigured(f"{reference} is a {type(found).__name__}, not a Pipeline")
    return found


def definition_digest(pipeline: Pipeline) -> str:
    """SHA-256 (64 hex) of everything in the definition that determines the model.

    Functions count with the whole text of the module they are written in, since the
    constants and helpers they use live there; a changed comment changes the digest, a
    changed window can never hide.
    Raises: Misconfigured if a function's source cannot be read.
    """
    functions = [pipeline.entities, pipeline.labels, pipeline.estimator]
    functions += [view.build for view in pipeline.views]
    contracts = [dataset.contract for dataset in pipeline.datasets]
    definition = {
        "name": pipeline.name,
        "key": pipeline.key,
        "datasets": [_describe_dataset(dataset) for dataset in pipeline.datasets],
        "views": [_describe_view(view) for view in pipeline.views],
        "features": list(pipeline.features),
        "categorical": list(pipeline.categorical),
        "hyperparameters": {k: repr(v) for k, v in pipeline.hyperparameters.items()},
        "training_window": str(pipeline.training_window),
        "functions": [_describe_function(function) for function in functions],
        "sources": sorted({_source_digest(thing) for thing in (*functions, *contracts)}),
    }
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _require_unique(what: str, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if list(names).count(name) > 1}):
        raise Misconfigured(f"{what} named twice: {', '.join(twice)}")


def _describe_dataset(dataset: Dataset) -> dict[str, Any]:
    columns = dataset.contract.columns().items()
    return {
        "name": dataset.name,
        "event_time": dataset.event_time,
        "key": list(dataset.key),
        "columns": {name: [str(column.dtype), column.nullable] for name, column in columns},
    }


def _describe_view(view: FeatureView) -> dict[str, Any]:
    return {
        "name": view.name,
        "keys": list(view.keys),
        "features": {name: str(dtype) for name, dtype in view.features.items()},
        "event_time": view.event_time,
        "lifetime": str(view.lifetime),
        "strictly_before": view.strictly_before,
    }


def _describe_function(function: Any) -> list[Any]:
    """Which function it is, with the values bound into it by partial or closure."""
    if isinstance(function, functools.partial):
        bound = [*function.args, *sorted(function.keywords.items())]
        return [*_describe_function(function.func), *map(_describe_bound, bound)]
    if not inspect.isfunction(function):
        return [function.__module__, function.__qualname__]
    cells = sorted(inspect.getclosurevars(function).nonlocals.items())
    return [function.__module__, function.__qualname__, *map(_describe_bound, cells)]


def _describe_bound(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_describe_bound(item) for item in value]
    if inspect.isfunction(value) or isinstance(value, functools.partial):
        return _describe_function(value)
    if " at 0x" in (text := repr(value)):
        raise Misconfigured(
            f"{text} is bound into a function of the pipeline and cannot be pinned",
            remedy="bind plain values: text, numbers, durations",
        )
    return text


def _source_digest(thing: Any) -> str:
    inner = thing.func if isinstance(thing, functools.partial) else thing
    try:
        source = inspect.getsource(importlib.import_module(inner.__module__))
    except (OSError, TypeError, ImportError) as error:
        raise Misconfigured(
            f"the source of {inner!r} cannot be read, so it cannot be pinned",
            remedy="define it in a module that is part of the commit",
        ) from error
    return hashlib.sha256(source.encode()).hexdigest()
