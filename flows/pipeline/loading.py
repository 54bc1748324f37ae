"""From the name of a pipeline to its definition."""

import importlib

from flows.errors import Misconfigured
from flows.pipeline.definition import Pipeline


def load_pipeline(reference: str) -> Pipeline:
    """The pipeline at `package.module:attribute`.

    Raises: Misconfigured, saying what is missing.
    """
    module, _, attribute = reference.partition(":")
    if not module or not attribute:
        raise Misconfigured(
            f"{reference!r} does not name a pipeline",
            remedy="write package.module:attribute, such as examples.flights.pipeline:pipeline",
            code="pipeline.not_found",
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(
            f"cannot load the pipeline {reference}: {error}",
            remedy="check the module and the attribute, and run where it can be imported",
            code="pipeline.not_found",
        ) from error
    if not isinstance(found, Pipeline):
        raise Misconfigured(
            f"{reference} is a {type(found).__name__}, not a Pipeline", code="pipeline.not_found"
        )
    return found
