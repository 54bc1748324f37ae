import dataclasses
import hashlib
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from security.errors import BadKey, CannotDecrypt, Untrusted
from security.formats import envelope
from security.formats.envelope import INTOTO
from security.keys.pairs import PublicPair, Signer
from security.policy.edition import change_home, change_rules, change_trust, load_policy
from security.policy.gates import GateRule
from security.policy.key_homes import init_keys, load_recipient, load_signer
from security.policy.role_keys import Retirement, enrol, retire
from security.policy.root_and_recipients import pin_successor, rotate_recipient, rotate_root
from security.policy.trust_policy import RULES, TRUST, TrustPolicy, load_root
from security.release.bundle import open_bundle
from security.release.signing import verify_release

WHY = Retirement("yearly rotation")
STATEMENTS = ("release.dsse.json", "provenance.dsse.json", "gates.dsse.json")


@pytest.fixture
def keys(home: Any, tmp_path: Path) -> Path:
    shutil.copytree(home.folder, tmp_path / "keys")
    return tmp_path / "keys"


class Elsewhere:
    """A signer whose private half nobody can read, as behind a command."""

    def __init__(self, signer: Signer, public: Any = None) -> None:
        self.role, self.public, self.sign = signer.role, public or signer.public, signer.sign
        self._signer = signer

    def require(self, role: Any) -> "Elsewhere":
        self._signer.require(role)
        return self


def root_of(keys: Path) -> Signer:
    return load_signer(keys, "root")


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def digests(released: SimpleNamespace) -> tuple[str, ...]:
    return tuple(
        hashlib.sha256(
            envelope.read_unverified_payload((released.folder / name).read_bytes(), INTOTO)
        ).hexdigest()
        for name in STATEMENTS
    )


@pytest.mark.parametrize("role", ["policy", "trainer", "gatekeeper", "releaser", "timestamp"])
def test_rotation_enrols_a_new_pair_and_the_policy_still_verifies(keys: Path, role: Any) -> None:
    old, before = load_signer(keys, role).public, load_policy(keys)
    done = retire(keys, role, root=root_of(keys), retirement=WHY)
    policy = load_policy(keys)
    assert policy.trust.version == before.trust.version + 1
    assert policy.pairs(role) == (load_signer(keys, role).public,)
    assert policy.pairs(role) != (old,)
    assert (done.retired, done.enrolled) == (old.key_id, policy.pairs(role)[0].key_id)
    assert policy.rules.gates == before.rules.gates
    assert load_recipient(keys, "gatekeeper").public == before.recipient("gatekeeper")


def test_the_same_rotation_given_twice_is_one(keys: Path) -> None:
    retire(keys, "trainer", root=root_of(keys), retirement=WHY)
    before = snapshot(keys)
    assert retire(keys, "trainer", root=root_of(keys), retirement=WHY).already
    assert snapshot(keys) == before
    assert not retire(keys, "trainer", root=root_of(keys), retirement=Retirement("again")).already


def test_what_a_retired_pair_signed_before_the_cut_off_still_verifies(
    keys: Path, released: SimpleNamespace
) -> None:
    kept = Retirement("yearly rotation", "2013-08-01T00:00:00Z", digests(released))
    for role in ("trainer", "gatekeeper", "releaser"):
        retire(keys, role, root=root_of(keys), retirement=kept)
    verified = verify_release(released.folder, policy=load_policy(keys))
    assert verified.digest == released.release.digest


@pytest.mark.parametrize("role", ["trainer", "gatekeeper", "releaser"])
def test_without_a_cut_off_a_revoked_pair_is_believed_for_nothing(
    keys: Path, released: SimpleNamespace, role: str
) -> None:
    retire(keys, role, root=root_of(keys), retirement=Retirement("stolen"))
    with pytest.raises(Untrusted, match=r"was revoked \(stolen\)"):
        verify_release(released.folder, policy=load_policy(keys))


def test_a_backdated_statement_of_a_stolen_key_is_refused(
    home: Any, keys: Path, released: SimpleNamespace, tmp_path: Path
) -> None:
    kept = Retirement("stolen", "2013-08-01T00:00:00Z", digests(released))
    retire(keys, "releaser", root=root_of(keys), retirement=kept)
    # The thief signs with the date that the good release bears.
    home.make_release(tmp_path / "plain", tmp_path / "forged", version=2)
    with pytest.raises(Untrusted, match="was revoked"):
        verify_release(tmp_path / "forged", policy=load_policy(keys))
    assert verify_release(released.folder, policy=load_policy(keys))


def test_a_kept_payload_counts_for_its_own_role_only(keys: Path, released: SimpleNamespace) -> None:
    trainer = load_signer(keys, "trainer")
    retire(keys, "trainer", root=root_of(keys), retirement=WHY)
    signed = envelope.sign(b"{}", INTOTO, trainer)
    digest = hashlib.sha256(b"{}").hexdigest()
    policy = load_policy(keys)
    (entry,) = policy.trust.revoked
    for changes in ({"role": "releaser"}, {"role": None}, {"kept": ("00" * 32,)}, {}):
        entries = (dataclasses.replace(entry, **{"kept": (digest,), **changes}),)
        trust = dataclasses.replace(policy.trust, revoked=entries)
        judged = dataclasses.replace(policy, trust=trust)
        if changes:
            with pytest.raises(Untrusted):
                judged.verify(signed, role="trainer", payload_type=INTOTO)
        else:
            assert judged.verify(signed, role="trainer", payload_type=INTOTO).payload == b"{}"


def test_what_is_kept_of_a_retired_pair_only_shrinks(keys: Path, released: SimpleNamespace) -> None:
    old = load_signer(keys, "releaser").public.key_id
    first, *others = digests(released)
    retire(keys, "releaser", root=root_of(keys), retirement=Retirement("moved", None, (first,)))
    found = Retirement("found stolen", "2013-07-01T00:00:00Z", tuple(others))
    done = retire(keys, old[:12], root=root_of(keys), retirement=found)
    (entry,) = load_policy(keys).trust.revoked
    assert (done.already, entry.kept, entry.reason) == (False, None, "found stolen")
    assert retire(keys, old, root=root_of(keys), retirement=found).already


@pytest.mark.parametrize("name", ["nobody", "root", "0123456789", "trainer-x", ""])
def test_a_name_that_stands_for_no_key_changes_nothing(keys: Path, name: str) -> None:
    before = snapshot(keys)
    with pytest.raises(BadKey, match="stands for 0 keys"):
        retire(keys, name, root=root_of(keys), retirement=WHY)
    assert snapshot(keys) == before


def test_of_two_releasers_the_one_to_retire_is_named_by_its_id(keys: Path) -> None:
    second = Signer.generate("releaser")
    assert not enrol(keys, second.public, "releaser", root=root_of(keys)).already
    assert enrol(keys, second.public, "releaser", root=root_of(keys)).already
    with pytest.raises(BadKey, match="stands for 2 keys"):
        retire(keys, "releaser", root=root_of(keys), retirement=WHY)
    first = load_signer(keys, "releaser").public
    retire(keys, first.key_id[:12], root=root_of(keys), retirement=WHY)
    assert second.public in load_policy(keys).pairs("releaser")
    assert first not in load_policy(keys).pairs("releaser")


def test_a_pair_enrolled_in_another_role_changes_nothing(keys: Path) -> None:
    before = snapshot(keys)
    with pytest.raises(Untrusted, match="enrolled twice"):
        enrol(keys, load_signer(keys, "trainer").public, "releaser", root=root_of(keys))
    assert snapshot(keys) == before


@pytest.mark.parametrize("role", ["trainer", "policy"])
def test_another_root_signs_nothing(keys: Path, role: str) -> None:
    before = snapshot(keys)
    with pytest.raises(BadKey, match="not the pinned root"):
        retire(keys, role, root=Signer.generate("root"), retirement=WHY)
    with pytest.raises(BadKey, match="cannot sign as root"):
        change_trust(
            keys,
            lambda trust: dataclasses.replace(trust, minimum_index={"production": 3}),
            root=Elsewhere(load_signer(keys, "trainer"), load_root(keys / "root.json")),
        )
    assert snapshot(keys) == before
    assert [path.name for path in keys.parent.iterdir()] == ["keys"]


def test_an_offline_root_signs_from_where_it_is(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "safe").mkdir()
    (keys / "root").rename(tmp_path / "safe" / "root")
    retire(keys, "trainer", root=load_signer(tmp_path / "safe", "root"), retirement=WHY)
    assert not (keys / "root").exists()
    assert len(load_policy(keys).trust.revoked) == 1


def test_a_failure_half_way_leaves_the_home_as_it_was(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import security.files

    def full(*_paths: Path) -> None:
        raise OSError(28, "No space left on device")

    before = snapshot(keys)
    monkeypatch.setattr(security.files, "_exchange", full)
    with pytest.raises(BadKey, match="No space left"):
        retire(keys, "trainer", root=root_of(keys), retirement=WHY)
    assert snapshot(keys) == before
    assert [path.name for path in keys.parent.iterdir()] == ["keys"]


def test_a_successor_that_is_kept_elsewhere_leaves_no_private_half_here(keys: Path) -> None:
    elsewhere = load_signer(init_keys(keys.parent / "other").folder, "trainer")
    done = retire(
        keys, "trainer", root=root_of(keys), retirement=WHY, successor=Elsewhere(elsewhere)
    )
    assert done.enrolled == elsewhere.public.key_id
    assert list((keys / "trainer").glob("*.pem")) == []


def test_a_locked_home_stays_locked(tmp_path: Path) -> None:
    words = "correct horse battery staple"
    keys = init_keys(tmp_path / "keys", passphrase=words).folder
    root = load_signer(keys, "root", passphrase=words)
    with pytest.raises(BadKey, match="is locked, and there is no passphrase"):
        retire(keys, "trainer", root=root, retirement=WHY)
    retire(keys, "trainer", root=root, retirement=WHY, passphrase=words)
    assert b"ENCRYPTED" in (keys / "trainer" / "mldsa65.pem").read_bytes()
    signer = load_signer(keys, "trainer", passphrase=words)
    assert load_policy(keys).pairs("trainer") == (signer.public,)


def test_new_rules_need_the_policy_role_and_no_root(keys: Path) -> None:
    shutil.rmtree(keys / "root")

    def clean(rules: Any) -> Any:
        return dataclasses.replace(rules, require_clean_code=True)

    with pytest.raises(BadKey, match="not enrolled"):
        change_rules(keys, clean, signer=Signer.generate("policy"))
    assert not change_rules(keys, clean, signer=load_signer(keys, "policy")).already
    assert load_policy(keys).rules.version == 2
    assert change_rules(keys, clean, signer=load_signer(keys, "policy")).already


def test_code_that_was_not_committed_is_refused_where_the_rules_say_so(
    home: Any, keys: Path, tmp_path: Path, build: Any
) -> None:
    unclean = dataclasses.replace(build, code_clean=False)
    home.make_release(tmp_path / "plain", tmp_path / "1", build=unclean)
    assert verify_release(tmp_path / "1", policy=home.policy)
    change_rules(
        keys,
        lambda rules: dataclasses.replace(rules, require_clean_code=True),
        signer=load_signer(keys, "policy"),
    )
    with pytest.raises(Untrusted, match="uncommitted code"):
        verify_release(tmp_path / "1", policy=load_policy(keys))


def test_the_roots_successor_is_vouched_for_by_the_root_before_it(keys: Path) -> None:
    old = load_root(keys / "root.json")
    client = keys.parent / "client"
    client.mkdir()
    shutil.copy(keys / "root.json", client / "root.json")
    done = rotate_root(keys, root=root_of(keys))
    assert (done.retired, done.enrolled) == (old.key_id, load_root(keys / "root.json").key_id)
    # A client that pinned the old root verifies this edition, and takes the new root from it.
    edition = [(keys / name).read_bytes() for name in (TRUST, RULES)]
    assert not pin_successor(client, *edition).already
    assert load_root(client / "root.json").key_id == done.enrolled
    assert pin_successor(client, *edition).already
    # The next edition is the new root's alone.
    retire(keys, "trainer", root=root_of(keys), retirement=WHY)
    with pytest.raises(Untrusted, match="not signed by the pinned root"):
        TrustPolicy.load(keys, root=old)
    assert TrustPolicy.load(keys, root=load_root(client / "root.json"))


def test_another_machine_takes_over_the_newest_edition_and_never_an_older_one(
    keys: Path, tmp_path: Path
) -> None:
    client = tmp_path / "client"
    client.mkdir()
    for name in ("root.json", "trust.dsse.json", "rules.dsse.json"):
        shutil.copy(keys / name, client / name)
    first = published(keys)
    retire(keys, "trainer", root=root_of(keys), retirement=WHY)
    second = published(keys)
    assert not pin_successor(client, *second).already
    assert load_policy(client) == load_policy(keys)
    assert pin_successor(client, *first).already, "the older edition is left where it is"
    assert load_policy(client) == load_policy(keys)
    bounds = {"delays": (GateRule("log_loss", "<=", "0.4"),)}
    signer = load_signer(keys, "policy")
    change_rules(keys, lambda rules: dataclasses.replace(rules, gates=bounds), signer=signer)
    pin_successor(client, *published(keys))
    retire(keys, "gatekeeper", root=root_of(keys), retirement=WHY)
    mixed = published(keys)[0], first[1]
    with pytest.raises(Untrusted, match="contradict each other"):
        pin_successor(client, *mixed)


def published(keys: Path) -> tuple[bytes, bytes]:
    return (keys / "trust.dsse.json").read_bytes(), (keys / "rules.dsse.json").read_bytes()


def test_a_new_epoch_comes_with_the_minimum_of_every_environment(keys: Path) -> None:
    rotate_root(keys, root=root_of(keys), minimum_index={"production": 4})
    policy = load_policy(keys)
    assert (policy.trust.epoch, policy.minimum_index("production")) == (2, 4)
    rotate_root(keys, root=root_of(keys))
    policy = load_policy(keys)
    assert (policy.trust.epoch, policy.minimum_index("production")) == (2, 4)


def test_a_successor_of_the_root_that_holds_a_role_is_refused(keys: Path) -> None:
    trainer = load_signer(keys, "trainer")
    with pytest.raises(Untrusted, match="enrolled twice"):
        change_trust(
            keys,
            lambda trust: dataclasses.replace(trust, root=trust.roles["trainer"].keys[0]),
            root=root_of(keys),
        )
    assert load_policy(keys).pairs("trainer") == (trainer.public,)


def test_a_new_recipient_opens_later_bundles_and_the_old_key_the_earlier(
    home: Any, keys: Path, released: SimpleNamespace, tmp_path: Path
) -> None:
    done = rotate_recipient(keys, "serving", root=root_of(keys))
    new, old = (
        load_recipient(keys),
        load_recipient(keys / "retired" / done.retired[:12]),
    )
    assert new.public.recipient_id == done.enrolled
    assert load_policy(keys).recipient("serving") == new.public
    into = open_bundle(released.folder, released.release, recipient=old, into=tmp_path / "a")
    assert (into / "reference.json").exists()
    with pytest.raises(CannotDecrypt):
        open_bundle(released.folder, released.release, recipient=new, into=tmp_path / "b")


def test_a_recipient_that_an_older_home_lacks_is_enrolled(keys: Path) -> None:
    change_trust(
        keys,
        lambda trust: dataclasses.replace(trust, recipients=trust.recipients[:1]),
        root=root_of(keys),
    )
    for half in ("mlkem768", "x25519"):
        (keys / "gatekeeper" / f"{half}.pem").unlink()
    with pytest.raises(Untrusted, match="no recipient gatekeeper"):
        load_policy(keys).recipient("gatekeeper")
    assert rotate_recipient(keys, "gatekeeper", root=root_of(keys)).retired == ""
    public = load_recipient(keys, "gatekeeper").public
    assert load_policy(keys).recipient("gatekeeper") == public
    assert load_signer(keys, "gatekeeper").public in load_policy(keys).pairs("gatekeeper")


def test_ceremonies_at_once_lose_neither_a_revocation_nor_a_key(keys: Path) -> None:
    """Each copies what the other left, or is told that it must look again."""
    strangers = [Signer.generate("releaser").public for _ in range(4)]
    told: list[str] = []

    def enrolling(pair: PublicPair) -> None:
        while True:
            try:
                enrol(keys, pair, "releaser", root=root_of(keys))
            except BadKey as error:
                told.append(str(error))
            else:
                return

    threads = [threading.Thread(target=enrolling, args=(pair,)) for pair in strangers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    policy = load_policy(keys)
    assert set(strangers) < set(policy.pairs("releaser"))
    assert policy.trust.version == 1 + len(strangers)
    assert all("changed" in problem and "meanwhile" in problem for problem in told)


def test_a_change_that_was_decided_on_an_older_policy_is_refused(keys: Path) -> None:
    known = load_policy(keys)
    retire(keys, "trainer", root=root_of(keys), retirement=WHY)
    after = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    with (
        pytest.raises(BadKey, match="another ceremony changed"),
        change_home(keys, known) as staged,
    ):
        (staged / "trust.dsse.json").unlink()
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == after


def test_the_next_ceremony_removes_the_private_keys_that_a_killed_one_left(keys: Path) -> None:
    left = keys.parent / f".{keys.name}.killed.next"
    shutil.copytree(keys, left)
    retire(keys, "trainer", root=root_of(keys), retirement=WHY)
    assert not left.exists()
    assert not list(keys.parent.glob("*.next"))
