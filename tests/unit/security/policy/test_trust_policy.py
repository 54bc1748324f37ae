import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from security.errors import BadKey, Untrusted
from security.formats import envelope
from security.keys.pairs import Recipient, Signer
from security.policy.documents import (
    PairRecord,
    RecipientRecord,
    Revocation,
    RoleKeys,
    Rules,
    Trust,
    sign_rules,
    sign_trust,
)
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.signing import verify_release

NOW = "2013-08-01T00:00:00Z"


def keys(*signers: Signer, threshold: int = 1) -> RoleKeys:
    return RoleKeys(tuple(PairRecord.of(signer.public) for signer in signers), threshold)


def reissued(home: Any, **changes: Any) -> TrustPolicy:
    """The home's policy after the root changed it."""
    trust = dataclasses.replace(home.policy.trust, version=2, **changes)
    rules = (home.folder / "rules.dsse.json").read_bytes()
    return TrustPolicy.parse(sign_trust(trust, home.signers["root"]), rules, root=home.policy.root)


def test_a_policy_of_another_root_is_untrusted(home: Any) -> None:
    with pytest.raises(Untrusted, match="not signed by the pinned root"):
        TrustPolicy.load(home.folder, root=Signer.generate("root").public)


def test_a_trust_policy_signed_by_a_lesser_role_is_untrusted(home: Any) -> None:
    payload = envelope.decode64(
        json.loads((home.folder / "trust.dsse.json").read_bytes())["payload"], ""
    )
    forged = envelope.sign(
        payload, "application/vnd.headrace.trust.v1+json", home.signers["policy"]
    )
    rules = (home.folder / "rules.dsse.json").read_bytes()
    with pytest.raises(Untrusted, match="not signed by the pinned root"):
        TrustPolicy.parse(forged, rules, root=home.policy.root)


@pytest.mark.parametrize("role", ["root", "trainer", "releaser"])
def test_rules_signed_by_any_other_role_are_untrusted(home: Any, role: str) -> None:
    trust = (home.folder / "trust.dsse.json").read_bytes()
    payload = envelope.decode64(
        json.loads((home.folder / "rules.dsse.json").read_bytes())["payload"], ""
    )
    forged = envelope.sign(payload, "application/vnd.headrace.rules.v1+json", home.signers[role])
    with pytest.raises(Untrusted, match="not signed as policy"):
        TrustPolicy.parse(trust, forged, root=home.policy.root)


def test_one_key_in_two_roles_is_refused(home: Any) -> None:
    both = keys(home.signers["trainer"])
    for role in ("releaser", "gatekeeper"):
        with pytest.raises(Untrusted, match="enrolled twice"):
            reissued(home, roles={**home.policy.trust.roles, role: both})
    with pytest.raises(Untrusted, match="enrolled twice"):
        reissued(home, roles={**home.policy.trust.roles, "releaser": keys(home.signers["root"])})


def test_half_of_a_key_in_two_roles_is_refused(home: Any) -> None:
    trainer, fresh = home.signers["trainer"].public, Signer.generate("releaser").public
    mixed = PairRecord.of(dataclasses.replace(fresh, ed25519=trainer.ed25519))
    with pytest.raises(Untrusted, match="enrolled twice"):
        reissued(home, roles={**home.policy.trust.roles, "releaser": RoleKeys((mixed,))})


def test_a_small_order_key_is_refused_when_it_is_enrolled(home: Any) -> None:
    record = PairRecord.of(home.signers["trainer"].public)
    weak = dataclasses.replace(record, ed25519=envelope.encode64(bytes(32)))
    with pytest.raises(BadKey, match="small order"):
        reissued(home, roles={"trainer": RoleKeys((weak,))})


def test_a_revoked_key_has_its_own_reason(home: Any, released: SimpleNamespace) -> None:
    revoked = Revocation(PairRecord.of(home.signers["releaser"].public), "laptop stolen")
    policy = reissued(
        home,
        roles={**home.policy.trust.roles, "releaser": keys(Signer.generate("releaser"))},
        revoked=(revoked,),
    )
    with pytest.raises(Untrusted, match=r"was revoked \(laptop stolen\)"):
        verify_release(released.folder, policy=policy)


def test_a_key_cannot_be_enrolled_and_revoked_at_once(home: Any) -> None:
    revoked = Revocation(PairRecord.of(home.signers["releaser"].public), "stolen")
    with pytest.raises(Untrusted, match="enrolled twice"):
        reissued(home, revoked=(revoked,))


def test_an_unknown_key_and_an_unfilled_role_say_so(home: Any, released: SimpleNamespace) -> None:
    stranger = {**home.policy.trust.roles, "releaser": keys(Signer.generate("releaser"))}
    with pytest.raises(Untrusted, match="0 of the 1 signing pairs"):
        verify_release(released.folder, policy=reissued(home, roles=stranger))
    nobody = {role: held for role, held in home.policy.trust.roles.items() if role != "releaser"}
    with pytest.raises(Untrusted, match="enrols no releaser"):
        verify_release(released.folder, policy=reissued(home, roles=nobody))


def test_a_threshold_counts_pairs(home: Any, released: SimpleNamespace) -> None:
    other = Signer.generate("releaser")
    two = {
        **home.policy.trust.roles,
        "releaser": keys(home.signers["releaser"], other, threshold=2),
    }
    policy = reissued(home, roles=two)
    with pytest.raises(Untrusted, match="1 of the 2"):
        verify_release(released.folder, policy=policy)
    path = released.folder / "release.dsse.json"
    payload = envelope.decode64(json.loads(path.read_bytes())["payload"], "")
    path.write_bytes(envelope.sign(payload, envelope.INTOTO, home.signers["releaser"], other))
    assert verify_release(released.folder, policy=policy).release == released.release


def test_an_unreachable_threshold_is_refused(home: Any) -> None:
    lonely = {**home.policy.trust.roles, "releaser": keys(home.signers["releaser"], threshold=2)}
    with pytest.raises(Untrusted, match="above its number of keys"):
        reissued(home, roles=lonely)


@pytest.mark.parametrize("suites", [(), ("ed25519",), ("ed25519+ml-dsa-65",)])
def test_a_policy_without_our_suites_verifies_nothing(home: Any, suites: tuple[str, ...]) -> None:
    with pytest.raises(Untrusted, match="does not allow"):
        reissued(home, suites=suites)


def test_unknown_fields_are_refused_in_signed_documents(home: Any) -> None:
    payload = json.loads(
        envelope.decode64(json.loads((home.folder / "rules.dsse.json").read_bytes())["payload"], "")
    )
    trust = (home.folder / "trust.dsse.json").read_bytes()
    for change in ({"extra": 1}, {"version": True}, {"version": 0}, {"gates": []}):
        data = json.dumps({**payload, **change}, sort_keys=True, separators=(",", ":")).encode()
        signed = envelope.sign(
            data, "application/vnd.headrace.rules.v1+json", home.signers["policy"]
        )
        with pytest.raises(Untrusted):
            TrustPolicy.parse(trust, signed, root=home.policy.root)


def test_only_its_own_role_signs_a_policy(home: Any) -> None:
    with pytest.raises(BadKey, match="cannot sign as root"):
        sign_trust(home.policy.trust, home.signers["policy"])
    with pytest.raises(BadKey, match="cannot sign as policy"):
        sign_rules(Rules(1, NOW, {}), home.signers["root"])


def test_recipients_come_from_the_policy(home: Any) -> None:
    auditor = Recipient.generate()
    policy = reissued(
        home,
        recipients=(
            *home.policy.trust.recipients,
            RecipientRecord.of("auditor", auditor.public),
        ),
    )
    assert policy.recipients == (*home.policy.recipients, auditor.public)


def test_the_root_file_is_pinned_from_a_regular_file_only(home: Any, tmp_path: Path) -> None:
    link = tmp_path / "root.json"
    link.symlink_to(home.folder / "root.json")
    with pytest.raises(Untrusted):
        load_root(link)
    with pytest.raises(Untrusted):
        load_root(tmp_path / "missing.json")
    assert isinstance(home.policy.trust, Trust)
