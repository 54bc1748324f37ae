"""What this server can do besides lakeFS's API, under /_headrace; only an admin key may ask."""

from dataclasses import asdict
from functools import partial

from anyio import to_thread
from pydantic import Field
from starlette.responses import Response

from storage.embedded.http.calls import Body, Call, reply
from storage.embedded.upkeep.collection import DEFAULT_GRACE_S, collect


class Collection(Body):
    """Which garbage may go."""

    grace_s: float = Field(default=DEFAULT_GRACE_S, ge=0, allow_inf_nan=False)
    dry_run: bool = False


async def gc(call: Call) -> Response:
    """Collect garbage while everybody goes on."""
    asked = await call.body(Collection)
    work = partial(collect, call.lake, grace_s=asked.grace_s, dry_run=asked.dry_run)
    done = await to_thread.run_sync(work, limiter=call.service.head_changes)
    if not done.dry_run:
        call.service.metrics.collected(done)
    return reply(asdict(done))


PREFIX = "/_headrace"
ROUTES = [("POST", "/gc", gc)]
