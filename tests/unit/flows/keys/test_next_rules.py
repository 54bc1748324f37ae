from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegression

from examples.flights.pipeline import pipeline as flights
from flows.errors import Misconfigured
from flows.keys.next_rules import TrustNumbers, draft_rules, sign_rules
from flows.keys.supplied_keys import BroughtKey
from flows.pipeline import Gate
from flows.pipeline.gate_rules import make_gate_rules
from security.errors import BadKey, Untrusted
from security.policy.edition import load_policy
from security.policy.trust_policy import TrustPolicy
from tests.release_site import Site

OWN = BroughtKey(None)
NONE = TrustNumbers({}, {}, {})
PIPELINE = replace(
    flights,
    gates=(Gate("log_loss", "<=", "0.5"),),
    estimator=lambda _: LogisticRegression(max_iter=200),
)


def sign(
    site: Site, numbers: TrustNumbers = NONE, *, clean: bool | None = None
) -> tuple[TrustPolicy, bool]:
    site = replace(site, pipeline=PIPELINE)
    return sign_rules(
        site.context("ana"), numbers, require_clean_code=clean, policy_key=OWN, root_key=OWN
    )


def test_numbers_are_merged_with_those_there_are(key_home: Path) -> None:
    trust = load_policy(key_home).trust
    once = TrustNumbers({"production": 1}, {"trainer": 1}, {"staging": 3}).applied(trust)
    twice = TrustNumbers({"staging": 1}, {}, {"staging": 4, "x": 0}).applied(once)
    assert twice.index_thresholds == {"production": 1, "staging": 1}
    assert twice.minimum_index == {"staging": 4, "x": 0}
    assert NONE.applied(trust) == trust
    higher = TrustNumbers({}, {"releaser": 2}, {}).applied(trust)
    assert higher.roles["releaser"].threshold == 2
    assert higher.roles["releaser"].keys == trust.roles["releaser"].keys
    assert higher.roles["trainer"] == trust.roles["trainer"]


def test_a_threshold_for_what_is_no_role(key_home: Path) -> None:
    with pytest.raises(Misconfigured, match="'root' is no role") as caught:
        TrustNumbers({}, {"root": 1}, {}).applied(load_policy(key_home).trust)
    assert "gatekeeper, policy, releaser" in caught.value.remedy


def test_the_rules_of_other_pipelines_stay(key_home: Path) -> None:
    rules = load_policy(key_home).rules
    own = make_gate_rules(PIPELINE.gates)
    alone = draft_rules(replace(rules, skops_types=("old.Type",)), PIPELINE)
    assert (dict(alone.gates), alone.skops_types) == ({"flights": own}, ())
    shared = replace(rules, gates={"other": own}, skops_types=("old.Type",))
    drafted = draft_rules(shared, PIPELINE)
    assert dict(drafted.gates) == {"other": own, "flights": own}
    assert drafted.skops_types == ("old.Type",)


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (None, None, None),
        (True, None, True),
        (None, True, True),
        (True, False, None),
        (None, False, None),
    ],
)
def test_clean_code_is_demanded_until_somebody_says_otherwise(
    key_home: Path, before: bool | None, asked: bool | None, after: bool | None
) -> None:
    rules = replace(load_policy(key_home).rules, require_clean_code=before)
    assert draft_rules(rules, PIPELINE, require_clean_code=asked).require_clean_code is after


def test_each_part_is_signed_by_its_own_role_and_only_if_it_differs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sign(site)[1] is False
    monkeypatch.setenv("HEADRACE_ROLES", "policy")
    policy, changed = sign(site, clean=True)
    assert (policy.edition, changed) == ((1, 1, 2), True)
    with pytest.raises(BadKey, match="the root's key is not at hand"):
        sign(site, TrustNumbers({}, {}, {"production": 1}))
    monkeypatch.setenv("HEADRACE_ROLES", "root")
    policy, changed = sign(site, TrustNumbers({}, {}, {"production": 1}))
    assert (policy.edition, changed) == ((1, 2, 2), True)
    assert sign(site, TrustNumbers({}, {}, {"production": 1}), clean=True)[1] is False
    standing = site.lake.fs.get("flights-releases", "main", "policy/trust.dsse.json")
    assert standing == (site.keys / "trust.dsse.json").read_bytes()


def test_a_threshold_that_nobody_can_reach_is_not_signed(site: Site) -> None:
    with pytest.raises(Untrusted, match="production needs more releasers than are enrolled"):
        sign(site, TrustNumbers({"production": 2}, {}, {}))
    assert load_policy(site.keys).edition == (1, 1, 1)
