"""Events are hints that start the next stage sooner; the lake's records are the truth."""

from collections.abc import Mapping

from prefect.events import emit_event

# A model's way: trained -> passed -> registered -> published. prefect.yaml triggers on them.
TRAINED = "headrace.candidate.trained"
PASSED = "headrace.candidate.passed"
REGISTERED = "headrace.release.registered"
PUBLISHED = "headrace.index.published"


def announce(event: str, *, pipeline: str, payload: Mapping[str, str]) -> None:
    """Send one event about a pipeline; a lost one is made good by the reconciler."""
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": f"headrace.pipeline.{pipeline}",
            "prefect.resource.name": pipeline,
        },
        payload=dict(payload),
    )
