import pytest

from flows.audit.checkpoint import (
    read_checkpoint,
    read_checkpoint_envelope,
    refresh_checkpoint,
)
from security.audit.log import Peaks, sign_checkpoint
from security.errors import BadKey, Untrusted
from security.policy.key_homes import load_signer
from storage.registry import layout
from tests.unit.flows.audit.conftest import Logged


def read(logged: Logged):  # type: ignore[no-untyped-def]
    return read_checkpoint(logged.site.lake, logged.pin, logged.site.policy)


def test_a_checkpoint_is_signed_when_the_log_grew(logged: Logged) -> None:
    context = logged.site.context()
    assert (read(logged), read_checkpoint_envelope(logged.site.lake, logged.pin)) == (None, None)
    assert refresh_checkpoint(context) is False
    for amount in (1, 2):
        logged.tell("a" * amount)
        assert [refresh_checkpoint(context), refresh_checkpoint(context)] == [True, False]
        assert (read(logged).size, read(logged).root) == (amount, logged.log().root())


def test_a_checkpoint_that_the_role_did_not_sign_is_nobodys(logged: Logged) -> None:
    logged.tell("a")
    refresh_checkpoint(logged.site.context())
    logged.site.overwrite({layout.AUDIT_CHECKPOINT: b"{}"})
    with pytest.raises(Untrusted):
        read(logged)


def test_a_log_that_lost_entries_gets_no_checkpoint(logged: Logged) -> None:
    logged.tell("a", "b")
    refresh_checkpoint(logged.site.context())
    logged.put(list(logged.log().lines[:1]))
    with pytest.raises(Untrusted, match="truncated"):
        refresh_checkpoint(logged.site.context())
    assert read(logged).size == 2


def test_a_checkpoint_of_another_log_is_not_followed(logged: Logged) -> None:
    """Another place of the role signed for entries that this one does not find in the log."""
    logged.tell("a", "b")
    elsewhere = Peaks().grow([], [b"another"])
    signer = load_signer(logged.site.keys, "timestamp")
    envelope = sign_checkpoint(elsewhere, created="2013-07-01T00:00:00Z", signer=signer)
    logged.site.overwrite({layout.AUDIT_CHECKPOINT: envelope})
    with pytest.raises(Untrusted, match="first 1 entries have another root"):
        refresh_checkpoint(logged.site.context())


def test_without_the_role_no_checkpoint_is_signed(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged.tell("a")
    monkeypatch.setenv("HEADRACE_ROLES", "releaser")
    with pytest.raises(BadKey, match="may not use the timestamp's key"):
        refresh_checkpoint(logged.site.context())
