"""A lake: one lakeFS endpoint, and how to address pinned and branch data in it."""

import re
from contextlib import suppress
from dataclasses import dataclass

from storage.errors import Conflict, Refused
from storage.lake.client import Access, LakeFS

MAIN = "main"
LANDING = "landing"
_FULL_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pin:
    """An exact commit of a repository: the only form in which a run names its input."""

    repository: str
    commit: str

    def __post_init__(self) -> None:
        """Raises Refused for anything but a full 64-hex commit id."""
        if not _FULL_ID.fullmatch(self.commit):
            raise Refused(
                f"{self.commit!r} is not a full commit id of {self.repository}.",
                remedy="A pin is 64 hex digits; resolve a branch or prefix with Lake.pin first.",
            )

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}"

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """The inverse of `str(pin)`."""
        repository, _, commit = text.partition("@")
        return cls(repository, commit)


class Lake:
    """One lakeFS endpoint. `fs` makes the REST calls; tables go through the S3 gateway."""

    def __init__(self, access: Access, *, namespace: str = "local://") -> None:
        self.access = access
        self.fs = LakeFS(access)
        self._namespace = namespace

    def create_pipeline(self, name: str) -> None:
        """Create the data and the releases repository of a pipeline, or what is missing of them."""
        for repository in (name, releases(name)):
            self.fs.create_repository(repository, namespace=f"{self._namespace}{repository}")
            with suppress(Conflict):
                self.fs.create_branch(repository, LANDING, source=MAIN)
            self.fs.protect(repository, MAIN)

    def pin(self, repository: str, ref: str = MAIN) -> Pin:
        """The commit that `ref` names now."""
        return Pin(repository, self.fs.resolve(repository, ref).id)

    @property
    def storage_options(self) -> dict[str, str]:
        """What deltalake and polars need to read and write `s3://` here."""
        return {
            "aws_endpoint_url": self.access.endpoint.rstrip("/"),
            "aws_access_key_id": self.access.access_key_id,
            "aws_secret_access_key": self.access.secret_access_key,
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
            "aws_virtual_hosted_style_request": "false",
            "aws_conditional_put": "etag",
        }


def releases(pipeline: str) -> str:
    """The repository that holds a pipeline's models, environments and policy."""
    return f"{pipeline}-releases"


def url(repository: str, ref: str, path: str) -> str:
    """The S3 address of a path at a commit (reads) or on a run branch (writes)."""
    return f"s3://{repository}/{ref}/{path}"
