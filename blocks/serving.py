"""Where an environment's models answer."""

import httpx
from pydantic import Field

from blocks.closed import ClosedBlock


class ServingTarget(ClosedBlock):
    """An environment and the prediction service that reconciles to its index.

    Example:
        Ask the service:
        ```python
        from blocks import ServingTarget

        target = ServingTarget.load("BLOCK_NAME")
        with target.get_client() as client:
            client.get("/v2/health/ready")
        ```
    """

    _block_type_name = "Serving Target"
    _block_type_slug = "headrace-serving-target"

    environment: str = Field(
        default="production",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="Name of the environment, as in environments/<name>/index.",
    )
    url: str = Field(description="Address of the prediction service, without a path.")
    timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds to wait for an answer of the service."
    )

    def get_client(self) -> httpx.Client:
        """An HTTP client at the service; close it after use."""
        return httpx.Client(base_url=self.url, timeout=self.timeout_s)
