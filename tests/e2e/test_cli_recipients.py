"""`headrace model recipients`, with real keys, releases and a lake."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.audit import read_log
from flows.errors import Misconfigured
from security.errors import BadKey, CannotDecrypt, Untrusted
from security.keys.keyfiles import read_recipient_folder
from security.keys.pairs import Opener, Recipient
from security.policy.key_homes import load_recipient
from security.release.bundle import open_bundle
from security.release.signing import verify_release
from storage import registry
from storage.registry import ReleaseRef


@dataclass(frozen=True)
class Audited:
    """A release, and an auditor whom the policy enrolled after it was sealed."""

    site: Any
    ref: ReleaseRef
    auditor: Recipient

    def opens(self, ref: ReleaseRef, key: Opener, tag: str) -> bool:
        work = self.site.work / tag
        pin = registry.head(self.site.lake, self.site.pipeline.name)
        folder = registry.download(self.site.lake, pin, ref.path, work / "release")
        verified = verify_release(folder, policy=self.site.policy)
        try:
            open_bundle(folder, verified.release, recipient=key, into=work / "plain")
        except CannotDecrypt:
            return False
        return True

    def told(self, kind: str) -> list[Any]:
        pin = registry.head(self.site.lake, self.site.pipeline.name)
        entries = read_log(self.site.lake, pin).entries
        return [entry for entry in entries if entry.kind == kind and "models/" in entry.subject]


@pytest.fixture
def audited(site: Any) -> Audited:
    ref, theirs = site.register(site.land("N1")), site.work / "auditor"
    public = site.work / "auditor.json"
    public.write_text(site.run("keys", "make", "auditor", str(theirs)).stdout)
    assert not site.read("keys", "enrol", "auditor", str(public))["already"]
    assert site.read("keys", "enrol", "auditor", str(public))["already"]
    return Audited(site, ref, read_recipient_folder(theirs / "auditor"))


def names(listed: list[dict[str, str]]) -> list[str]:
    return [one["name"] for one in listed]


def test_recipients_are_listed_by_name(audited: Audited) -> None:
    listed = audited.site.read("model", "recipients", "list", str(audited.ref))
    assert names(listed) == ["serving", "gatekeeper"]
    shown = audited.site.run("model", "recipients", "list", str(audited.ref)).stdout
    assert load_recipient(audited.site.keys).public.recipient_id in shown


def test_an_added_recipient_opens_the_release_and_its_digest_stays(audited: Audited) -> None:
    site, ref = audited.site, audited.ref
    digest = site.read("verify", str(ref))["digest"]
    assert not audited.opens(ref, audited.auditor, "before")
    added = site.read("model", "recipients", "add", str(ref), "auditor")
    assert names(added) == ["serving", "gatekeeper", "auditor"]
    assert audited.opens(ref, audited.auditor, "after")
    assert site.read("verify", str(ref))["digest"] == digest
    head = registry.head(site.lake, site.pipeline.name)
    again = site.run("model", "recipients", "add", str(ref), "auditor")
    assert "already" in again.stderr
    assert registry.head(site.lake, site.pipeline.name) == head
    (entry,) = audited.told("recipient.added")
    assert entry.detail == {"key": audited.auditor.public.recipient_id}


def test_whom_the_policy_does_not_enrol_is_not_added(audited: Audited) -> None:
    refused = audited.site.run("model", "recipients", "add", str(audited.ref), "nobody")
    assert isinstance(refused.exception, Untrusted)


def test_without_a_key_that_opens_it_nobody_is_added(audited: Audited) -> None:
    site = audited.site
    for folder in ("serving", "gatekeeper"):
        shutil.rmtree(site.keys / folder)
    refused = site.run("model", "recipients", "add", str(audited.ref), "auditor")
    assert isinstance(refused.exception, CannotDecrypt)


def test_removal_makes_a_version_that_the_removed_cannot_open(audited: Audited) -> None:
    site, ref = audited.site, audited.ref
    site.read("model", "recipients", "add", str(ref), "auditor")
    command = ("model", "recipients", "remove", str(ref), "auditor", "--reason", "left")
    done = site.run(*command)
    assert done.exit_code == 0, done.output
    assert f"can read {ref} wherever a copy of it is" in done.stderr
    assert "garbage collection" in done.stderr
    new = ReleaseRef(ref.model, ref.version + 1)
    assert not audited.opens(new, audited.auditor, "removed")
    assert audited.opens(new, load_recipient(site.keys), "serving")
    assert audited.opens(ref, audited.auditor, "old")
    shown = site.read("model", "show", str(new))["statement"]
    old = site.read("model", "show", str(ref))["statement"]
    assert shown["parent"] == site.read("verify", str(ref))["digest"]
    assert shown["evidenceSha256"] == old["evidenceSha256"]
    assert [f["sha256"] for f in shown["bundle"]["files"]] == [
        f["sha256"] for f in old["bundle"]["files"]
    ]
    assert shown["bundle"]["bundleId"] != old["bundle"]["bundleId"]
    assert site.read(*command) == {"release": str(new), "replaces": str(ref), "already": True}
    (entry,) = audited.told("recipient.removed")
    assert (entry.reason, entry.subject) == ("left", new.path)


def test_a_reader_that_is_none_and_a_missing_role_change_nothing(audited: Audited) -> None:
    site, ref = audited.site, audited.ref
    head = registry.head(site.lake, site.pipeline.name)
    unknown = site.run("model", "recipients", "remove", str(ref), "auditor", "--reason", "x")
    assert isinstance(unknown.exception, Misconfigured)
    shutil.rmtree(site.keys / "trainer")
    refused = site.run("model", "recipients", "remove", str(ref), "gatekeeper", "--reason", "x")
    assert isinstance(refused.exception, BadKey)
    assert registry.head(site.lake, site.pipeline.name) == head


def test_after_a_rotation_the_new_key_is_added_with_the_retired_one(audited: Audited) -> None:
    site, ref = audited.site, audited.ref
    shutil.rmtree(site.keys / "gatekeeper")
    site.read("keys", "rotate", "serving")
    assert not audited.opens(ref, load_recipient(site.keys), "new")
    listed = site.read("model", "recipients", "add", str(ref), "serving")
    assert names(listed) == ["", "gatekeeper", "serving"]
    assert audited.opens(ref, load_recipient(site.keys), "added")
    assert list(Path(site.keys / "retired").glob("*/serving/x25519.pem"))


def test_for_a_revoked_recipient_no_later_bundle_is_sealed(audited: Audited) -> None:
    site = audited.site
    sealed = site.register(site.land("N2"))
    assert audited.opens(sealed, audited.auditor, "enrolled")
    done = site.read("keys", "revoke", "auditor", "--reason", "left", "--yes")
    assert done["retired"] == audited.auditor.public.recipient_id
    later = site.register(site.land("N3"))
    assert not audited.opens(later, audited.auditor, "dropped")
    assert audited.opens(sealed, audited.auditor, "still")
