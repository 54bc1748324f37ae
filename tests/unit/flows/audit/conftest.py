"""An audit log of some entries, written by the real run transaction."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from security.audit.log import Log, Peaks
    from storage.lake import Pin
    from tests.release_site import Site

REPOSITORY = "flights-releases"


@dataclass(frozen=True)
class Logged:
    """What the log's tests do with it."""

    site: "Site"

    @property
    def pin(self) -> "Pin":
        return self.site.lake.pin(REPOSITORY)

    def tell(self, *subjects: str) -> None:
        from flows.audit import Event, append_events
        from storage.runs import records

        events = [Event("signed", "ana", subject) for subject in subjects]
        run = records.run_id("tell", str(self.pin))
        self.site.context().commit_release("tell", run, lambda run: append_events(run, *events))

    def log(self) -> "Log":
        from flows.audit import read_log

        return read_log(self.site.lake, self.pin)

    def check_grown(self) -> "Peaks":
        from flows.audit import check_grown

        return check_grown(self.site.lake, self.pin, self.site.context().trusted.floors)

    def put(self, entries: list[bytes]) -> None:
        """Write another log in the place of this one, whole and consistent."""
        from security.audit.log import SEGMENT, Peaks
        from security.formats.strict_json import to_bytes
        from storage.registry import layout

        files: dict[str, bytes | None] = {layout.AUDIT_HEAD: to_bytes(Peaks().grow([], entries))}
        for start in range(0, len(entries), SEGMENT):
            part = b"".join(line + b"\n" for line in entries[start : start + SEGMENT])
            files[layout.audit_segment(start // SEGMENT)] = part
        self.site.overwrite(files)


@pytest.fixture
def logged(site: "Site") -> Logged:
    return Logged(site)
