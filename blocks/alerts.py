"""Whom to tell."""

import httpx
from pydantic import Field, SecretStr

from blocks.closed import ClosedBlock


class Alerts(ClosedBlock):
    """A webhook for what a person should look at; without one, alerts stay in the run's log.

    Example:
        Send an alert:
        ```python
        from blocks import Alerts

        alerts = Alerts.load("BLOCK_NAME")
        alerts.notify("drift in flights", subject="monitor")
        ```
    """

    _block_type_name = "Alerts"
    _block_type_slug = "headrace-alerts"

    webhook_url: SecretStr | None = Field(
        default=None, description="Address to post alerts to; it is itself the credential."
    )
    timeout_s: float = Field(
        default=5.0, gt=0, description="Seconds to wait until the webhook took an alert."
    )

    def notify(self, body: str, *, subject: str = "") -> bool:
        """Post the text in the form that Slack and Mattermost read; False if nobody is to be told.

        Raises: httpx.HTTPError if the webhook did not take it.
        """
        if self.webhook_url is None:
            return False
        text = f"{subject}: {body}" if subject else body
        url = self.webhook_url.get_secret_value()
        httpx.post(url, json={"text": text}, timeout=self.timeout_s).raise_for_status()
        return True
