"""in-toto Statement v1: what is claimed (predicate) about which bytes (subjects).

Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from security.errors import format_error
from security.formats import canonical
from security.formats.strict_json import FileName, Sha256, from_json

STATEMENT = "https://in-toto.io/Statement/v1"
MAX_SUBJECTS = 64


@dataclass(frozen=True)
class _Digest:
    sha256: Sha256


@dataclass(frozen=True)
class _Subject:
    name: FileName
    digest: _Digest


@dataclass(frozen=True)
class Statement:
    """Subjects (file name to SHA-256 of its plain bytes) and one predicate of an exact type."""

    subjects: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """The canonical bytes that are signed."""
        subject = [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(self.subjects.items())
        ]
        return canonical.encode(
            {
                "_type": STATEMENT,
                "subject": subject,
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )


def parse_statement(payload: bytes, *, predicate_type: str) -> Statement:
    """Read verified bytes as a statement of exactly `predicate_type`.

    Raises: Untrusted for another type, unknown fields, or subjects that repeat a name.
    """
    fields = canonical.parse_canonical(payload)
    if fields.keys() != {"_type", "subject", "predicateType", "predicate"}:
        raise format_error("the statement does not have exactly the fields of an in-toto statement")
    if fields["_type"] != STATEMENT or fields["predicateType"] != predicate_type:
        raise format_error(f"the statement is not a {predicate_type}")
    if not isinstance(fields["predicate"], dict):
        raise format_error("the predicate is not an object")
    return Statement(_read_subjects(fields["subject"]), predicate_type, fields["predicate"])


def _read_subjects(entries: object) -> dict[str, str]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_SUBJECTS:
        raise format_error(f"a statement has 1 to {MAX_SUBJECTS} subjects")
    read = [from_json(_Subject, entry, "subject") for entry in entries]
    found = {subject.name: subject.digest.sha256 for subject in read}
    if len(found) != len(read):
        raise format_error("the statement names a subject twice")
    return found
