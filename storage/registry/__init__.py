"""The releases repository of a pipeline: candidates, releases, environments."""

from storage.registry.layout import ReleaseRef
from storage.registry.releases import (
    download,
    environments,
    head,
    index,
    index_numbers,
    models,
    publish_index,
    register,
    registered,
    upload,
    versions,
)

__all__ = [
    "ReleaseRef",
    "download",
    "environments",
    "head",
    "index",
    "index_numbers",
    "models",
    "publish_index",
    "register",
    "registered",
    "upload",
    "versions",
]
