from pathlib import Path

import pytest

from blocks.trust import TrustPolicyRef
from security.errors import Untrusted
from security.policy.key_homes import init_keys


def test_a_policy_is_verified_against_the_pinned_root(tmp_path: Path) -> None:
    ours, theirs = (init_keys(tmp_path / name).folder for name in ("ours", "theirs"))
    policy = TrustPolicyRef(folder=ours, root=ours / "root.json").get_policy()
    assert policy.trust.version == 1
    with pytest.raises(Untrusted):
        TrustPolicyRef(folder=theirs, root=ours / "root.json").get_policy()


def test_a_policy_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    reference = TrustPolicyRef(folder=tmp_path / "keys", root=tmp_path / "keys" / "root.json")
    folder = init_keys(tmp_path / "keys").folder
    assert reference.get_policy().edition == (1, 1, 1)
    (folder / "rules.dsse.json").write_bytes(b"{}")
    with pytest.raises(Untrusted):
        reference.get_policy()
