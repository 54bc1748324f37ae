"""Timestamp: say again that the environment's newest index is the newest, before its word ends.

It holds the timestamp key and no other, since that one must lie ready all the time: who steals
it can keep an environment where it is, and cannot change what it runs.
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.audit.checkpoint import refresh_checkpoint
from flows.context import open_run
from flows.release.timestamp import refresh_timestamp


@flow(name="timestamp", persist_result=False)
def timestamp(pipeline: str | None = None, environment: str | None = None) -> State[Any]:
    """Sign if the newest index has no timestamp, or an old one, or if the audit log grew.

    Raises: Untrusted if that index does not verify, or the log was not only added to.
    """
    context = open_run(pipeline)
    environment = environment or context.settings.environment
    signed = refresh_timestamp(context, environment=environment)
    grown = refresh_checkpoint(context)
    return Completed(
        message=f"{environment}: timestamp {'signed' if signed else 'still fresh'}, "
        f"audit log {'checkpointed' if grown else 'unchanged'}"
    )
