"""Promotion by two releasers, each with a keys folder of their own, through the command line."""

import json
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from flows import audit
from flows.context import Context
from flows.release import proposals
from flows.release.approval import approve
from flows.trust.installation import Trusted
from security.errors import Untrusted
from security.formats import canonical
from security.formats.envelope import INTOTO, read_unverified_payload
from security.formats.strict_json import from_bytes
from security.keys.keyfiles import write_private
from security.keys.pairs import Signer
from security.policy.documents import PairRecord, RoleKeys, sign_trust
from security.policy.key_homes import load_signer
from security.policy.trust_policy import TRUST
from security.release.index import INDEX_TYPE, Canary, Index, sign_index
from security.release.index import NamedRelease as Named
from storage import registry
from storage.errors import NotFound, Refused, StorageError
from storage.registry import ReleaseRef
from tests.release_site import context_of


class Two:
    """A site whose production needs two releasers: `ana` at home, `ben` elsewhere."""

    def __init__(self, site: Any, elsewhere: Path, *, role_threshold: int) -> None:
        self.site, self.ben_home = site, elsewhere
        self.ben = elsewhere / "keys"
        second = Signer.generate("releaser")
        trust = site.policy.trust
        held = (*trust.roles["releaser"].keys, PairRecord.of(second.public))
        changed = replace(
            trust,
            version=trust.version + 1,
            roles={**trust.roles, "releaser": RoleKeys(held, role_threshold)},
            index_thresholds={"production": 2},
        )
        (site.keys / TRUST).write_bytes(sign_trust(changed, load_signer(site.keys, "root")))
        self.ben.mkdir(parents=True)
        for public in ("root.json", "trust.dsse.json", "rules.dsse.json"):
            shutil.copy(site.keys / public, self.ben / public)
        write_private(self.ben / "releaser", second.private_halves(), None)

    def as_ben(self, *arguments: str) -> Result:
        changed = {**self.site.environment, "HEADRACE_HOME": str(self.ben_home)}
        return replace(self.site, environment=changed).run(*arguments)

    def ben_context(self) -> Context:
        return context_of(self.site.lake, self.site.pipeline, self.ben, actor="ben")

    def propose(self, ref: ReleaseRef, reason: str = "passed") -> Result:
        done = self.site.run("model", "promote", str(ref), "--reason", reason)
        assert done.exit_code == 0, (done.output, done.exception)
        return done

    def approve(self, number: int) -> Result:
        return self.as_ben("model", "approve", str(number), "--yes")

    @property
    def indexes(self) -> list[int]:
        head = registry.head(self.site.lake, self.site.pipeline.name)
        return registry.index_numbers(self.site.lake, head, "production")

    @property
    def told(self) -> list[str]:
        head = registry.head(self.site.lake, self.site.pipeline.name)
        return [entry.kind for entry in audit.read_log(self.site.lake, head).entries]


@pytest.fixture
def two(site: Any, tmp_path: Path) -> Two:
    return Two(site, tmp_path / "ben", role_threshold=1)


def test_the_first_proposes_the_second_approves_and_then_it_serves(two: Two) -> None:
    site = two.site
    ref = site.register(site.land("N1"))
    assert "proposal 1 of production names" in two.propose(ref).stdout
    assert two.indexes == []
    (waiting,) = json.loads(two.as_ben("model", "proposals", "--json").stdout)
    assert (waiting["state"], waiting["release"], waiting["needed"]) == ("open", str(ref), 2)
    done = two.approve(1)
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout == f"production index 1 names {ref}\n"
    assert site.served() == "1: 1"
    assert two.told[-2:] == ["proposal.approved", "index.promoted"]
    pin = registry.head(site.lake, site.pipeline.name)
    index = audit.read_log(site.lake, pin).entries[-1]
    ana = load_signer(site.keys, "releaser").public.key_id
    ben = load_signer(two.ben, "releaser").public.key_id
    assert set(index.key_ids or ()) == {ana, ben}
    assert site.run("audit", "verify").exit_code == 0
    assert json.loads(site.run("model", "proposals", "--json").stdout)[0]["state"] == "approved"


def test_one_releaser_twice_counts_once(two: Two) -> None:
    ref = two.site.register(two.site.land("N1"))
    two.propose(ref)
    again = two.site.run("model", "approve", "1", "--yes")
    assert isinstance(again.exception, Refused)
    assert "one counts once" in str(again.exception)
    assert two.indexes == []


def test_the_same_request_is_one_proposal(two: Two) -> None:
    ref = two.site.register(two.site.land("N1"))
    first, second = two.propose(ref), two.propose(ref)
    assert first.stdout == second.stdout
    assert two.told.count("proposal.made") == 1


def test_approving_asks_and_says_what_it_is_about(two: Two) -> None:
    ref = two.site.register(two.site.land("N1"))
    two.propose(ref)
    done = two.as_ben("model", "approve", "1")
    assert done.exit_code == 1
    assert re.search(rf"proposes a promotion to {ref} \(passed\) as index 1", done.stderr)
    assert two.indexes == []


def test_a_proposal_put_in_an_indexs_place_is_refused(two: Two) -> None:
    site, fs = two.site, two.site.lake.fs
    two.propose(site.register(site.land("N1")))
    place = "environments/production/proposals/1.json"
    filed = json.loads(fs.get(site.pipeline.releases, "main", place))
    forged = filed["envelope"].encode()
    site.overwrite({"environments/production/index/1.json": forged})
    trusted = Trusted.load(site.keys)
    with pytest.raises(Untrusted, match="1 of the 2 signing pairs"):
        trusted.newest_index(site.lake, registry.head(site.lake, site.pipeline.name), "production")


def file_instead(two: Two, **changes: Any) -> None:
    """Proposal 1 as its first releaser changes and signs it anew, past the command line."""
    place = "environments/production/proposals/1.json"
    filed = json.loads(two.site.lake.fs.get(two.site.pipeline.releases, "main", place))
    payload = read_unverified_payload(filed["envelope"].encode(), INDEX_TYPE)
    index = replace(from_bytes(Index, payload), **changes)
    envelope = sign_index(index, load_signer(two.site.keys, "releaser"))
    two.site.overwrite({place: canonical.encode({**filed, "envelope": envelope.decode()})})


def test_nobody_approves_a_canary_that_was_not_shown(two: Two) -> None:
    """Attack 63: the index names a good release, and gives 99 % of the traffic to another."""
    bad, good = (two.site.register(two.site.land(name)) for name in ("N1", "N2"))
    two.propose(good)
    digest = two.site.read("verify", str(bad))["digest"]
    other = Named(bad.model, bad.version, digest, bad.path)
    for hidden in ({"canary": Canary(other, 99)}, {"shadow": other}):
        file_instead(two, **hidden)
        done = two.approve(1)
        assert isinstance(done.exception, Untrusted)
        assert "says more than which release is to run" in str(done.exception)
    file_instead(two, created="2099-01-01T00:00:00Z", canary=None, shadow=None)
    assert "which is to come" in str(two.approve(1).exception)
    assert two.indexes == []


def test_what_is_signed_is_what_was_shown(two: Two) -> None:
    site = two.site
    one, other = (site.register(site.land(name)) for name in ("N1", "N2"))
    two.propose(one)
    trusted = Trusted.load(two.ben)
    head = registry.head(site.lake, site.pipeline.name)
    shown = proposals.open_proposal(site.lake, head, trusted, "production", 1)
    digest = site.read("verify", str(other))["digest"]
    file_instead(two, release=Named(other.model, other.version, digest, other.path))
    with pytest.raises(Refused, match="is not the one that was shown any more"):
        approve(two.ben_context(), environment="production", number=1, shown=shown)
    assert two.indexes == []


def test_of_two_proposals_one_wins_and_the_other_is_overtaken(two: Two) -> None:
    site = two.site
    one, other = (site.register(site.land(name)) for name in ("N1", "N2"))
    two.propose(one)
    two.propose(other)
    assert two.approve(2).exit_code == 0
    late = two.approve(1)
    assert isinstance(late.exception, Refused)
    assert "Proposal 1 of production is overtaken" in str(late.exception)
    assert site.served() == "1: 2"


def test_an_expired_proposal_is_refused_and_can_be_proposed_anew(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = two.site.register(two.site.land("N1"))
    two.propose(ref)
    with monkeypatch.context() as later:
        later.setattr(proposals, "LIFETIME", timedelta(seconds=-1))
        late = two.approve(1)
        assert isinstance(late.exception, Refused)
        assert "is expired at" in str(late.exception)
        assert "proposal 2" in two.propose(ref).stdout
    assert two.indexes == []


def test_a_stranger_and_another_role_cannot_approve(two: Two) -> None:
    two.propose(two.site.register(two.site.land("N1")))
    shutil.rmtree(two.ben / "releaser")
    write_private(two.ben / "releaser", Signer.generate("releaser").private_halves(), None)
    done = two.approve(1)
    assert isinstance(done.exception, Untrusted)
    assert "not enrolled" in str(done.exception)
    assert two.indexes == []


def test_the_second_releaser_verifies_the_release_for_themselves(two: Two) -> None:
    ref = two.site.register(two.site.land("N1"))
    two.propose(ref)
    two.site.damage(ref)
    done = two.approve(1)
    assert isinstance(done.exception, Untrusted)
    assert two.indexes == []
    assert two.told[-1] == "refused"


def test_a_number_that_nobody_proposed_is_not_found(two: Two) -> None:
    two.site.promote(two.site.register(two.site.land("N1")))
    assert isinstance(two.approve(7).exception, NotFound)


def test_a_rollback_needs_two_as_well_and_then_takes_the_datasets_back(two: Two) -> None:
    site = two.site
    for name in ("N1", "N2"):
        two.propose(site.register(site.land(name)), reason=name)
        number = len(two.indexes) + 1
        assert two.approve(number).exit_code == 0
    command = ("rollback", "--environment", "production", "--reason", "bad feed", "--yes")
    first = site.read(*command)
    assert (first["proposal"], first["data"]) == (3, None)
    assert (site.served(), site.rows()) == ("2: 2", {"N1", "N2"})
    assert two.approve(3).exit_code == 0
    assert (site.served(), site.rows()) == ("3: 1", {"N1", "N2"})
    done = site.read(*command)
    assert (done["index"], done["proposal"]) == (3, None)
    assert (site.served(), site.rows()) == ("3: 1", {"N1"})
    assert two.told.count("index.rolled-back") == 1


def test_where_releases_need_two_signatures_approval_adds_the_second(
    site: Any, tmp_path: Path
) -> None:
    two = Two(site, tmp_path / "ben", role_threshold=2)
    ref = site.register(site.land("N1"))
    two.propose(ref)
    assert site.run("verify", str(ref)).exit_code == 1
    done = two.approve(1)
    assert done.exit_code == 0, (done.output, done.exception)
    found = site.read("verify", str(ref))
    envelope = site.lake.fs.get(site.pipeline.releases, "main", f"{ref.path}/release.dsse.json")
    signed = site.policy.verify(envelope, role="releaser", payload_type=INTOTO)
    assert len(signed.key_ids) == 2
    assert found["verified"]
    assert site.served() == "1: 1"
    assert site.run("audit", "verify").exit_code == 0


def test_a_promotion_to_an_environment_of_one_releaser_is_published_at_once(two: Two) -> None:
    ref = two.site.register(two.site.land("N1"))
    done = two.site.run(
        *("model", "promote", str(ref), "--reason", "try", "--environment", "staging")
    )
    assert done.stdout == f"staging index 1 names {ref}\n"


def test_two_approvals_at_once_publish_once(two: Two) -> None:
    import threading

    ref = two.site.register(two.site.land("N1"))
    two.propose(ref)
    found: list[int | None] = []

    def run() -> None:
        try:
            done = approve(two.ben_context(), environment="production", number=1)
            found.append(done.index)
        except StorageError:
            found.append(None)

    both = [threading.Thread(target=run) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert 1 in found
    assert two.indexes == [1]
    assert two.told.count("index.promoted") == 1


def test_from_one_releaser_to_two_through_the_command_line_alone(site: Any, tmp_path: Path) -> None:
    bens_home, public = tmp_path / "bens", tmp_path / "ben.json"
    public.write_text(site.run("keys", "make", "releaser", str(bens_home)).stdout)
    for command in (
        ("keys", "enrol", "releaser", str(public)),
        ("policy", "sign", "--releasers", "production=2"),
    ):
        done = site.run(*command)
        assert done.exit_code == 0, (done.output, done.exception)
    ref = site.register(site.land("N1"))
    assert site.run("model", "promote", str(ref), "--reason", "passed").exit_code == 0
    assert isinstance(site.run("model", "approve", "1", "--yes").exception, Refused)
    as_ben = {**site.environment, "HEADRACE_RELEASER_KEY": f"file:{bens_home}"}
    done = replace(site, environment=as_ben).run("model", "approve", "1", "--yes")
    assert done.stdout == f"production index 1 names {ref}\n", (done.output, done.exception)
    assert site.served() == "1: 1"
    told = [entry["kind"] for entry in site.read("audit", "log", "-n", "100")]
    assert told[:2] == ["index.promoted", "proposal.approved"]
    assert told.count("key.enrolled") == 6
    assert site.read("audit", "verify")["holds"]


@pytest.mark.long
def test_the_serve_flow_proposes_and_says_who_has_to_approve(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from flows.release.flow import serve

    ref = two.site.register(two.site.land("N1"))
    monkeypatch.syspath_prepend(two.site.environment["HEADRACE_ROOT"])
    for name, value in two.site.environment.items():
        monkeypatch.setenv(name, value)
    with prefect_test_harness(server_startup_timeout=300):
        state = serve(release=str(ref), reason="by the flow", return_state=True)
    assert state.is_completed()
    assert "headrace model approve 1" in (state.message or "")
    assert two.indexes == []
    assert two.approve(1).exit_code == 0
    assert two.site.served() == "1: 1"
