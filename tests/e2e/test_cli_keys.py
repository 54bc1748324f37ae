"""`headrace keys` and `headrace policy`, with real keys, signatures and a lake."""

import json
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lakefs_client.models import CommitCreation

from flows.errors import Misconfigured
from flows.keys.published_policy import read_published_policy
from flows.keys.signed_history import find_commit_at
from security.errors import BadKey, Untrusted
from security.policy.key_homes import load_signer
from storage import registry
from storage.lake import Pin


def key_row(site: Any, role: str, state: str = "enrolled") -> Any:
    (row,) = [k for k in site.read("keys", "list") if (k["role"], k["state"]) == (role, state)]
    return row


def test_keys_list_names_every_key_and_where_it_is(site: Any) -> None:
    rows = {row["role"]: row for row in site.read("keys", "list")}
    signing = {"root", "policy", "trainer", "gatekeeper", "releaser", "timestamp"}
    assert rows.keys() == signing | {"serving", "gatekeeper-recipient"}
    assert rows["root"]["state"] == "pinned"
    assert {rows[role]["algorithms"] for role in signing} == {"ed25519+ml-dsa-65"}
    assert rows["serving"]["algorithms"].startswith("x-wing")
    assert rows["trainer"]["since"]
    assert rows["trainer"]["source"] == f"file:{site.keys}"
    shutil.move(site.keys / "root", site.work / "root")
    assert key_row(site, "root", "pinned")["source"] is None
    assert "releaser" in site.run("keys", "list").stdout


def test_export_public_writes_what_the_policy_enrols_and_no_secret(site: Any) -> None:
    shown = site.run("keys", "export-public", "-")
    document = json.loads(shown.stdout)
    assert document["root"] == json.loads((site.keys / "root.json").read_text())
    assert {one["name"] for one in document["recipients"]} == {"serving", "gatekeeper"}
    file = site.work / "public.json"
    assert site.run("keys", "export-public", str(file)).exit_code == 0
    assert json.loads(file.read_text()) == document
    private = [p.read_text().splitlines()[1] for p in site.keys.rglob("*.pem")]
    assert not any(line in shown.stdout for line in private)


@pytest.mark.parametrize("role", ["trainer", "gatekeeper", "releaser", "timestamp", "policy"])
def test_a_rotated_key_stays_believed_for_what_it_had_signed(served: Any, role: str) -> None:
    site, old = served.site, key_row(served.site, role)["id"]
    done = site.read("keys", "rotate", role)
    assert (done["already"], done["retired"]) == (False, old)
    assert {site.read("verify", str(ref))["verified"] for ref in (served.old, served.new)} == {True}
    assert site.served() == "2: 2"
    third = site.register(site.land("N5"))
    site.promote(third)
    assert site.served() == "3: 3"
    pin = registry.head(site.lake, site.pipeline.name)
    assert read_published_policy(site.lake, pin, site.policy.root) == site.policy
    again = site.read("keys", "rotate", role)
    assert (again["already"], again["edition"]) == (True, done["edition"])


def test_a_revoked_releaser_is_believed_for_what_stood_at_the_cut_off(served: Any) -> None:
    site, thief = served.site, load_signer(served.site.keys, "releaser")
    cut_off = datetime.now(UTC).isoformat()
    time.sleep(1.1)
    late = site.register(site.land("N6"))
    done = site.read(
        "keys", "revoke", "releaser", "--reason", "stolen", "--cut-off", cut_off, "--yes"
    )
    assert done["retired"] == thief.public.key_id
    assert {one["path"] for one in done["kept"]} == {
        f"{served.old.path}/release.dsse.json",
        f"{served.new.path}/release.dsse.json",
        "environments/production/index/1.json",
        "environments/production/index/2.json",
    }
    assert site.read("verify", str(served.new))["verified"]
    refused = site.run("verify", str(late))
    assert refused.exit_code == 1
    assert "was revoked (stolen)" in refused.stderr
    assert site.served() == "2: 2"
    row = key_row(site, "releaser", "retired")
    assert (row["id"], row["reason"], row["kept"]) == (thief.public.key_id, "stolen", 4)


def test_revoked_without_a_cut_off_a_key_is_believed_for_nothing(served: Any) -> None:
    site = served.site
    done = site.read("keys", "revoke", "trainer", "--reason", "stolen", "--yes")
    assert done["kept"] == []
    assert site.run("verify", str(served.new)).exit_code == 1
    before = site.policy
    again = site.read("keys", "revoke", "trainer", "--reason", "stolen", "--yes")
    assert (again["already"], site.policy) == (True, before)
    told = site.run("keys", "revoke", "trainer", "--reason", "stolen", "--yes").stderr
    assert "Is the key that followed to go as well? Name it by its id" in told


def test_without_the_root_at_hand_nothing_changes_and_an_offline_one_is_named(
    served: Any,
) -> None:
    site, safe = served.site, served.site.work / "safe"
    safe.mkdir()
    shutil.move(site.keys / "root", safe / "root")
    before = {p: p.read_bytes() for p in site.keys.rglob("*") if p.is_file()}
    refused = site.run("keys", "rotate", "trainer")
    assert isinstance(refused.exception, BadKey)
    assert "--root-key" in refused.exception.remedy
    assert {p: p.read_bytes() for p in site.keys.rglob("*") if p.is_file()} == before
    done = site.read("keys", "rotate", "trainer", "--root-key", f"file:{safe}")
    assert done["enrolled"] == key_row(site, "trainer")["id"]
    assert not (site.keys / "root").exists()


def test_a_new_root_is_pinned_by_whoever_trusted_the_old_one(served: Any) -> None:
    site, client = served.site, served.site.work / "elsewhere" / ".headrace" / "keys"
    client.mkdir(parents=True)
    for name in ("root.json", "trust.dsse.json", "rules.dsse.json"):
        shutil.copy(site.keys / name, client / name)
    old = key_row(site, "root", "pinned")["id"]
    done = site.read("keys", "rotate", "root", "--replaces", old[:12])
    assert done["retired"] == old
    assert site.read("keys", "rotate", "root", "--replaces", old[:12])["already"]
    assert site.read("verify", str(served.new))["verified"]
    there = replace(site, environment={**site.environment, "HEADRACE_HOME": str(client.parent)})
    assert there.read("verify", str(served.new))["verified"]
    assert there.read("keys", "pin")["enrolled"] == done["enrolled"]
    assert there.read("keys", "pin")["already"]
    site.read("keys", "rotate", "trainer")
    assert there.read("verify", str(served.new))["verified"]


def test_a_commit_that_its_maker_dated_back_is_not_what_stood_at_the_cut_off(served: Any) -> None:
    site, fs = served.site, served.site.lake.fs
    repository, head = site.pipeline.releases, registry.head(site.lake, site.pipeline.name)
    commits = list(fs.log(repository, head.commit))
    cut_off = datetime.fromtimestamp(commits[-1].created_at, UTC)
    assert commits[0].created_at > commits[-1].created_at
    fs.create_branch(repository, "backdated", source="main")
    fs.put(repository, "backdated", "models/x/1/release.dsse.json", b"by the thief")
    dated = CommitCreation(message="old", metadata={}, date=int(cut_off.timestamp()))
    forged = fs._api.commits.commit(repository, "backdated", dated).id
    assert next(iter(fs.log(repository, forged))).created_at == int(cut_off.timestamp())
    found = find_commit_at(site.lake, Pin(repository, forged), cut_off)
    assert found is not None
    oldest = [c.id for c in commits if c.created_at == commits[-1].created_at]
    assert found.commit == oldest[0]
    assert find_commit_at(site.lake, head, cut_off - timedelta(days=1)) is None


def test_a_new_epoch_wants_a_minimum_for_every_environment(served: Any) -> None:
    site = served.site
    refused = site.run("keys", "rotate", "root", "--minimum-index", "staging=1")
    assert isinstance(refused.exception, Misconfigured)
    assert "no minimum for production" in str(refused.exception)
    assert site.policy.trust.epoch == 1
    done = site.run("keys", "rotate", "root", "--minimum-index", "production=2")
    assert done.exit_code == 0, (done.output, done.exception)
    assert site.policy.trust.minimum_index == {"production": 2}


def test_an_old_policy_brought_back_to_the_lake_deceives_nobody_who_knew_a_newer_one(
    served: Any,
) -> None:
    site, lake = served.site, served.site.lake
    names = ("policy/trust.dsse.json", "policy/rules.dsse.json")
    old = {name: lake.fs.get(site.pipeline.releases, "main", name) for name in names}
    done = site.run("keys", "revoke", "releaser", "--reason", "stolen", "--yes")
    assert done.exit_code == 0, (done.output, done.exception)
    assert site.run("verify", str(served.new)).exit_code == 1
    site.overwrite(old)
    refused = site.run("verify", str(served.new))
    assert refused.exit_code == 1
    assert "was revoked" in refused.stderr
    assert json.loads(site.run("model", "list", "--json").stdout)[0]["signed_by"] is None


def test_a_locked_home_signs_with_its_passphrase_file_alone(site: Any) -> None:
    locked = replace(
        site, environment={**site.environment, "HEADRACE_HOME": str(site.work / "home")}
    )
    phrase = site.work / "passphrase"
    assert locked.run("keys", "init", "--passphrase-file", str(phrase)).exit_code == 0
    assert stat.S_IMODE(phrase.stat().st_mode) == 0o600
    assert len(phrase.read_text().strip()) == 64
    keys = site.work / "home" / "keys"
    assert all(b"ENCRYPTED" in p.read_bytes() for p in keys.rglob("*.pem"))
    assert isinstance(locked.run("keys", "rotate", "trainer").exception, BadKey)
    unlocked = replace(
        locked,
        environment={**locked.environment, "HEADRACE_PASSPHRASE_FILE": str(phrase)},
    )
    done = unlocked.run("keys", "rotate", "trainer", "--json")
    assert done.exit_code == 0, done.output
    assert phrase.read_text().strip() not in done.output


def test_new_gates_in_the_definition_are_signed_as_the_next_rules(served: Any) -> None:
    site = served.site
    assert site.read("policy", "show")["definition_differs"] is False
    assert site.read("policy", "sign")["changed"] is False
    module = next(p for p in site.keys.parent.parent.glob("t_*.py"))
    module.write_text(module.read_text().replace("'0.5'", "'0.3'"))
    sys.modules.pop(module.stem)
    assert site.read("policy", "show")["definition_differs"] is True
    assert site.read("policy", "sign")["changed"] is True
    assert site.policy.rules.version == 2
    refused = site.run("verify", str(served.new))
    assert "weaker than 0.3" in refused.stderr
    assert site.read("policy", "sign")["changed"] is False


def test_policy_sign_demands_clean_code_and_two_releasers_only_with_enough_keys(
    served: Any,
) -> None:
    site = served.site
    assert site.read("policy", "sign", "--require-clean-code")["changed"]
    assert "uncommitted code: refused" in site.run("policy", "show").stdout
    before = site.policy
    refused = site.run("policy", "sign", "--releasers", "production=2")
    assert isinstance(refused.exception, Untrusted)
    assert site.policy == before
    second = site.run("keys", "make", "releaser", str(site.work / "second"))
    public = site.work / "second.json"
    public.write_text(second.stdout)
    assert site.read("keys", "enrol", "releaser", str(public))["already"] is False
    assert site.read("policy", "sign", "--releasers", "production=2")["changed"]
    assert site.policy.index_threshold("production") == 2


def test_a_release_copied_by_verify_verifies_offline_under_the_root_alone(served: Any) -> None:
    site, folder = served.site, served.site.work / "copy"
    told = site.read("verify", str(served.new), "--copy-to", str(folder))
    assert told["signedBy"]["trainer"] == [load_signer(site.keys, "trainer").public.key_id]
    offline = [sys.executable, "-m", "security", "verify", folder, "--root"]
    done = subprocess.run(
        [*map(str, offline), str(site.keys / "root.json"), "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert json.loads(done.stdout)["digest"] == told["digest"]
    again = site.run("verify", str(served.new), "--copy-to", str(folder))
    assert isinstance(again.exception, Misconfigured)
