"""What a stage's record says of its own work: one frozen dataclass for each stage.

    @dataclass(frozen=True, kw_only=True)
    class MergeDetails(Details):
        source: str
        branch: str
        records: int

    run.describe(MergeDetails(source=..., branch=..., records=3))   # where it is written
    MergeDetails.of(record).branch                                  # where it is read

The class is beside the stage that writes it if only that stage reads it, else in a shared room.
Field names are those of the stored JSON, which records of older versions have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from storage.runs.codec import PLAIN
from storage.runs.records import Record


@dataclass(frozen=True, kw_only=True)
class Details:
    """Base of the details of each stage; `later` holds fields that a later version wrote.

    A field that older records lack has a default; one whose default is None is not written when
    it is None.
    """

    later: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record) -> Self:
        """Read what a record says.

        Raises: StorageError `lake.record_incomplete` or `lake.record_malformed`, naming the
        record and the field.
        """
        return PLAIN.from_plain(cls, record.details, f"The record {record.path}")

    def to_json(self) -> dict[str, Any]:
        """What the record's `details` hold."""
        body: dict[str, Any] = PLAIN.to_plain(self)
        return body
