"""The releases repository of a pipeline: candidates, releases, environments."""

from storage.registry.releases import (
    STAGE,
    ReleaseRef,
    download,
    head,
    index,
    index_numbers,
    publish_index,
    register,
    registered,
    upload,
    versions,
)

__all__ = [
    "STAGE",
    "ReleaseRef",
    "download",
    "head",
    "index",
    "index_numbers",
    "publish_index",
    "register",
    "registered",
    "upload",
    "versions",
]
