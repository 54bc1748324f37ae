from pathlib import Path

import pytest

from flows.errors import Misconfigured
from flows.release.catalog import (
    check_release,
    copy_release,
    list_releases,
    read_policy,
    read_running,
)
from security.errors import Untrusted
from security.policy.edition import change_rules
from security.policy.key_homes import load_signer
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.verify import RELEASE, verify_release
from storage.errors import NotFound
from storage.registry import ReleaseRef
from tests.release_site import Site


def test_releases_are_listed_newest_first_with_where_they_run(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    site.register(site.lake.pin("flights"))
    site.overwrite({f"models/flights/3/{RELEASE}": b"{}", "models/flights/x/card.md": b""})
    context = site.context()
    found = list_releases(site.lake, context.pin_releases(), "flights", site.policy)
    assert [one.ref.version for one in found] == [3, 2, 1]
    assert [dict(one.runs_in) for one in found] == [{}, {}, {"production": 1}]
    signer = load_signer(site.keys, "releaser").public.key_id
    assert [one.key_id for one in found] == ["", signer, signer]
    nobodys, second, _ = found
    assert nobodys.release is None
    assert nobodys.problem
    assert second.release is not None
    assert (second.problem, second.release.version) == ("", 2)


def test_a_version_without_a_statement_says_so(site: Site) -> None:
    site.overwrite({"models/flights/1/card.md": b"# nothing"})
    pin = site.context().pin_releases()
    (one,) = list_releases(site.lake, pin, "flights", site.policy)
    assert one.release is None
    assert "models/flights/1/release" in one.problem


def test_an_index_that_nobody_signed_is_not_what_runs(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    site.overwrite({"environments/staging/index/1.json": b"{}", "environments/empty/x": b""})
    running = read_running(site.lake, site.context().pin_releases(), site.policy)
    assert {name: index.number for name, index in running.items()} == {"production": 1}


def test_every_step_passes_or_the_first_that_does_not_is_named(site: Site, ref: ReleaseRef) -> None:
    pin = site.context().pin_releases()
    good = check_release(site.lake, pin, ref, site.policy)
    assert good.verified is not None
    assert good.refusal is None
    assert good.card == "# Model card: late flights\n"
    site.damage(ref)
    bad = check_release(site.lake, site.context().pin_releases(), ref, site.policy)
    assert isinstance(bad.refusal, Untrusted)
    assert (bad.verified, bad.card) == (None, "")
    assert bad.steps == good.steps[: len(bad.steps)]
    assert 0 < len(bad.steps) < len(good.steps)
    with pytest.raises(NotFound):
        check_release(site.lake, pin, ReleaseRef("flights", 9), site.policy)


def test_a_copy_is_all_that_a_verifier_needs(site: Site, ref: ReleaseRef, tmp_path: Path) -> None:
    site.promote(ref)
    out, pin = tmp_path / "out", site.context().pin_releases()
    copy_release(site.lake, pin, ref, out)
    policy = TrustPolicy.load(out, root=load_root(site.keys / "root.json"))
    assert verify_release(out, policy=policy, name="flights", version=1).release.version == 1
    with pytest.raises(Misconfigured, match="holds something"):
        copy_release(site.lake, pin, ref, out)


def test_a_copy_that_fails_leaves_no_folder(site: Site, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        copy_release(
            site.lake, site.context().pin_releases(), ReleaseRef("flights", 1), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_the_policy_is_the_published_one_or_a_newer_one_here(site: Site, ref: ReleaseRef) -> None:
    context = site.context()
    with pytest.raises(NotFound, match="flights-releases holds no trust policy yet"):
        read_policy(context, context.pin_releases())
    site.promote(ref)
    pin = context.pin_releases()
    assert read_policy(context, pin).edition == (1, 1, 1)
    signer = load_signer(site.keys, "policy")
    change_rules(site.keys, _demand_clean_code, signer=signer)
    assert read_policy(context, pin).edition == (1, 1, 2)
    for name in ("trust.dsse.json", "rules.dsse.json"):
        (site.keys / name).unlink()
    assert read_policy(context, pin).edition == (1, 1, 1)


def test_without_a_pinned_root_no_policy_is_believed(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    (site.keys / "root.json").unlink()
    with pytest.raises(Misconfigured, match="There is no pinned root in"):
        read_policy(site.context(), site.context().pin_releases())


def _demand_clean_code(rules):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(rules, require_clean_code=True)
