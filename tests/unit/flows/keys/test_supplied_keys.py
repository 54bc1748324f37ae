from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.context import Context
from flows.errors import Misconfigured
from flows.keys.signed_history import SignedPayload
from flows.keys.supplied_keys import BroughtKey, describe_ceremony, parse_moment, publish
from security.errors import BadKey
from security.keys.keyfiles import write_private
from security.keys.pairs import Signer
from security.policy.edition import Ceremony, change_trust, load_policy
from security.policy.key_homes import load_signer
from storage.errors import Unavailable
from storage.lake import Lake, Pin
from tests.release_site import Site
from tests.unit.fake_lake import NOBODY, MemoryLake


def test_a_key_is_where_it_is_set_unless_a_person_brings_one(site: Site, tmp_path: Path) -> None:
    own = load_signer(site.keys, "root").public
    assert BroughtKey(None).signer(site.keys).public == own
    elsewhere = Signer.generate("root")
    (tmp_path / "usb").mkdir()
    write_private(tmp_path / "usb" / "root", elsewhere.private_halves(), None)
    assert BroughtKey(f"file:{tmp_path / 'usb'}").signer(site.keys).public == elsewhere.public


def test_a_locked_key_is_opened_by_the_file_that_comes_with_it(site: Site, tmp_path: Path) -> None:
    phrase, made = "correct horse battery", Signer.generate("root")
    (tmp_path / "usb").mkdir()
    write_private(tmp_path / "usb" / "root", made.private_halves(), phrase)
    lock = tmp_path / "phrase"
    lock.write_text(phrase)
    lock.chmod(0o600)
    source = f"file:{tmp_path / 'usb'}"
    assert BroughtKey(source, lock).signer(site.keys).public == made.public
    with pytest.raises(BadKey):
        BroughtKey(source).signer(site.keys)


def test_who_keeps_the_root_offline_is_told_how_to_bring_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ROLES", "policy")
    assert BroughtKey(None).signer(site.keys, "policy").role == "policy"
    with pytest.raises(BadKey, match="the root's key is not at hand") as caught:
        BroughtKey(None).signer(site.keys)
    assert caught.value.remedy == "bring it, and name where it is: --root-key file:FOLDER"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T12:00:00Z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
        ("2026-11-24T12:00:00+02:00", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment
    assert parse_moment(text).tzinfo == UTC


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "12:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_moment(text)
    assert str(caught.value) == f"{text!r} is not a time."


def published(site: Site) -> bytes:
    return site.lake.fs.get("flights-releases", "main", "policy/trust.dsse.json")


def test_a_ceremony_ends_with_the_policy_in_the_lake(site: Site) -> None:
    context = site.context("ana")
    assert context.trusted.policy.edition == (1, 1, 1)
    root = load_signer(site.keys, "root")
    change_trust(site.keys, lambda trust: replace(trust, minimum_index={"x": 1}), root=root)
    publish(context)
    assert published(site) == (site.keys / "trust.dsse.json").read_bytes()


def test_where_there_is_no_pipeline_yet_nothing_is_published(site: Site) -> None:
    context = site.context()
    empty = MemoryLake()
    publish(Context(context.settings, empty, context.pipeline))
    assert empty.fs.repositories() == []


def test_if_the_lake_does_not_answer_the_keys_are_changed_and_that_is_said(site: Site) -> None:
    context = site.context()
    with pytest.raises(Unavailable, match="keys here are changed, but their policy is not") as told:
        publish(Context(context.settings, Lake(NOBODY), context.pipeline))
    assert told.value.remedy == "Give the same command again when the lake answers."


def test_a_ceremony_is_described_for_a_program(key_home: Path) -> None:
    pin = Pin("flights-releases", "ab" * 32)
    done = Ceremony(load_policy(key_home), False, retired="11", enrolled="")
    assert describe_ceremony(done, [SignedPayload(pin, "models/x", "cd")]) == {
        "already": False,
        "retired": "11",
        "enrolled": None,
        "edition": [1, 1, 1],
        "kept": [{"at": str(pin), "path": "models/x", "digest": "cd"}],
    }
