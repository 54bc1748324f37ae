"""What a user writes for a model of their own."""

from flows.pipeline.definition import (
    Dataset,
    Estimator,
    Gate,
    Param,
    Pipeline,
    definition_digest,
    load_pipeline,
)

__all__ = [
    "Dataset",
    "Estimator",
    "Gate",
    "Param",
    "Pipeline",
    "definition_digest",
    "load_pipeline",
]
