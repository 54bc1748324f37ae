"""What a build says of its pipeline: digests that a gatekeeper compares with its own copy."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flows.pipeline import Pipeline, definition_digest


def fingerprints(pipeline: Pipeline) -> dict[str, str]:
    """The definition's, the features' and the schema's SHA-256, by their names in a `Build`."""
    return {
        "definition_sha256": definition_digest(pipeline),
        "features_sha256": _digest([list(pipeline.features), list(pipeline.categorical)]),
        "schema_sha256": _digest(
            {d.name: _schema(d.contract.columns()) for d in pipeline.datasets}
        ),
    }


def _schema(columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [str(column.dtype), column.nullable] for name, column in columns.items()}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
