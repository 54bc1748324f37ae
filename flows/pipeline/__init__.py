"""What a user writes for a model of their own."""

from flows.pipeline.definition import Dataset, Estimator, Param, Pipeline
from flows.pipeline.digest import definition_digest
from flows.pipeline.gate_rules import Gate
from flows.pipeline.loading import load_pipeline

__all__ = [
    "Dataset",
    "Estimator",
    "Gate",
    "Param",
    "Pipeline",
    "definition_digest",
    "load_pipeline",
]
