"""What the prediction service says of itself."""

import time
from typing import Any

import httpx

from flows.errors import Misconfigured


class Service:
    """The service's /status, as the demo needs it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def release(self) -> str | None:
        """What answers now, as `flights/3`; None before the first release."""
        serving = self._status()["serving"]
        return str(serving["release"]) if serving else None

    def refused(self) -> dict[str, Any] | None:
        """The last release it would not load, and why."""
        found: dict[str, Any] | None = self._status()["refused"]
        return found

    def await_delivered(self, patience_s: float) -> None:
        """Wait until every accepted prediction lies in the landing branch.

        Raises: Misconfigured if rows were lost, or still wait after `patience_s`.
        """
        end = time.monotonic() + patience_s
        while (rows := self._status()["predictions"])["spooled"]:
            if time.monotonic() > end:
                raise Misconfigured(
                    f"{rows['spooled']} predictions still wait to be delivered.",
                    remedy="See .headrace/logs/service.log for what holds them.",
                )
            time.sleep(0.2)
        if rows["lost"]:
            raise Misconfigured(f"{rows['lost']} predictions were lost: the spool was full.")

    def _status(self) -> dict[str, Any]:
        try:
            reply = httpx.get(f"{self.url}/status", timeout=10, trust_env=False)
        except httpx.TransportError as error:
            raise Misconfigured(
                f"The prediction service at {self.url} does not answer.",
                remedy="Start it with `headrace up`; its log is .headrace/logs/service.log.",
            ) from error
        found: dict[str, Any] = reply.json()
        return found
