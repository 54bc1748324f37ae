import pytest

from flows.audit.checkpoint import refresh_checkpoint
from flows.audit.proof import make_proof
from security.audit.proof import Proof, to_text, verify_proof
from security.errors import Untrusted
from security.policy.trust_policy import load_root
from storage.registry import ReleaseRef, layout
from tests.unit.flows.audit.conftest import Logged


def prove(logged: Logged, ref: ReleaseRef) -> Proof:
    return make_proof(logged.site.lake, logged.pin, ref, logged.site.policy)


def test_who_has_only_the_root_believes_the_proof(logged: Logged) -> None:
    site, root = logged.site, load_root(logged.site.keys / "root.json")
    ref = site.register(site.lake.pin("flights"))
    site.promote(ref)
    with pytest.raises(Untrusted, match="the audit log has no checkpoint yet"):
        prove(logged, ref)
    refresh_checkpoint(site.context())
    proven = verify_proof(to_text(prove(logged, ref)).encode(), root=root)
    assert proven.subject == "models/flights/1"
    assert [one.kind for one in proven.entries] == ["release.registered"]
    assert proven.checkpoint.size == len(logged.log().lines)


def test_a_release_later_than_the_checkpoint_has_no_proof_yet(logged: Logged) -> None:
    site = logged.site
    site.promote(site.register(site.lake.pin("flights")))
    refresh_checkpoint(site.context())
    later = site.register(site.lake.pin("flights"))
    with pytest.raises(Untrusted, match="no entry about models/flights/2 stands below"):
        prove(logged, later)
    refresh_checkpoint(site.context())
    assert len(prove(logged, later).entries) == 1


def test_nothing_is_proven_from_a_log_that_was_cut_or_a_checkpoint_of_nobody(
    logged: Logged,
) -> None:
    site = logged.site
    ref = site.register(site.lake.pin("flights"))
    site.promote(ref)
    refresh_checkpoint(site.context())
    lines = list(logged.log().lines)
    logged.put(lines[:-1])
    with pytest.raises(Untrusted, match="truncated"):
        prove(logged, ref)
    logged.put(lines)
    site.overwrite({layout.AUDIT_CHECKPOINT: b"{}"})
    with pytest.raises(Untrusted):
        prove(logged, ref)
