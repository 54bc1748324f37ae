"""What all blocks here have in common."""

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import ConfigDict, HttpUrl


class ClosedBlock(Block):
    """A block that refuses fields it does not know; Prefect's own base accepts them silently.

    There is no logo: the browser would fetch it from outside.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://docs.prefect.io/v3/concepts/blocks"
    )
