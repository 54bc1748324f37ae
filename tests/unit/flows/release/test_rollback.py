from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.release.publish_index import verify_registered
from flows.release.rollback import RollbackRequest, plan_rollback
from flows.trust.newest_index import verify_unseen
from security.errors import Untrusted
from security.policy.key_homes import load_signer
from security.release.index import Index, sign_index
from security.release.index import NamedRelease as Named
from storage.errors import NotFound, Refused
from storage.lake import MAIN
from storage.registry import ReleaseRef
from tests.release_site import Site
from tests.unit.fake_lake import MemoryLake


def plan(site: Site, reason: str = "bad", to: ReleaseRef | None = None):  # type: ignore[no-untyped-def]
    request = RollbackRequest("production", reason, to=to, keep_data=True)
    return plan_rollback(site.context("ana"), request)


@dataclass(frozen=True)
class Registered:
    """A lake with three releases that nobody promoted, and the keys of its roles."""

    lake: MemoryLake
    home: Path
    releases: tuple[Named, ...]

    def run(self, past: list[int], folder: Path) -> Site:
        """A site whose production ran these releases, one index after another."""
        from dataclasses import replace

        from examples.flights.pipeline import pipeline as flights
        from tests.release_site import GATES

        (folder / "keys").symlink_to(self.home)
        site = Site(self.lake, replace(flights, gates=GATES), {}, folder / "keys", folder / "work")
        context, signer = site.context(), load_signer(self.home, "releaser")
        previous, files = None, {}
        for number, version in enumerate(past, 1):
            index = Index(
                environment="production",
                number=number,
                release=self.releases[version - 1],
                actor="ana",
                reason="-",
                created="2013-07-01T00:00:00Z",
                previous=previous,
            )
            envelope = sign_index(index, signer)
            previous = verify_unseen(envelope, "production", context.trusted.policy).digest
            files[f"environments/production/index/{number}.json"] = envelope
        fs, repository = self.lake.fs, "flights-releases"
        standing = {one.path for one in fs.objects(repository, MAIN, prefix="environments/")}
        site.overwrite({**dict.fromkeys(standing - files.keys()), **files})
        return site


@pytest.fixture(scope="module")
def registered(key_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    from examples.flights.pipeline import pipeline as flights

    lake, work = MemoryLake(), tmp_path_factory.mktemp("three")
    lake.create_pipeline("flights")
    site = Site(lake, flights, {}, key_home, work)
    refs = [site.register(lake.pin("flights")) for _ in range(3)]
    pin, policy = lake.pin("flights-releases"), site.policy
    verified = (verify_registered(lake, pin, ref, policy) for ref in refs)
    return Registered(lake, key_home, tuple(Named.of(one.release) for one in verified))


@settings(max_examples=8)
@given(past=st.lists(st.integers(1, 3), min_size=1, max_size=6))
def test_a_rollback_goes_to_what_ran_before_and_never_forward(
    registered: Registered, past: list[int]
) -> None:
    with TemporaryDirectory() as folder:
        site = registered.run(past, Path(folder))
        came = past.index(past[-1])
        if came == 0:
            with pytest.raises(
                NotFound, match=f"Nothing ran in production before flights/{past[-1]}"
            ):
                plan(site)
            return
        found = plan(site)
        assert found.release.version == past[came - 1]
        assert past.index(found.release.version) < came
        assert (found.left.version, found.repeated, found.data) == (past[-1], False, None)


def test_rollbacks_one_after_another_end_at_the_first_release(site: Site) -> None:
    data = site.lake.pin("flights")
    for _ in range(3):
        site.promote(site.register(data))
    assert [site.roll_back(f"reason {n}", keep_data=True).release.version for n in (1, 2)] == [2, 1]
    assert site.served() == "5: 1"
    with pytest.raises(NotFound, match="Nothing ran in production before flights/1"):
        plan(site, "reason 3")


def test_one_reason_is_one_rollback(site: Site) -> None:
    data = site.lake.pin("flights")
    for _ in range(3):
        site.promote(site.register(data))
    first, again = (site.roll_back("it is late", keep_data=True) for _ in range(2))
    assert (first.index, first.already) == (4, False)
    assert (again.index, again.already) == (4, True)
    assert (again.left, again.release) == (first.left, first.release)
    assert plan(site, "it is late").is_done
    assert site.served() == "4: 2"


def test_what_runs_already_is_no_rollback(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    with pytest.raises(Refused) as caught:
        plan(site, to=ref)
    assert str(caught.value) == "production runs flights/1 already."
    commit = site.lake.pin("flights").commit
    assert caught.value.remedy.endswith(f"headrace data rollback --all --to {commit[:12]}`.")


def test_where_nothing_was_promoted_nothing_goes_back(site: Site, ref: ReleaseRef) -> None:
    with pytest.raises(NotFound, match="Nothing was ever promoted to production"):
        plan(site)


def test_a_release_that_does_not_verify_is_not_gone_back_to(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    site.promote(site.register(site.lake.pin("flights")))
    site.damage(ref)
    with pytest.raises(Untrusted):
        plan(site)
    assert site.served() == "2: 2"


def test_a_plan_changes_nothing(site: Site, ref: ReleaseRef) -> None:
    site.promote(ref)
    site.promote(site.register(site.lake.pin("flights")))
    before = site.context().pin_releases()
    assert plan(site, to=ref).release == ref
    assert site.context().pin_releases() == before
