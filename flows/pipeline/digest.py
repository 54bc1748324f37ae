"""Digests of a definition: what a build says of its pipeline, and a gatekeeper compares."""

import functools
import hashlib
import importlib
import inspect
import json
from typing import Any

from flows.errors import Misconfigured
from flows.pipeline.definition import Dataset, Pipeline
from storage.features import FeatureView


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
    return _digest(definition)


def digest_parts(pipeline: Pipeline) -> dict[str, str]:
    """The definition's, the features' and the schema's SHA-256, by their names in a `Build`.

    Raises: Misconfigured, as `definition_digest`.
    """
    return {
        "definition_sha256": definition_digest(pipeline),
        "features_sha256": _digest([list(pipeline.features), list(pipeline.categorical)]),
        "schema_sha256": _digest({d.name: _describe_columns(d) for d in pipeline.datasets}),
    }


def _describe_dataset(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "event_time": dataset.event_time,
        "key": list(dataset.key),
        "columns": _describe_columns(dataset),
    }


def _describe_columns(dataset: Dataset) -> dict[str, list[Any]]:
    columns = dataset.contract.columns().items()
    return {name: [str(column.dtype), column.nullable] for name, column in columns}


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
            code="pipeline.not_pinnable",
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
            code="pipeline.not_pinnable",
        ) from error
    return hashlib.sha256(source.encode()).hexdigest()


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
