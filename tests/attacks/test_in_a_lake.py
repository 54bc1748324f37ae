"""Attacks 30 to 32, 35 and 36 on a lake: what promotes, rolls back, audits and serves there.

Whoever can write to the lake and has no key tries them. test_binding.py has those of these
numbers that are on the functions which decide.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows import audit
from flows.audit import reading
from flows.release import promote as promoting
from flows.release import timestamp
from flows.service.models.admit import Admission, Admitted
from flows.service.models.offer import Source
from flows.service.models.state import ServingState
from flows.trust.installation import Trusted
from security.audit.log import Log, Peaks
from security.audit.merkle import CompactRange
from security.errors import Untrusted
from security.formats.strict_json import to_bytes
from security.policy.documents import sign_trust
from security.policy.key_homes import load_signer
from security.policy.trust_policy import TRUST
from security.release import trusted_set
from storage import registry
from storage.errors import Refused
from storage.registry import ReleaseRef, layout
from tests.release_site import Served, Site, served, site

ROOT = Path(__file__).parents[2]
__all__ = ["served", "site"]

INDEX = "environments/production/index"


class Server:
    """One replica, as the prediction service runs it; in a new folder it has no floor."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.source = Source(site.lake, site.pipeline.name, "production")
        self.admission = Admission(
            environment="production", keys=site.keys, folder=folder, key="tailnum"
        )

    def serves(self) -> Admitted:
        """What the lake's offer makes it serve."""
        offer = self.source.newest(self.source.head())
        assert offer is not None
        return self.admission.admit(self.source, offer)

    def refuses(self, step: str = "index") -> str:
        with pytest.raises(Untrusted) as refused:
            self.serves()
        assert self.admission.step.startswith(step), refused.value
        return str(refused.value)


@pytest.fixture
def replica(served: Served, tmp_path: Path) -> Callable[[str], Server]:
    return lambda name: Server(served.site, tmp_path / "replicas" / name)


def indexes(site: Site) -> list[int]:
    head = registry.head(site.lake, site.pipeline.name)
    return registry.index_numbers(site.lake, head, "production")


def release(admitted: Admitted) -> str:
    return admitted.loaded.champion.release


def taken_back(site: Site) -> None:
    """Of the lake: to the day when index 1 was the newest."""
    site.overwrite({f"{INDEX}/2.json": None})


def nobody_builds_on_it(served: Served, reason: str) -> None:
    """Neither a promotion nor a rollback, and no index comes of trying."""
    site, before = served.site, indexes(served.site)
    for attempt in (
        lambda: site.promote(served.old, reason="on top"),
        lambda: site.roll_back("on top", keep_data=True),
    ):
        with pytest.raises(Untrusted, match=reason):
            attempt()
    assert indexes(site) == before


def test_30_a_lake_taken_back_to_an_old_index_is_refused_by_all_who_saw_the_new_one(
    served: Served, replica: Callable[[str], Server]
) -> None:
    server = replica("one")
    assert release(server.serves()) == str(served.new)
    taken_back(served.site)
    reason = "index 1 is below the floor, 2: an old index was offered"
    assert server.refuses() == reason
    nobody_builds_on_it(served, reason)


def test_30_an_old_index_under_a_new_number_is_refused(
    served: Served, replica: Callable[[str], Server]
) -> None:
    server = replica("one")
    server.serves()
    old = served.site.lake.fs.get(served.site.pipeline.releases, "main", f"{INDEX}/1.json")
    served.site.overwrite({f"{INDEX}/3.json": old})
    assert "index 1 is below the floor, 2" in server.refuses()
    assert replica("fresh").refuses() == "index file 3 holds index 1"
    nobody_builds_on_it(served, "index 1 is below the floor, 2")


def test_30_an_old_model_in_the_place_of_the_one_that_the_index_names_is_refused(
    served: Served, replica: Callable[[str], Server]
) -> None:
    """Every file of it is validly signed, by the same people."""
    fs, pin = served.site.lake.fs, registry.head(served.site.lake, served.site.pipeline.name)
    old, new = f"{served.old.path}/", f"{served.new.path}/"
    paths = [found.path for found in fs.objects(pin.repository, pin.commit, prefix=old)]
    served.site.overwrite(
        {new + path.removeprefix(old): fs.get(pin.repository, "main", path) for path in paths}
    )
    reason = replica("one").refuses("release, step ")
    name = served.old.model
    assert reason == f"the release is {name} version 1, not {name} version 2"


def test_30_a_deliberate_rollback_is_a_new_index_and_is_served(
    served: Served, replica: Callable[[str], Server]
) -> None:
    server = replica("one")
    server.serves()
    served.site.roll_back("a bad feed", keep_data=True)
    assert release(server.serves()) == str(served.old)
    assert served.site.served() == "3: 1"


def test_31_a_fresh_server_fed_an_old_index_is_protected_by_the_timestamp(
    served: Served, replica: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_back(served.site)
    with monkeypatch.context() as a_day_later:
        a_day_later.setattr(trusted_set, "GRACE", timedelta(seconds=-1))
        assert replica("of tomorrow").refuses() == "index 1 has no timestamp"


def test_31_a_fresh_server_fed_an_old_index_is_protected_by_the_policys_minimum(
    served: Served, replica: Callable[[str], Server]
) -> None:
    site, trust = served.site, served.site.policy.trust
    changed = replace(trust, version=trust.version + 1, minimum_index={"production": 2})
    (site.keys / TRUST).write_bytes(sign_trust(changed, load_signer(site.keys, "root")))
    assert release(replica("one").serves()) == str(served.new)
    taken_back(site)
    assert "index 1 is below the floor, 2" in replica("fresh").refuses()


def test_31_what_a_replica_without_a_volume_cannot_know_is_documented(
    served: Served, replica: Callable[[str], Server]
) -> None:
    """An index of today, from the policy's minimum on: it is served, and the format says so."""
    taken_back(served.site)
    assert release(replica("fresh").serves()) == str(served.old)
    documented = (ROOT / "docs" / "formats" / "index.md").read_text()
    assert "**What a replica without a volume cannot know**" in documented


def test_32_a_frozen_index_stops_promotion_and_alarms_the_server_that_goes_on(
    served: Served, replica: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, server = served.site, replica("running")
    with monkeypatch.context() as short:
        short.setattr(timestamp, "LIFETIME", timedelta(seconds=3))
        assert site.timestamp()
    known = server.serves()
    assert (release(known), known.stale) == (str(served.new), "")
    assert known.fresh_until is not None
    time.sleep(max(0.0, (known.fresh_until - datetime.now(UTC)).total_seconds()))

    with pytest.raises(Untrusted, match="the index's timestamp expired at") as refused:
        site.promote(served.old, reason="on top")
    assert "timestamp deployment" in refused.value.remedy
    assert indexes(site) == [1, 2]
    frozen = server.serves()
    assert release(frozen) == str(served.new)
    assert frozen.stale.startswith("the index's timestamp expired at")
    assert replica("fresh").refuses().startswith("the index's timestamp expired at")

    told = ServingState(loaded=frozen.loaded, stale=frozen.stale)
    assert told.explain_staleness(datetime.now(UTC)) == frozen.stale
    assert site.timestamp()
    assert server.serves().stale == ""
    assert site.promote(served.old, reason="on top").index == 3


def after(line: bytes) -> bytes:
    """The same entry once more, under the next number."""
    number = json.loads(line)["number"]
    return line.replace(b'"number":%d' % number, b'"number":%d' % (number + 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines[:-2], "the audit log was truncated: it had {} entries and has {}"),
        (
            lambda lines: [*lines[:-1], lines[-1].replace(b'"serve"', b'"mouse"')],
            "the audit log was rewritten or forked",
        ),
        (
            lambda lines: [lines[0].replace(b'"ana"', b'"eve"'), *lines[1:], after(lines[-1])],
            "the audit log was rewritten or forked",
        ),
    ],
    ids=["truncated", "its last entry rewritten", "forked and grown"],
)
@pytest.mark.parametrize("floor", [True, False], ids=["who has seen it", "anybody else"])
def test_35_a_changed_log_fails_against_the_signed_checkpoint(
    served: Served, change: Callable[[list[bytes]], list[bytes]], reason: str, floor: bool
) -> None:
    """By `headrace audit verify`, with the floor of who read it before and without one."""
    site = served.site
    assert site.run("audit", "checkpoint").exit_code == 0
    assert site.run("audit", "verify").exit_code == 0
    head = registry.head(site.lake, site.pipeline.name)
    lines = list(audit.read_log(site.lake, head).lines)
    forged = change(lines)
    assert forged != lines
    write_log(site, len(lines), forged)
    if not floor:
        reading.floor_path(Trusted.load(site.keys).floors, site.pipeline.releases).unlink()
    done = site.run("audit", "verify")
    assert isinstance(done.exception, Untrusted)
    assert reason.format(len(lines), len(forged)) in str(done.exception)
    assert (done.stdout, site.served()) == ("", "2: 2")


def write_log(site: Site, size: int, lines: list[bytes]) -> None:
    """Another log, with a head that fits it, in the place of one that had `size` entries."""
    segments = range(-(-max(size, len(lines)) // 64))
    parts = {number: lines[number * 64 : number * 64 + 64] for number in segments}
    files: dict[str, bytes | None] = {
        layout.audit_segment(number): b"".join(line + b"\n" for line in part) or None
        for number, part in parts.items()
    }
    leaves = Log(tuple(lines)).leaves
    files[layout.AUDIT_HEAD] = to_bytes(Peaks.of(CompactRange().grow(leaves)))
    site.overwrite(files)


def test_36_of_two_releasers_at_once_one_wins_and_the_other_is_told_who(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read index 2 before either writes."""
    site, both_decided = served.site, threading.Barrier(2, timeout=60)
    third = site.register(site.land("N4"))
    publish, told = promoting.publish_index, dict[str, str]()

    def at_once(*given: Any) -> Any:
        both_decided.wait()
        return publish(*given)

    monkeypatch.setattr(promoting, "publish_index", at_once)

    def run(who: str, ref: ReleaseRef) -> None:
        try:
            site.promote(ref, reason="race", actor=who)
        except Refused as error:
            told[who] = str(error)
        else:
            told[who] = "won"

    wanted = {"ana": third, "ben": served.old}
    race = [threading.Thread(target=run, args=(who, ref)) for who, ref in wanted.items()]
    for one in race:
        one.start()
    for one in race:
        one.join()
    winner, loser = sorted(wanted, key=lambda who: told[who] != "won")
    assert told[winner] == "won"
    assert told[loser] == (
        f"{winner} wrote index 3 of production meanwhile: {wanted[winner]} (race)."
    )
    assert indexes(site) == [1, 2, 3]
    assert site.served() == f"3: {wanted[winner].version}"
    monkeypatch.undo()
    assert site.promote(wanted[loser], reason="race", actor=loser).index == 4
    assert site.read("audit", "verify")["holds"]
