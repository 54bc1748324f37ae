import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.errors import Misconfigured
from flows.keys.ceremonies import (
    CeremonyRequest,
    drop_recipient,
    enrol_key,
    export_public_keys,
    make_key,
    pin_root,
    revoke_key,
    rotate_key,
)
from flows.keys.published_policy import publish_policy
from flows.keys.supplied_keys import BroughtKey
from security.errors import BadKey, Untrusted
from security.keys.keyfiles import read_recipient_folder, read_signer_folder
from security.policy.edition import load_policy
from security.policy.key_homes import init_keys, load_recipient, load_signer
from security.policy.trust_policy import load_root
from storage.errors import NotFound
from tests.release_site import Site

OWN = BroughtKey(None)


def published(site: Site) -> bytes:
    return site.lake.fs.get("flights-releases", "main", "policy/trust.dsse.json")


def here(site: Site) -> bytes:
    return (site.keys / "trust.dsse.json").read_bytes()


def test_a_role_gets_a_new_key_and_the_old_one_keeps_what_stands(site: Site) -> None:
    ref = site.register(site.lake.pin("flights"))
    site.promote(ref)
    old = load_signer(site.keys, "releaser").public.key_id
    request = CeremonyRequest("releaser", "yearly", replaces=old[:12])
    done, kept = rotate_key(site.context("ana"), request, OWN)
    new = load_signer(site.keys, "releaser").public.key_id
    assert (done.already, done.retired, done.enrolled) == (False, old, new)
    assert old != new
    assert [one.path for one in kept] == [
        "environments/production/index/1.json",
        f"{ref.path}/release.dsse.json",
    ]
    assert published(site) == here(site)
    assert site.served() == "1: 1"
    again, nothing = rotate_key(site.context("ana"), request, OWN)
    assert (again.already, nothing) == (True, [])
    assert load_signer(site.keys, "releaser").public.key_id == new


def test_a_revoked_key_is_believed_for_nothing_unless_a_time_is_given(site: Site) -> None:
    site.promote(site.register(site.lake.pin("flights")))
    request = CeremonyRequest("releaser", "stolen")
    (done, kept), (again, _) = (revoke_key(site.context("ana"), request, OWN) for _ in range(2))
    assert (done.already, again.already, kept) == (False, True, [])
    with pytest.raises(Untrusted):
        site.served()
    late = CeremonyRequest("trainer", "left", cut_off="2013-07-02T00:00:00Z")
    _, kept = revoke_key(site.context("ana"), late, OWN)
    assert [one.path for one in kept] == ["models/flights/1/provenance.dsse.json"]
    early = CeremonyRequest("gatekeeper", "left", cut_off="2013-06-01T00:00:00Z")
    # The gatekeeper's decryption key bears its name too; a role's name means the pair that signs.
    assert revoke_key(site.context("ana"), early, OWN)[1] == []


def test_a_recipient_is_rotated_and_the_old_key_is_kept(site: Site) -> None:
    old = load_recipient(site.keys, "serving").public.recipient_id
    done, _ = rotate_key(site.context("ana"), CeremonyRequest("serving", ""), OWN)
    new = load_recipient(site.keys, "serving").public.recipient_id
    assert (done.retired, done.enrolled) == (old, new)
    retired = read_recipient_folder(site.keys / "retired" / old[:12] / "serving")
    assert retired.public.recipient_id == old
    gatekeepers = load_signer(site.keys, "gatekeeper").public
    rotate_key(site.context("ana"), CeremonyRequest("gatekeeper-recipient", ""), OWN)
    assert load_signer(site.keys, "gatekeeper").public == gatekeepers


def test_a_new_root_is_pinned_and_the_lake_learns_of_it(site: Site) -> None:
    old = load_root(site.keys / "root.json").key_id
    publish_policy(site.context())
    done, _ = rotate_key(site.context("ana"), CeremonyRequest("root", "", replaces=old), OWN)
    assert (done.retired, done.enrolled) == (old, load_root(site.keys / "root.json").key_id)
    assert published(site) == here(site)
    again, _ = rotate_key(site.context("ana"), CeremonyRequest("root", "", replaces=old), OWN)
    assert again.already


def test_only_a_root_begins_an_epoch_and_it_names_every_environment(site: Site) -> None:
    site.promote(site.register(site.lake.pin("flights")))
    request = CeremonyRequest("trainer", "", minimum_index={"production": 1})
    with pytest.raises(Misconfigured, match="Only a new root begins a new epoch"):
        rotate_key(site.context("ana"), request, OWN)
    request = CeremonyRequest("root", "", minimum_index={"staging": 1})
    with pytest.raises(Misconfigured, match="no minimum for production") as caught:
        rotate_key(site.context("ana"), request, OWN)
    assert "--minimum-index production=N" in caught.value.remedy
    assert load_policy(site.keys).edition == (1, 1, 1)
    request = replace(request, minimum_index={"production": 1})
    done, _ = rotate_key(site.context("ana"), request, OWN)
    assert done.policy.edition == (2, 2, 1)


def test_one_more_releaser_is_enrolled_once_by_a_public_half(site: Site, tmp_path: Path) -> None:
    public = tmp_path / "ben.json"
    public.write_text(make_key("releaser", tmp_path / "ben", None))
    done, again = (enrol_key(site.context("ana"), "releaser", public, OWN) for _ in range(2))
    made = read_signer_folder(tmp_path / "ben" / "releaser", "releaser").public
    assert (done.already, again.already, done.enrolled) == (False, True, made.key_id)
    assert made in load_policy(site.keys).pairs("releaser")
    assert published(site) == here(site)


def test_a_recipient_is_enrolled_and_dropped_by_its_name(site: Site, tmp_path: Path) -> None:
    public = tmp_path / "auditor.json"
    public.write_text(make_key("auditor", tmp_path / "auditor", None))
    done = enrol_key(site.context("ana"), "auditor", public, OWN)
    assert load_policy(site.keys).recipient("auditor").recipient_id == done.enrolled
    gone, kept = revoke_key(site.context("ana"), CeremonyRequest("auditor", "left"), OWN)
    assert (gone.retired, kept) == (done.enrolled, [])
    assert drop_recipient(site.context("ana"), "auditor", OWN).already
    with pytest.raises(Untrusted):
        load_policy(site.keys).recipient("auditor")


@pytest.mark.parametrize("name", ["trainer", "auditor"])
def test_a_key_is_made_once_and_enrolled_by_nobody(site: Site, tmp_path: Path, name: str) -> None:
    before = here(site)
    fields = json.loads(make_key(name, tmp_path / "new", None))
    assert sorted(fields) == (
        ["ed25519", "mldsa65"] if name == "trainer" else ["mlkem768", "x25519"]
    )
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    with pytest.raises(BadKey, match="exists already"):
        make_key(name, tmp_path / "new", None)
    assert here(site) == before


def test_a_machine_pins_the_successor_of_its_root_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        pin_root(site.context())
    publish_policy(site.context())
    far = replace(site, keys=tmp_path / "far" / "keys")
    far.keys.mkdir(parents=True)
    for name in ("root.json", "public.json", "trust.dsse.json", "rules.dsse.json"):
        (far.keys / name).write_bytes((site.keys / name).read_bytes())
    rotate_key(site.context("ana"), CeremonyRequest("root", ""), OWN)
    done, again = (pin_root(far.context()) for _ in range(2))
    assert (done.already, again.already) == (False, True)
    assert load_root(far.keys / "root.json") == load_root(site.keys / "root.json")
    assert export_public_keys(far.keys) == export_public_keys(site.keys)
    stranger = replace(site, keys=init_keys(tmp_path / "stranger" / "keys").folder)
    with pytest.raises(Untrusted):
        pin_root(stranger.context())


def test_without_the_root_no_ceremony_changes_anything(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = here(site)
    monkeypatch.setenv("HEADRACE_ROLES", "trainer")
    for name in ("trainer", "root", "serving"):
        with pytest.raises(BadKey, match="the root's key is not at hand"):
            rotate_key(site.context("ana"), CeremonyRequest(name, ""), OWN)
    assert here(site) == before


def test_the_exported_keys_are_public_and_canonical(keys: Path) -> None:
    exported = export_public_keys(keys)
    assert exported == (keys / "public.json").read_bytes() + b"\n"
    assert sorted(json.loads(exported)) == ["recipients", "roles", "root"]
    assert b"PRIVATE" not in exported
