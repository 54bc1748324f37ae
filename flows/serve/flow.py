"""Serve: verify a registered release whole, then sign the environment's next index.

The prediction service reconciles to the index by itself; nothing is pushed to it.
"""

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.serve.promote import promote
from flows.stage import open_stage
from storage.registry import ReleaseRef


@flow(name="serve", persist_result=False)
def serve(
    release: str,
    reason: str = "promoted",
    environment: str | None = None,
    pipeline: str | None = None,
    actor: str = "serve",
) -> State[Any]:
    """Make `release` what the environment runs. A second start for the same release is a no-op.

    Raises: Untrusted if any verification step fails; the environment is then as it was.
    """
    stage = open_stage(pipeline)
    environment = environment or stage.settings.environment
    promoted = promote(
        stage.lake,
        stage.pipeline,
        ReleaseRef.parse(release),
        environment=environment,
        keys_folder=stage.settings.keys,
        reason=reason,
        actor=actor,
        by=stage.by,
    )
    message = f"{environment} index {promoted.index} names {release}"
    create_markdown_artifact(
        key="index",
        markdown=f"{message}\n\nReason: {reason}\n",
        description="What the environment runs from now on.",
    )
    return Completed(message=message)
