"""Which grant an S3 request needs, and what its conditions say of the object it finds."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_plus

from storage.embedded.graph.ranges import ObjectEntry
from storage.embedded.keys.access_keys import Key, Right
from storage.embedded.s3.errors import S3Refused

COPY_SOURCE = "x-amz-copy-source"
# What a bucket tells of itself, rather than of what is in it.
_PROPERTIES = ("location", "versioning")
Names = tuple[str, str, str]


def check_request(key: Key, method: str, names: Names, query: Mapping[str, str]) -> None:
    """Raises: S3Refused if the key's grants are not enough for what the path names."""
    repository, ref, path = names
    if not repository:
        return  # ListBuckets shows what the key may see.
    if method == "POST" and not ref:
        require(key.may_see(repository))
        return  # DeleteObjects checks each object.
    reads = method in ("GET", "HEAD")
    right = Right.READ if reads else Right.WRITE
    if path:
        require(key.may(right, repository, ref))
    elif method == "HEAD" or (reads and any(name in query for name in _PROPERTIES)):
        require(key.may_see(repository))
    else:
        listed, slash, _ = query.get("prefix", "").partition("/")
        require(key.may(right, repository, listed if reads and slash else None))


def check_source(key: Key, source: Names) -> None:
    """The same for what a copy reads. Raises: S3Refused."""
    repository, ref, _ = source
    require(key.may(Right.READ, repository, ref))


def require(allowed: bool) -> None:
    """Raises: S3Refused."""
    if not allowed:
        raise S3Refused("AccessDenied")


def parse_copy_source(headers: Mapping[str, str]) -> Names:
    """The (repository, ref, path) that a copy reads. Raises: S3Refused."""
    parts = unquote_plus(headers[COPY_SOURCE]).lstrip("/").split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise S3Refused(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey.",
        )
    return parts[0], parts[1], parts[2]


def is_unmodified(headers: Mapping[str, str], found: ObjectEntry) -> bool:
    """Whether a GET or HEAD may be answered 304. Raises: S3Refused if a precondition fails.

    Source: RFC 9110, section 13.2.2.
    """
    if "if-match" in headers:
        if not _does_name(headers["if-match"], found.etag):
            raise S3Refused("PreconditionFailed")
    elif found.modified_s > (_parse_time(headers.get("if-unmodified-since")) or found.modified_s):
        raise S3Refused("PreconditionFailed")
    if "if-none-match" in headers:
        return _does_name(headers["if-none-match"], found.etag)
    since = _parse_time(headers.get("if-modified-since"))
    return since is not None and found.modified_s <= since


def _does_name(condition: str, etag: str) -> bool:
    told = [tag.strip().removeprefix("W/").strip('"') for tag in condition.split(",")]
    return "*" in told or etag in told


def _parse_time(header: str | None) -> float | None:
    try:
        return parsedate_to_datetime(header).timestamp() if header else None
    except (ValueError, OverflowError):
        return None  # a date that cannot be read is no condition
