"""The audit log in the lake: one call writes, in the commit of what it tells of where there is one.

events    what can be told, and how it is made from a release, a policy or an error
writing   into a run's own commit, or into one of its own
spool     what a lake that does not answer has yet to be told
reading   the log at a commit, and how far this installation knows it
examine   does the log hold, and does it agree with the repository
"""

from flows.audit.events import (
    SERVICE,
    Event,
    policy_events,
    refusal_event,
    registration_events,
    signed_event,
    tidy_line,
)
from flows.audit.reading import check_grown, read_log
from flows.audit.writing import (
    append_events,
    collect_events,
    hand_over,
    record_events,
    record_refusals,
)

__all__ = [
    "SERVICE",
    "Event",
    "append_events",
    "check_grown",
    "collect_events",
    "hand_over",
    "policy_events",
    "read_log",
    "record_events",
    "record_refusals",
    "refusal_event",
    "registration_events",
    "signed_event",
    "tidy_line",
]
