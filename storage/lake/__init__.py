"""A lakeFS endpoint: its client, and how to address pinned and branch data in it."""

from storage.lake.addresses import LANDING, MAIN, Lake, Pin, releases, url

__all__ = ["LANDING", "MAIN", "Lake", "Pin", "releases", "url"]
