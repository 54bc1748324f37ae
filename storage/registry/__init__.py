"""The releases repository of a pipeline: candidates, releases, environments."""

from storage.registry.layout import ReleaseRef
from storage.registry.releases import (
    IndexDraft,
    ReleaseDraft,
    download,
    environments,
    find_registration,
    head,
    index,
    index_numbers,
    models,
    publish_index,
    register,
    upload,
    versions,
)

__all__ = [
    "IndexDraft",
    "ReleaseDraft",
    "ReleaseRef",
    "download",
    "environments",
    "find_registration",
    "head",
    "index",
    "index_numbers",
    "models",
    "publish_index",
    "register",
    "upload",
    "versions",
]
