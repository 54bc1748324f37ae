"""The pipeline in a lake that other folders' tests work on, too."""

from tests.release_site import served, site

__all__ = ["served", "site"]
