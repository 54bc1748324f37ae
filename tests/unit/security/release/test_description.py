import dataclasses
import json
from types import SimpleNamespace
from typing import Any

from security.policy.documents import PairRecord, Revocation
from security.release.description import describe_release, tell_story
from security.release.verify import verify_release


def test_the_description_is_json_and_holds_the_sentences(
    home: Any, released: SimpleNamespace
) -> None:
    verified = verify_release(released.folder, policy=home.policy)
    told = json.loads(json.dumps(describe_release(verified, home.policy)))
    assert (told["model"], told["version"]) == ("delays", 1)
    assert told["digest"] == released.release.digest
    assert told["root"] == home.policy.root.key_id
    assert told["story"] == list(tell_story(verified, home.policy))
    assert [gate["metric"] for gate in told["gates"]] == ["log_loss", "roc_auc"]


def test_a_key_that_retired_since_is_named(home: Any, released: SimpleNamespace) -> None:
    verified = verify_release(released.folder, policy=home.policy)
    retired = home.signers["trainer"].public
    trust = dataclasses.replace(
        home.policy.trust,
        revoked=(Revocation(PairRecord.of(retired), "end of the year", "trainer"),),
    )
    policy = dataclasses.replace(home.policy, trust=trust)
    told = " ".join(tell_story(verified, policy))
    assert f"Key {retired.key_id[:12]} has retired since (end of the year)" in told
    assert "has retired" not in " ".join(tell_story(verified, home.policy))
