from pathlib import Path

import pytest

from flows.audit import read_log
from flows.errors import Misconfigured
from flows.release.recipients import Reader, add_reader, list_readers, remove_reader
from security.errors import BadKey, CannotDecrypt, Untrusted
from security.keys.pairs import Recipient
from security.policy.documents import RecipientRecord
from security.policy.key_homes import load_recipient, load_signer
from security.policy.root_and_recipients import drop_recipient, enrol_recipient, rotate_recipient
from security.release.bundle import open_bundle
from security.release.verify import verify_release
from storage import registry
from storage.registry import ReleaseRef
from tests.release_site import Site
from tests.tiny_model import tiny_model


def names(readers: list[Reader]) -> list[str]:
    return sorted(one.name for one in readers)


def enrol(site: Site, name: str) -> Recipient:
    made = Recipient.generate()
    record = RecipientRecord.of(name, made.public)
    enrol_recipient(site.keys, record, root=load_signer(site.keys, "root"))
    return made


def open_with(site: Site, ref: ReleaseRef, key: Recipient, into: Path) -> set[str]:
    folder = registry.download(site.lake, site.context().pin_releases(), ref.path, into / "r")
    release = verify_release(
        folder, policy=site.policy, name=ref.model, version=ref.version
    ).release
    plain = open_bundle(folder, release, recipient=key, into=into / "plain")
    return {file.name for file in plain.iterdir()}


def test_readers_are_named_as_the_policy_knows_them(site: Site, ref: ReleaseRef) -> None:
    found = list_readers(site.context(), ref)
    assert names(found) == ["gatekeeper", "serving"]
    assert {one.id for one in found} == {one.recipient_id for one in site.policy.recipients}
    root = load_signer(site.keys, "root")
    drop_recipient(site.keys, "serving", root=root)
    assert names(list_readers(site.context(), ref)) == ["", "gatekeeper"]


def test_a_reader_is_added_once_and_can_open_what_was_sealed_before(
    site: Site, ref: ReleaseRef, tmp_path: Path
) -> None:
    auditor = enrol(site, "auditor")
    (first, before), (second, already) = (
        add_reader(site.context("ana"), ref, "auditor") for _ in range(2)
    )
    assert (before, already) == (False, True)
    assert names(first) == names(second) == ["auditor", "gatekeeper", "serving"]
    assert open_with(site, ref, auditor, tmp_path) == set(tiny_model(0.5))
    told = read_log(site.lake, site.context().pin_releases()).entries[-1]
    assert (told.kind, told.actor, told.subject) == ("recipient.added", "ana", ref.path)
    assert dict(told.detail or {}) == {"key": auditor.public.recipient_id}


def test_only_who_is_enrolled_is_added(site: Site, ref: ReleaseRef) -> None:
    with pytest.raises(Untrusted, match="stranger"):
        add_reader(site.context(), ref, "stranger")


def test_without_a_key_that_opens_it_nobody_is_added(
    site: Site, ref: ReleaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(site, "auditor")
    monkeypatch.setenv("HEADRACE_ROLES", "releaser")
    with pytest.raises(CannotDecrypt) as caught:
        add_reader(site.context(), ref, "auditor")
    assert str(caught.value) == "no decryption key here opens this release"
    assert caught.value.code == "trust.cannot_decrypt"


def test_a_retired_key_still_opens_what_was_sealed_for_it(
    site: Site, ref: ReleaseRef, tmp_path: Path
) -> None:
    root = load_signer(site.keys, "root")
    for name in ("serving", "gatekeeper"):
        rotate_recipient(site.keys, name, root=root)  # type: ignore[arg-type]
    readers, already = add_reader(site.context(), ref, "serving")
    assert (already, names(readers)) == (False, ["", "", "serving"])
    assert open_with(site, ref, load_recipient(site.keys, "serving"), tmp_path)


@pytest.mark.parametrize("by_id", [False, True])
def test_a_reader_is_left_out_of_a_new_version(
    site: Site, ref: ReleaseRef, tmp_path: Path, by_id: bool
) -> None:
    key = load_recipient(site.keys, "gatekeeper")
    who = key.public.recipient_id[:8] if by_id else "gatekeeper"
    new, already = remove_reader(site.context("ana"), ref, who, "it left")
    assert (new, already) == (ReleaseRef("flights", 2), False)
    assert names(list_readers(site.context(), new)) == ["serving"]
    assert open_with(site, new, load_recipient(site.keys, "serving"), tmp_path / "a")
    with pytest.raises(CannotDecrypt):
        open_with(site, new, key, tmp_path / "b")
    assert remove_reader(site.context("ana"), ref, who, "it left") == (new, True)
    told = read_log(site.lake, site.context().pin_releases()).entries[-1]
    assert (told.kind, told.subject, told.reason) == ("recipient.removed", new.path, "it left")


@pytest.mark.parametrize("who", ["", "nobody", "short"])
def test_who_is_no_one_reader_is_not_removed(site: Site, ref: ReleaseRef, who: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        remove_reader(site.context(), ref, who, "-")
    assert str(caught.value).startswith(f"{who!r} names no one reader of this release; there are ")
    assert "serving" in str(caught.value)


def test_seven_digits_of_an_id_are_too_few(site: Site, ref: ReleaseRef) -> None:
    (one, _) = list_readers(site.context(), ref)
    with pytest.raises(Misconfigured, match="names no one reader"):
        remove_reader(site.context(), ref, one.id[:7], "-")


def test_somebody_has_to_be_left(site: Site, ref: ReleaseRef) -> None:
    drop_recipient(site.keys, "gatekeeper", root=load_signer(site.keys, "root"))
    with pytest.raises(Misconfigured, match="Nobody whom the policy enrols would be left"):
        remove_reader(site.context(), ref, "serving", "-")
    assert registry.versions(site.lake, site.context().pin_releases(), "flights") == [1]


def test_to_seal_anew_takes_the_trainers_key(
    site: Site, ref: ReleaseRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ROLES", "releaser,serving,gatekeeper")
    with pytest.raises(BadKey, match="may not use the trainer's key"):
        remove_reader(site.context(), ref, "gatekeeper", "-")
