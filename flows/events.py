"""Events are hints that start the next stage sooner; the lake's records are the truth."""

from collections.abc import Mapping

from prefect.events import emit_event


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
