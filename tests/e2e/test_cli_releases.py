"""`headrace keys`, `model`, `verify` and `rollback`, with real keys, signatures and a lake."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.audit import read_log
from flows.data import rollback as datasets
from flows.errors import Misconfigured
from flows.keys.published_policy import publish_policy, read_published_policy
from flows.release import rollback
from flows.release.rollback import RollbackRequest, plan_rollback
from flows.trust.installation import Trusted
from security.errors import Untrusted
from security.keys.pairs import Signer
from security.policy.documents import sign_rules
from security.policy.edition import change_trust
from security.policy.key_homes import init_keys, load_signer
from security.policy.role_keys import enrol
from security.policy.trust_policy import RULES, TrustPolicy
from storage import registry
from storage.errors import NotFound, Refused, Unavailable
from tests.release_site import context_of


def test_keys_init_makes_private_files_once_and_prints_no_secret(site: Any) -> None:
    before = {p: p.read_bytes() for p in site.keys.rglob("*") if p.is_file()}
    done = site.run("keys", "init")
    assert "nothing changed" in done.stdout
    assert {p: p.read_bytes() for p in site.keys.rglob("*") if p.is_file()} == before
    private = [p for p in before if p.suffix == ".pem"]
    assert len(private) == 16
    assert {stat.S_IMODE(p.stat().st_mode) for p in private} == {0o600}
    assert "PRIVATE" not in done.output
    assert not any(line in done.output for p in private for line in p.read_text().splitlines())


def test_the_first_policy_holds_the_pipelines_gates_and_its_models_types(site: Any) -> None:
    rules = site.policy.rules
    assert [(g.metric, g.bound) for g in rules.gates[site.pipeline.name]] == [
        ("log_loss", "0.5"),
        ("log_loss_excess", "0"),
    ]
    assert rules.skops_types == (
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    )


def test_promotion_publishes_the_policy_and_is_a_no_op_the_second_time(site: Any) -> None:
    ref = site.register(site.land("N1"))
    first = site.promote(ref)
    head = registry.head(site.lake, site.pipeline.name)
    assert (first.index, first.already) == (1, False)
    assert read_published_policy(site.lake, head, site.policy.root) == site.policy
    again = site.promote(ref, reason="reconciled")
    assert (again.index, again.newest, again.already) == (1, 1, True)
    assert registry.head(site.lake, site.pipeline.name) == head


def test_a_late_repetition_of_a_promotion_does_not_undo_a_rollback(served: Any) -> None:
    served.site.roll_back("wrong", keep_data=True)
    late = served.site.promote(served.new)
    assert (late.index, late.newest, late.already) == (2, 3, True)
    assert served.site.served() == "3: 1"
    assert served.site.promote(served.new, reason="repaired").index == 4


def test_a_promotion_of_a_damaged_release_changes_nothing(served: Any) -> None:
    site = served.site
    site.damage(served.old)
    with pytest.raises(Untrusted, match="signed digest"):
        site.promote(served.old, reason="again")
    pin = registry.head(site.lake, site.pipeline.name)
    assert site.served() == "2: 2"
    assert registry.index_numbers(site.lake, pin, "production") == [1, 2]
    told = read_log(site.lake, pin).entries[-1]
    assert (told.kind, told.actor, told.subject) == ("refused", "serve", served.old.path)


def test_the_newest_index_gets_a_timestamp_once(served: Any) -> None:
    site, trusted = served.site, Trusted.load(served.site.keys)
    assert site.timestamp()
    assert not site.timestamp()
    pin = registry.head(site.lake, site.pipeline.name)
    assert trusted.timestamp(site.lake, pin, "production", 2) is not None
    assert registry.index_numbers(site.lake, pin, "production") == [1, 2]


def test_a_promotion_verifies_the_policy_once(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, parsed = TrustPolicy.parse, []

    def count(*files: bytes, root: Any) -> TrustPolicy:
        parsed.append(files)
        return parse(*files, root=root)

    monkeypatch.setattr(TrustPolicy, "parse", count)
    served.site.promote(served.old, reason="again")
    assert len(parsed) == 1


def test_a_policy_that_changed_while_a_person_thought_is_the_one_that_holds(served: Any) -> None:
    site = served.site
    context = site.context("ana")
    plan = plan_rollback(context, RollbackRequest("production", "bad", keep_data=True))
    root, second = load_signer(site.keys, "root"), Signer.generate("releaser")
    enrol(site.keys, second.public, "releaser", root=root)
    change_trust(
        site.keys, lambda trust: replace(trust, index_thresholds={"production": 2}), root=root
    )
    publish_policy(site.context("root"))
    done = rollback.roll_back_environment(context, plan)
    assert done.proposal == 1, "two releasers are demanded now"
    pin = registry.head(site.lake, site.pipeline.name)
    assert registry.index_numbers(site.lake, pin, "production") == [1, 2]


def test_of_two_deciders_the_loser_is_told_who_won(served: Any) -> None:
    site = served.site
    context = site.context("ana")
    plan = plan_rollback(context, RollbackRequest("production", "mine", keep_data=True))
    third = site.register(site.land("N4"))
    site.promote(third, reason="urgent")
    with pytest.raises(Refused, match=r"serve wrote index 3 of production .*\(urgent\)"):
        rollback.roll_back_environment(context, plan)
    assert site.served() == "3: 3"


def test_an_older_edition_never_replaces_the_published_policy(site: Any) -> None:
    publish_policy(site.context())
    first = (site.keys / RULES).read_bytes()
    second = sign_rules(replace(site.policy.rules, version=2), load_signer(site.keys, "policy"))
    (site.keys / RULES).write_bytes(second)
    publish_policy(site.context())
    (site.keys / RULES).write_bytes(first)
    with pytest.raises(Refused, match=r"edition 1\.1\.1, the published one is 1\.1\.2"):
        publish_policy(site.context())


def test_a_policy_of_other_keys_is_refused(site: Any, tmp_path: Path) -> None:
    publish_policy(site.context())
    init_keys(tmp_path / "other" / "keys")
    with pytest.raises(Untrusted, match="not signed by the pinned root"):
        publish_policy(context_of(site.lake, site.pipeline, tmp_path / "other" / "keys"))


def test_verify_names_every_step(served: Any) -> None:
    found = served.site.read("verify", str(served.new))
    assert found["verified"]
    assert [step["number"] for step in found["steps"]] == list(range(1, 10))
    lines = served.site.run("verify", str(served.new)).stdout.splitlines()
    assert lines[0] == "1. files: exactly the files of a release"
    assert lines[-1] == f"verified: {served.new}, release {found['digest']}"


def test_verify_stops_at_one_flipped_byte_with_exit_code_1(served: Any) -> None:
    served.site.damage(served.new)
    done = served.site.run("verify", str(served.new))
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 8
    assert done.stderr.startswith("problem: step 9 refuses")
    machine = served.site.run("verify", str(served.new), "--json")
    assert machine.exit_code == 1
    assert json.loads(machine.stdout)["verified"] is False


def test_verify_of_what_is_not_there_is_not_found(served: Any) -> None:
    for name in (f"{served.site.pipeline.name}/9", "nonsense"):
        assert isinstance(served.site.run("verify", name).exception, NotFound)


def test_without_a_pinned_root_nothing_is_believed(served: Any) -> None:
    (served.site.keys / "root.json").unlink()
    done = served.site.run("verify", str(served.new))
    assert isinstance(done.exception, Misconfigured)


def test_model_list_says_what_runs_where_and_who_signed(served: Any) -> None:
    newest, oldest = served.site.read("model", "list")
    assert (newest["release"], newest["runs_in"]) == (str(served.new), {"production": 2})
    assert (oldest["release"], oldest["runs_in"]) == (str(served.old), {})
    assert newest["gates"] == served.site.measured
    assert newest["signed_by"] == load_signer(served.site.keys, "releaser").public.key_id
    assert "production (index 2)" in served.site.run("model", "list").stdout


def test_model_list_shows_a_release_that_nobody_signed(served: Any) -> None:
    site, path = served.site, f"{served.new.path}/release.dsse.json"
    site.overwrite({path: b"{}"})
    newest, oldest = site.read("model", "list")
    assert newest["signed_by"] is None
    assert newest["problem"]
    assert oldest["problem"] is None


def test_model_show_prints_the_card_and_what_the_statement_binds(served: Any) -> None:
    found = served.site.read("model", "show", str(served.new))
    assert found["card"] == "# Model card: late flights\n"
    assert found["statement"]["version"] == 2
    shown = served.site.run("model", "show", str(served.new)).stdout
    assert "# Model card: late flights" in shown
    assert found["digest"] in shown


def test_model_show_never_prints_the_card_of_a_damaged_release(served: Any) -> None:
    served.site.damage(served.new)
    done = served.site.run("model", "show", str(served.new))
    assert isinstance(done.exception, Untrusted)
    assert done.stdout == ""


def test_rollback_takes_model_and_data_back_and_repeated_changes_nothing(served: Any) -> None:
    site = served.site
    command = ("rollback", "--environment", "production", "--reason", "bad feed", "--yes")
    done = site.read(*command)
    assert (done["left"], done["release"], done["index"]) == (str(served.new), str(served.old), 3)
    assert site.rows() == {"N1", "N2"}
    assert len(done["data"]["supersedes"]) == 1
    heads = registry.head(site.lake, site.pipeline.name), site.lake.pin(site.pipeline.repository)
    again = site.read(*command)
    assert again == done | {"already": True}
    assert heads == (
        registry.head(site.lake, site.pipeline.name),
        site.lake.pin(site.pipeline.repository),
    )


def test_rollback_says_what_it_will_do_and_asks(served: Any) -> None:
    site = served.site
    done = site.run("rollback", "--environment", "production", "--reason", "why")
    assert isinstance(done.exception, Misconfigured)
    assert f"production runs {served.new} (index 2, serve: registered)" in done.stderr
    assert "planes: 3 rows now, 2 then" in done.stderr
    assert site.served() == "2: 2"
    assert site.rows() == {"N1", "N2", "N3"}


def test_rollback_may_keep_the_data(served: Any) -> None:
    done = served.site.roll_back("only the model", keep_data=True)
    assert (done.release, done.data) == (served.old, None)
    assert served.site.rows() == {"N1", "N2", "N3"}


def test_a_rollback_that_broke_off_before_the_data_goes_on_when_repeated(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = served.site

    def lost(*_: object, **__: object) -> None:
        raise Unavailable("the lake went away")

    with monkeypatch.context() as broken:
        broken.setattr(datasets, "roll_back_datasets", lost)
        with pytest.raises(Unavailable):
            site.roll_back("bad feed")
    assert (site.served(), len(site.rows())) == ("3: 1", 3)
    done = site.roll_back("bad feed")
    assert (done.index, done.left, done.already) == (3, served.new, False)
    assert (site.served(), site.rows()) == ("3: 1", {"N1", "N2"})


def test_batches_that_landed_since_are_not_undone_by_a_repeated_rollback(served: Any) -> None:
    site = served.site
    site.roll_back("bad feed")
    site.land("N9")
    assert site.roll_back("bad feed").already
    assert site.rows() == {"N1", "N2", "N9"}


def test_rollback_never_leads_forward(served: Any) -> None:
    site = served.site
    site.roll_back("first", keep_data=True)
    with pytest.raises(NotFound, match="Nothing ran in production before"):
        site.roll_back("second", keep_data=True)
    with pytest.raises(Refused, match="already"):
        site.roll_back("third", to=served.old)
    assert site.roll_back("forward on purpose", to=served.new, keep_data=True).index == 4


def test_rollback_to_a_damaged_release_leaves_everything(served: Any) -> None:
    site = served.site
    site.damage(served.old)
    with pytest.raises(Untrusted):
        site.roll_back("bad feed")
    assert (site.served(), len(site.rows())) == ("2: 2", 3)


def test_rollback_of_an_environment_that_never_ran_is_not_found(site: Any) -> None:
    done = site.run("rollback", "--environment", "production", "--reason", "x", "--yes")
    assert isinstance(done.exception, NotFound)
