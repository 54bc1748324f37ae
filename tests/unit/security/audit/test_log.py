from dataclasses import replace
from typing import Any

import pytest

from security.audit import merkle
from security.audit.log import (
    SEGMENT,
    AuditEntry,
    Log,
    Peaks,
    check_growth,
    encode_entry,
    sign_checkpoint,
    split_segment,
    verify_checkpoint,
)
from security.errors import BadKey, Untrusted

NOW = "2013-08-01T12:00:00Z"


def entry(number: int, **changes: Any) -> AuditEntry:
    made = AuditEntry(
        number=number,
        kind="index.promoted",
        at=NOW,
        actor="ana",
        subject=f"environments/production/index/{number + 1}",
        transaction="ab" * 32,
        digest="cd" * 32,
        reason="passed its canary",
    )
    return replace(made, **changes)


def log_of(count: int) -> Log:
    return Log(tuple(encode_entry(entry(number)) for number in range(count)))


def peaks_of(log: Log) -> Peaks:
    return Peaks.of(merkle.CompactRange().grow(log.leaves))


def test_an_entry_is_one_canonical_line_that_reads_back() -> None:
    assert encode_entry(entry(3)) == (
        b'{"actor":"ana","at":"2013-08-01T12:00:00Z","digest":"'
        + b"cd" * 32
        + b'","kind":"index.promoted","number":3,"reason":"passed its canary",'
        b'"subject":"environments/production/index/4","transaction":"'
        + b"ab" * 32
        + b'","type":"headrace.dev/audit/v1"}'
    )
    assert log_of(4).entries[3] == entry(3)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "something.else"},
        {"actor": "two\nlines"},
        {"actor": "\u202eana"},
        {"subject": "../escape of a name"},
        {"digest": "CD" * 32},
        {"reason": ""},
        {"at": "yesterday"},
        {"type": "headrace.dev/audit/v2"},
    ],
)
def test_what_no_reader_would_take_is_never_written(changes: dict[str, Any]) -> None:
    with pytest.raises(Untrusted):
        encode_entry(entry(0, **changes))


def test_an_entry_that_bears_another_number_is_refused() -> None:
    moved = Log((encode_entry(entry(1)), encode_entry(entry(0))))
    with pytest.raises(Untrusted, match="entry 0 of the audit log is numbered 1"):
        moved.entries  # noqa: B018


def test_the_log_proves_its_entries_and_its_growth() -> None:
    log, early = log_of(7), log_of(5)
    merkle.verify_inclusion(log.leaves[5], 5, 7, log.inclusion_proof(5), log.root())
    merkle.verify_consistency(5, early.root(), 7, log.root(), log.consistency_proof(5))
    merkle.verify_inclusion(log.leaves[2], 2, 5, log.inclusion_proof(2, 5), early.root())


def test_what_the_log_does_not_have_is_not_proved() -> None:
    with pytest.raises(Untrusted, match="no entry 7"):
        log_of(7).inclusion_proof(7)
    with pytest.raises(Untrusted, match="truncated: it had 8 entries and has 7"):
        log_of(7).consistency_proof(8)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 130])
@pytest.mark.parametrize("added", [1, 2, 64, 70])
def test_peaks_and_last_segment_are_all_that_an_append_needs(size: int, added: int) -> None:
    log = log_of(size + added)
    tail = log.lines[size - size % SEGMENT : size]
    assert peaks_of(log_of(size)).grow(tail, log.lines[size:]) == peaks_of(log)


@pytest.mark.parametrize(
    "damage", [lambda tail: tail[:-1], lambda tail: [*tail, b"{}"], lambda tail: [b"{}", *tail[1:]]]
)
def test_an_append_refuses_a_tail_that_is_not_the_logs_own(damage: Any) -> None:
    log = log_of(70)
    with pytest.raises(Untrusted, match="last segment is not the end of its 70 entries"):
        peaks_of(log).grow(damage(list(log.lines[64:])), [b"{}"])


DAMAGES = [
    (lambda lines: lines[:-1], "truncated: it had 70 entries and has 69"),
    (lambda lines: lines[1:], "truncated"),
    (lambda lines: (lines[1], lines[0], *lines[2:]), "rewritten or forked"),
    (lambda lines: (*lines[:-1], b'{"what":"nothing"}'), "rewritten or forked"),
    (lambda lines: (b"{}", *lines), "rewritten or forked"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_rewritten_past_fails_against_the_stored_checkpoint(
    home: Any, damage: Any, reason: str
) -> None:
    log = log_of(70)
    signed = sign_checkpoint(peaks_of(log), created=NOW, signer=home.signers["timestamp"])
    known = verify_checkpoint(signed, policy=home.policy)
    log.check_grown_from(known.size, known.root)
    log_of(75).check_grown_from(known.size, known.root)
    with pytest.raises(Untrusted, match=reason):
        Log(damage(log.lines)).check_grown_from(known.size, known.root)


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
def test_a_rewritten_past_fails_against_peaks_that_were_kept(damage: Any, reason: str) -> None:
    log = log_of(70)
    forged = Log(damage(log.lines))
    with pytest.raises(Untrusted, match=reason):
        check_growth(peaks_of(log), peaks_of(forged), forged.lines[64:])


@pytest.mark.parametrize("known", [0, 1, 63, 64, 69, 70])
def test_growth_is_checked_by_reading_only_from_the_known_segment_on(known: int) -> None:
    log = log_of(70)
    check_growth(peaks_of(log_of(known)), peaks_of(log), log.lines[known - known % SEGMENT :])


def test_only_the_timestamp_role_signs_checkpoints(home: Any) -> None:
    with pytest.raises(BadKey):
        sign_checkpoint(peaks_of(log_of(1)), created=NOW, signer=home.signers["trainer"])


def test_a_torn_or_overlong_segment_is_refused() -> None:
    assert split_segment(b"a\nb\n") == [b"a", b"b"]
    for segment in (b"a\nb", b"a\n" * (SEGMENT + 1)):
        with pytest.raises(Untrusted, match="torn or too long"):
            split_segment(segment)
