import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.audit.events import (
    Event,
    policy_events,
    refusal_event,
    registration_events,
    signed_event,
    tidy_line,
)
from security.audit.log import AuditEntry, encode_entry
from security.errors import Untrusted, cannot_decrypt
from security.formats.envelope import Verified
from security.formats.strict_json import from_bytes, to_bytes
from security.keys.pairs import Recipient, Signer
from security.policy.documents import RecipientRecord
from security.policy.edition import load_policy
from security.policy.key_homes import load_signer
from security.policy.role_keys import Retirement, enrol, retire
from security.policy.root_and_recipients import drop_recipient, enrol_recipient
from storage import registry
from storage.errors import NotFound
from storage.registry import ReleaseRef
from tests.release_site import Site

MOMENT = "2013-07-01T00:00:00Z"
KEY = "ab" * 32
SUBJECT = "models/flights/1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ana", "ana"),
        ("  two\n lines\t", "two lines"),
        ("", "-"),
        (" \n ", "-"),
        ("a\x00b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\u202eb", "a\N{REPLACEMENT CHARACTER}b"),
        ("x" * 500, "x" * 500),
        ("x" * 501, "x" * 499 + "…"),
    ],
)
def test_a_text_becomes_one_visible_line(text: str, line: str) -> None:
    assert tidy_line(text) == line


@settings(max_examples=40)
@given(st.text(max_size=600))
def test_a_line_is_visible_short_and_stays_as_it_is(text: str) -> None:
    line = tidy_line(text)
    assert 0 < len(line) <= 500
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in line)
    assert tidy_line(line) == line


@settings(max_examples=40)
@given(actor=st.text(), reason=st.text(), said=st.text(), number=st.integers(0, 2**40))
def test_any_event_has_an_entry_that_every_reader_takes(
    actor: str, reason: str, said: str, number: int
) -> None:
    event = Event("signed", actor, SUBJECT, reason=reason, detail={"said": said}, at=MOMENT)
    entry = event.entry(number, "run-1")
    assert from_bytes(AuditEntry, encode_entry(entry)) == entry
    assert (entry.number, entry.transaction, entry.actor) == (number, "run-1", tidy_line(actor))


def test_a_signature_is_told_with_the_payloads_digest() -> None:
    told = signed_event(Verified(b"payload", (KEY,)), actor="ana", subject=SUBJECT, role="trainer")
    assert told.digest == "239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5"
    assert (told.kind, told.role, told.key_ids) == ("signed", "trainer", (KEY,))


@settings(max_examples=25)
@given(secret=st.text("0123456789abcdef", min_size=16, max_size=40), person=st.emails())
def test_what_a_library_says_is_not_quoted(secret: str, person: str) -> None:
    """It may hold a secret or a person: only our own errors are quoted."""
    told = refusal_event("ana", SUBJECT, ValueError(f"{person} {secret}"), step="promotion")
    assert (told.reason, told.detail) == (
        "ValueError",
        {"step": "promotion", "problem": "ValueError"},
    )
    text = to_bytes(told.tidied()).decode()
    assert secret not in text
    assert person not in text


def test_our_own_errors_are_quoted_and_a_failed_decryption_says_what_no_caller_gets() -> None:
    for error in (Untrusted("it is forged"), NotFound("it is not there")):
        told = refusal_event("ana", SUBJECT, error)
        assert (told.kind, told.reason) == ("refused", str(error))
        assert told.detail == {"problem": type(error).__name__}
    told = refusal_event("ana", SUBJECT, cannot_decrypt("the tag is wrong"), detail={"at": "x"})
    assert told.kind == "decryption.failed"
    assert told.detail == {"problem": "CannotDecrypt", "at": "x", "withheld": "the tag is wrong"}
    assert "tag" not in str(told.reason)


def told_of(events: tuple[Event, ...]) -> list[tuple[str, str, str | None]]:
    return [(one.kind, one.subject, one.role) for one in events]


def test_the_first_policy_tells_of_every_key(keys: Path) -> None:
    policy = load_policy(keys)
    events = policy_events(None, policy, "ana")
    assert told_of(events)[:2] == [
        ("policy.published", "policy/trust.dsse.json", "root"),
        ("policy.published", "policy/rules.dsse.json", "policy"),
    ]
    assert [one.digest for one in events[:2]] == [policy.digests.trust, policy.digests.rules]
    enrolled = {(one.subject, one.role) for one in events if one.kind == "key.enrolled"}
    assert enrolled == {
        (f"keys/{pair.key_id}", role) for role in policy.trust.roles for pair in policy.pairs(role)
    }
    readers = {one.subject for one in events if one.kind == "recipient.added"}
    assert readers == {f"keys/{one.recipient_id}" for one in policy.recipients}
    assert len(events) == 2 + len(enrolled) + len(readers)


def test_a_later_policy_tells_of_what_changed_and_of_nothing_else(keys: Path) -> None:
    root, before = load_signer(keys, "root"), load_policy(keys)
    old = before.pairs("trainer")[0].key_id
    done = retire(keys, "trainer", root=root, retirement=Retirement("stolen", MOMENT, (KEY,)))
    made, second = Recipient.generate(), Signer.generate("releaser")
    enrol_recipient(keys, RecipientRecord.of("auditor", made.public), root=root)
    gone = drop_recipient(keys, "serving", root=root).retired
    enrol(keys, second.public, "releaser", root=root)
    after = load_policy(keys)
    events = policy_events(before, after, "ana")[2:]
    assert told_of(events) == [
        *sorted(
            [
                ("key.enrolled", f"keys/{done.enrolled}", "trainer"),
                ("key.enrolled", f"keys/{second.public.key_id}", "releaser"),
            ]
        ),
        ("key.revoked", f"keys/{old}", "trainer"),
        ("recipient.added", f"keys/{made.public.recipient_id}", None),
        ("recipient.removed", f"keys/{gone}", None),
    ]
    revoked = next(one for one in events if one.kind == "key.revoked")
    assert (revoked.reason, revoked.detail) == ("stolen", {"kept": "1"})
    assert policy_events(after, after, "ana")[2:] == ()


def test_a_key_that_only_leaves_is_retired(keys: Path) -> None:
    second = Signer.generate("releaser")
    before = load_policy(keys)
    enrol(keys, second.public, "releaser", root=load_signer(keys, "root"))
    events = policy_events(load_policy(keys), before, "ana")[2:]
    assert told_of(events) == [("key.retired", f"keys/{second.public.key_id}", "releaser")]


def test_a_registration_tells_of_its_three_signatures(site: Site, tmp_path: Path) -> None:
    ref = site.register(site.lake.pin("flights"))
    folder = registry.download(
        site.lake, site.context().pin_releases(), ref.path, tmp_path / "release"
    )
    assert told_of(registration_events(folder, ref, site.policy, "ana")) == [
        ("signed", "models/flights/1/provenance", "trainer"),
        ("signed", "models/flights/1/gates", "gatekeeper"),
        ("release.registered", "models/flights/1", "releaser"),
    ]
    (folder / "gates.dsse.json").write_bytes((folder / "provenance.dsse.json").read_bytes())
    with pytest.raises(Untrusted):
        registration_events(folder, ReleaseRef("flights", 1), site.policy, "ana")
