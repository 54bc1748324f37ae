"""An application's requests, replayed: every flight of a month, asked for as it departed."""

import itertools
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import polars as pl

from flows.errors import EmptyWindow, Misconfigured
from flows.learn.dataset import feature_frame
from flows.pipeline import Pipeline
from storage.features import Frames

ROWS_A_REQUEST = 500


def requests(
    pipeline: Pipeline, frames: Frames, *, start: datetime, end: datetime
) -> Iterator[list[dict[str, Any]]]:
    """Batches of rows as the application sends them: key, `at` and features as then known.

    Raises: EmptyWindow if nothing departs in [start, end).
    """
    rows = feature_frame(pipeline, frames, start=start, end=end).collect()
    if rows.is_empty():
        raise EmptyWindow(f"no flight departs between {start} and {end}")
    text = rows.with_columns(pl.col("at").dt.to_string("iso:strict"))
    for chunk in text.iter_slices(ROWS_A_REQUEST):
        yield chunk.to_dicts()


def replay(
    service_url: str, batches: Iterator[list[dict[str, Any]]], *, name: str
) -> dict[str, int]:
    """Send every batch; answers rows by the release that answered them.

    Raises: Misconfigured if the service refuses a request or is not there.
    """
    answered: dict[str, int] = {}
    with httpx.Client(base_url=service_url, timeout=30, trust_env=False) as client:
        for number, rows in zip(itertools.count(), batches, strict=False):
            reply = _send(client, rows, request_id=f"{name}-{number:04d}")
            release = reply.headers["x-release"]
            answered[release] = answered.get(release, 0) + len(rows)
    return answered


def _send(client: httpx.Client, rows: list[dict[str, Any]], *, request_id: str) -> httpx.Response:
    for attempt in range(20):
        try:
            reply = client.post(
                "/invocations",
                json={"dataframe_records": rows},
                headers={"X-Request-Id": request_id},
            )
        except httpx.TransportError as error:
            raise Misconfigured(
                f"The prediction service at {client.base_url} does not answer.",
                remedy="Start it with `headrace up`; its log is .headrace/logs/service.log.",
            ) from error
        if reply.status_code != 503:
            break
        # Overloaded or between two models: it says when to come back.
        time.sleep(min(float(reply.headers.get("Retry-After", "1")), 2.0) * (1 + attempt / 10))
    if reply.is_error:
        raise Misconfigured(
            f"The prediction service refused a request ({reply.status_code}): {reply.text[:300]}"
        )
    return reply
