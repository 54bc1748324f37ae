"""The audit log in a lake: what it tells, what is refused for it, who can check it elsewhere."""

import json
import subprocess
import sys
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.flights.pipeline import pipeline as flights
from flows import audit
from flows.audit import reading, spool
from flows.audit.checkpoint import refresh_checkpoint
from flows.keys.published_policy import publish_policy
from flows.trust.installation import Trusted
from security.audit.log import AuditEntry, Log, Peaks
from security.audit.merkle import CompactRange
from security.errors import CannotDecrypt, Untrusted
from security.formats import canonical
from security.formats.strict_json import to_bytes
from security.policy.documents import PairRecord, Revocation, RoleKeys, sign_trust
from security.policy.key_homes import load_signer
from security.policy.trust_policy import TRUST
from storage import registry
from storage.errors import Unavailable
from storage.lake import LANDING, Lake
from storage.lake.client import LakeFS
from storage.registry import layout
from tests.release_site import context_of


def head(site: Any) -> Any:
    return registry.head(site.lake, site.pipeline.name)


def entries(site: Any) -> tuple[AuditEntry, ...]:
    return audit.read_log(site.lake, head(site)).entries


def kinds(site: Any) -> list[str]:
    return [entry.kind for entry in entries(site)]


def event(number: int = 1, **changes: Any) -> audit.Event:
    made = audit.Event("refused", "ana", f"models/flights/{number}", reason="a test")
    return replace(made, **changes)


def write_log(site: Any, lines: list[bytes]) -> None:
    """What somebody with write access to the lake could do: another log with a head that fits."""
    now = reading.read_peaks(site.lake, head(site).repository, "main")
    size = len(lines)
    files: dict[str, bytes | None] = {
        layout.audit_segment(number): b"".join(
            line + b"\n" for line in lines[number * 64 : number * 64 + 64]
        )
        for number in range(-(-size // 64))
    }
    for number in range(-(-size // 64), -(-now.size // 64)):
        files[layout.audit_segment(number)] = None
    log = Log(tuple(lines))
    files[layout.AUDIT_HEAD] = to_bytes(Peaks.of(CompactRange().grow(log.leaves)))
    site.overwrite(files)


def test_every_document_that_is_signed_stands_in_the_log_with_who_signed_it(served: Any) -> None:
    site = served.site
    site.timestamp()
    site.roll_back("wrong", keep_data=True)
    told = [(e.kind, e.subject.rsplit("/", 2)[-2:]) for e in entries(site)]
    flow = [kind for kind, _ in told if not kind.startswith(("key.", "recipient."))]
    assert flow == [
        *("signed", "signed", "release.registered"),
        *("policy.published", "policy.published"),
        "index.promoted",
        *("signed", "signed", "release.registered"),
        "index.promoted",
        "signed",
        "index.rolled-back",
    ]
    releaser = load_signer(site.keys, "releaser").public.key_id
    last = entries(site)[-1]
    assert (last.actor, last.reason, last.role) == ("ana", "wrong", "releaser")
    assert (last.subject, last.key_ids) == ("environments/production/index/3", (releaser,))
    assert kinds(site).count("key.enrolled") == 5


def test_an_entry_and_what_it_tells_of_are_one_commit(served: Any) -> None:
    site = served.site
    for entry in entries(site):
        if entry.kind == "index.promoted":
            record = site.lake.fs.get(
                site.pipeline.releases, "main", f"metadata/serve/{entry.transaction}.json"
            )
            assert json.loads(record)["details"]["index"] == int(entry.subject[-1])


def test_revoking_and_enrolling_keys_is_told_when_the_policy_is_published(site: Any) -> None:
    publish_policy(site.context("root"))
    trust, before = site.policy.trust, len(entries(site))
    old = trust.roles["timestamp"].keys[0]
    new = PairRecord.of(type(load_signer(site.keys, "timestamp")).generate("timestamp").public)
    roles = {**trust.roles, "timestamp": RoleKeys((new,))}
    revoked = (Revocation(old, "laptop lost"),)
    changed = replace(trust, version=trust.version + 1, roles=roles, revoked=revoked)
    (site.keys / TRUST).write_bytes(sign_trust(changed, load_signer(site.keys, "root")))
    publish_policy(site.context("root"))
    told = {e.kind: e for e in entries(site)[before:]}
    assert told["key.enrolled"].subject == f"keys/{new.pair.key_id}"
    assert told["key.revoked"].subject == f"keys/{old.pair.key_id}"
    assert told["key.revoked"].reason == "laptop lost"
    assert "key.retired" not in told


def test_a_rerun_tells_nothing_twice(served: Any) -> None:
    before = entries(served.site)
    served.site.promote(served.new)
    publish_policy(served.site.context())
    assert entries(served.site) == before


def test_verify_compares_the_log_with_the_repository(served: Any) -> None:
    site = served.site
    site.timestamp()
    assert site.run("audit", "checkpoint").exit_code == 0
    found = site.read("audit", "verify")
    assert (found["holds"], found["problems"]) == (True, [])
    assert found["entries"] == found["checkpoint"]["size"] == len(entries(site))
    assert found["compared"] == 7
    assert site.run("audit", "verify").stdout.splitlines()[-1] == "the audit log holds"


def test_a_release_that_nobody_told_of_is_found(served: Any) -> None:
    site, fs = served.site, served.site.lake.fs
    data = fs.get(site.pipeline.releases, "main", f"{served.new.path}/release.dsse.json")
    site.overwrite({f"models/{site.pipeline.name}/3/release.dsse.json": data})
    done = site.run("audit", "verify")
    assert done.exit_code == 1
    assert f"models/{site.pipeline.name}/3 stands in the repository" in done.stderr


def test_a_release_or_index_that_vanished_or_changed_is_found(served: Any) -> None:
    site, fs = served.site, served.site.lake.fs
    one = fs.get(site.pipeline.releases, "main", "environments/production/index/1.json")
    site.overwrite(
        {
            f"{served.old.path}/release.dsse.json": None,
            "environments/production/index/2.json": one,
        }
    )
    done = site.run("audit", "verify")
    assert done.exit_code == 1
    assert "index/2 is not what entry" in done.stderr
    assert f"{served.old.path} is not what entry" in done.stderr


def test_a_log_that_was_removed_is_no_log_that_holds(served: Any) -> None:
    """Even for somebody who never saw it: what stands in the repository was told of once."""
    site = served.site
    listed = site.lake.fs.objects(site.pipeline.releases, "main", prefix="audit/")
    site.overwrite({entry.path: None for entry in listed})
    reading.floor_path(Trusted.load(site.keys).floors, site.pipeline.releases).unlink()
    done = site.run("audit", "verify")
    assert done.exit_code == 1
    assert f"{served.new.path} stands in the repository, and the log does not" in done.stderr


def test_a_head_that_claims_what_nobody_could_read_is_refused_at_once(served: Any) -> None:
    site = served.site
    size = 2**53 - 1
    claimed = canonical.encode({"peaks": ["00" * 32] * size.bit_count(), "size": size})
    site.overwrite({layout.AUDIT_HEAD: claimed})
    for attempt in (
        lambda: site.promote(served.old, reason="again"),
        lambda: audit.read_log(site.lake, head(site)),
    ):
        with pytest.raises(Untrusted, match=r"truncated: segment \d+ is missing"):
            attempt()


def test_a_truncated_log_is_refused_by_verify_promotion_rollback_and_checkpoint(
    served: Any,
) -> None:
    site = served.site
    assert site.run("audit", "checkpoint").exit_code == 0
    lines = list(audit.read_log(site.lake, head(site)).lines)
    write_log(site, lines[:-1])
    problem = f"the audit log was truncated: it had {len(lines)} entries and has {len(lines) - 1}"
    for attempt in (
        lambda: site.promote(served.old, reason="again"),
        lambda: site.roll_back("bad", keep_data=True),
        lambda: refresh_checkpoint(site.context()),
    ):
        with pytest.raises(Untrusted, match=problem):
            attempt()
    done = site.run("audit", "verify")
    assert isinstance(done.exception, Untrusted)
    assert problem in str(done.exception)
    assert site.served() == "2: 2"


def test_a_forked_log_is_refused_against_the_checkpoint_even_without_a_floor(served: Any) -> None:
    site = served.site
    assert site.run("audit", "checkpoint").exit_code == 0
    lines = list(audit.read_log(site.lake, head(site)).lines)
    lines[-1] = lines[-1].replace(b'"registered"', b'"harmless!!"')
    write_log(site, lines)
    floor = reading.floor_path(Trusted.load(site.keys).floors, site.pipeline.releases)
    for known in (True, False):
        if not known:
            floor.unlink()
        done = site.run("audit", "verify")
        assert isinstance(done.exception, Untrusted)
        assert "rewritten or forked" in str(done.exception)


def test_a_fork_that_grew_past_the_floor_is_refused(served: Any) -> None:
    site = served.site
    site.promote(served.old, reason="raises the floor")
    lines = list(audit.read_log(site.lake, head(site)).lines)
    forged = [lines[0].replace(b'"ana"', b'"eve"'), *lines[1:], lines[-1], lines[-1]]
    write_log(site, forged)
    with pytest.raises(Untrusted, match="rewritten or forked"):
        site.promote(served.new, reason="again")


def test_a_head_or_segment_alone_that_changed_is_refused(served: Any) -> None:
    site = served.site
    log = audit.read_log(site.lake, head(site))
    site.overwrite({layout.audit_segment(0): b"".join(x + b"\n" for x in log.lines[1:])})
    with pytest.raises(Untrusted, match="truncated or forked"):
        audit.read_log(site.lake, head(site))
    with pytest.raises(Untrusted, match="not the end of its"):
        publish_next_edition(site)


def publish_next_edition(site: Any) -> None:
    trust = site.policy.trust
    changed = replace(trust, version=trust.version + 1)
    (site.keys / TRUST).write_bytes(sign_trust(changed, load_signer(site.keys, "root")))
    publish_policy(site.context())


def test_a_checkpoint_that_nobody_signed_is_refused(served: Any) -> None:
    site = served.site
    assert site.run("audit", "checkpoint").exit_code == 0
    site.overwrite({layout.AUDIT_CHECKPOINT: b"{}"})
    assert isinstance(site.run("audit", "verify").exception, Untrusted)


def test_writers_at_once_lose_and_reorder_nothing(repo: str, lake: Lake) -> None:
    problems: list[BaseException] = []

    def write(name: str) -> None:
        try:
            mine = Lake(lake.access)
            for number in range(4):
                audit.record_events(mine, repo, event(number, actor=name))
        except BaseException as error:
            problems.append(error)

    writers = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not problems
    found = audit.read_log(lake, registry.head(lake, repo)).entries
    for name in {entry.actor for entry in found}:
        own = [entry.subject for entry in found if entry.actor == name]
        assert own == [f"models/flights/{n}" for n in range(4)]
    assert len(found) == 16


def test_a_log_longer_than_a_segment_reads_back_whole(repo: str, lake: Lake) -> None:
    pin = None
    for _ in range(3):
        from storage.runs import Job, commit_once

        pin = commit_once(
            lake,
            Job(f"{repo}-releases", "audit", uuid.uuid4().hex),
            lambda run: audit.append_events(run, *(event(n) for n in range(50))),
        ).pin
    assert pin is not None
    assert len(audit.read_log(lake, pin).entries) == 150
    listed = lake.fs.objects(pin.repository, pin.commit, prefix="audit/entries/")
    assert [e.path[-10:-6] for e in listed] == ["0000", "0001", "0002"]


def test_an_append_reads_two_objects_whatever_the_log_holds(
    repo: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.record_events(lake, repo, event(1))
    asked: list[str] = []
    get = LakeFS.get

    def counted(self: LakeFS, repository: str, ref: str, path: str) -> bytes:
        asked.append(path)
        return get(self, repository, ref, path)

    monkeypatch.setattr(LakeFS, "get", counted)
    audit.record_events(lake, repo, event(2))
    assert [path for path in asked if path.startswith("audit/")] == [
        "audit/head.json",
        "audit/entries/00000000.jsonl",
    ]


def test_what_the_lake_does_not_take_waits_in_the_spool_and_is_told_once(
    repo: str, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise Unavailable("the lake went away")

    with monkeypatch.context() as broken:
        broken.setattr("flows.audit.writing.commit_once", lost)
        audit.record_events(lake, repo, event(1), spool_folder=tmp_path / "spool")
        audit.record_events(lake, repo, event(1), spool_folder=tmp_path / "spool")
    assert len(list((tmp_path / "spool").iterdir())) <= 2
    audit.record_events(lake, repo, event(2), spool_folder=tmp_path / "spool")
    audit.record_events(lake, repo, event(2), spool_folder=tmp_path / "spool")
    found = audit.read_log(lake, registry.head(lake, repo)).entries
    assert {e.subject for e in found} == {"models/flights/1", "models/flights/2"}
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_services_leave_is_collected_and_only_refusals_are_believed(
    repo: str, lake: Lake, tmp_path: Path
) -> None:
    spool.keep_event(tmp_path, event(1, actor="prediction service of production"))
    assert audit.hand_over(lake, repo, tmp_path)
    forged = event(2, kind="index.promoted")
    for_ana = to_bytes(event(3, actor="ana"))
    lake.fs.put(repo, LANDING, "audit/for-ana.json", for_ana)
    for name, data in (("forged", to_bytes(forged)), ("junk", b"{"), ("large", b"x" * 20_000)):
        lake.fs.put(repo, LANDING, f"audit/{name}.json", data)
    assert audit.collect_events(lake, repo) == 1
    assert audit.collect_events(lake, repo) == 0
    (found,) = audit.read_log(lake, registry.head(lake, repo)).entries
    assert (found.kind, found.actor) == ("refused", "prediction service of production")


def test_a_failed_decryption_is_told_with_what_the_caller_never_gets(
    repo: str, lake: Lake, tmp_path: Path
) -> None:
    pipeline = replace(flights, name=repo)
    context = context_of(lake, pipeline, tmp_path / "home" / "keys", actor="train")
    error = CannotDecrypt("the payload does not open")
    error.detail = "stanza 2 is of another recipient"  # type: ignore[attr-defined]
    with (
        pytest.raises(CannotDecrypt),
        audit.record_refusals(context, subject="models/flights/1", step="download"),
    ):
        raise error
    (found,) = audit.read_log(lake, registry.head(lake, repo)).entries
    assert found.kind == "decryption.failed"
    assert found.detail == {
        "step": "download",
        "problem": "CannotDecrypt",
        "withheld": "stanza 2 is of another recipient",
    }


def test_text_of_others_cannot_break_a_line_or_name_what_a_library_said(
    repo: str, lake: Lake
) -> None:
    told = audit.refusal_event("eve\n\u202e", "models/flights/1", ValueError("secret=abc"))
    audit.record_events(lake, repo, told)
    (found,) = audit.read_log(lake, registry.head(lake, repo)).entries
    assert (found.actor, found.reason) == ("eve \N{REPLACEMENT CHARACTER}", "ValueError")


def test_the_log_is_listed_by_kind_and_time(served: Any) -> None:
    site = served.site
    shown = site.run("audit", "log", "--kind", "index").stdout
    assert shown.count("index.promoted") == 2
    assert site.read("audit", "log", "--since", "2999-01-01") == []
    newest = site.read("audit", "log", "-n", "1")
    assert newest[0]["number"] == len(entries(site)) - 1


def proof(site: Any, ref: Any, out: Path) -> Path:
    done = site.run("audit", "prove", str(ref), "--out", str(out))
    assert done.exit_code == 0, done.output
    return out


def check(file: Path, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "security", "audit-proof", str(file), "--root", str(root)]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def test_a_proof_holds_without_the_lake_and_no_change_of_it_does(
    served: Any, tmp_path: Path
) -> None:
    site, root = served.site, tmp_path / "root.json"
    assert site.run("audit", "prove", str(served.new)).exception is not None
    site.run("audit", "checkpoint")
    file = proof(site, served.new, tmp_path / "proof.json")
    root.write_bytes((site.keys / "root.json").read_bytes())
    done = check(file, root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"proved: {served.new.path} is in the log of ")
    stated = json.loads(check(file, root, "--json").stdout)
    release = site.read("verify", str(served.new))
    assert stated["entries"][-1]["digest"] == release["digest"]
    given = json.loads(file.read_text())
    line = json.loads(given["entries"][-1]["line"])
    for changed, reason in (
        ({"subject": "models/other/1"}, "not models/other/1"),
        ({"entries": []}, "holds no entry"),
        (
            {
                "entries": [
                    {
                        **given["entries"][-1],
                        "line": given["entries"][-1]["line"].replace(line["digest"], "ab" * 32),
                    }
                ]
            },
            "not in the audit log",
        ),
        ({"checkpoint": given["trust"]}, "does not hold"),
    ):
        file.write_text(json.dumps({**given, **changed}))
        refused = check(file, root)
        assert refused.returncode == 1
        assert reason in refused.stderr


def test_a_proof_is_not_believed_under_another_root(served: Any, tmp_path: Path) -> None:
    from security.policy.key_homes import init_keys

    site = served.site
    site.run("audit", "checkpoint")
    file = proof(site, served.new, tmp_path / "proof.json")
    init_keys(tmp_path / "other")
    done = check(file, tmp_path / "other" / "root.json")
    assert (done.returncode, "not signed by the pinned root" in done.stderr) == (1, True)
