import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from flows.context import Context, load_definition, open_context, open_lake, read_code
from flows.errors import Misconfigured
from flows.settings import Settings
from flows.trust.installation import Trusted
from security.errors import Untrusted
from security.policy.edition import change_rules
from security.policy.key_homes import init_keys, load_signer
from storage.errors import NotFound, Unavailable
from storage.runs import Provenance
from tests.release_site import Site
from tests.unit.fake_lake import NOBODY, MemoryLake

PIPELINE = "examples.flights.pipeline:pipeline"
COMMIT = "0123456789abcdef" * 4


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose lake is at an address where nobody listens."""
    (tmp_path / "prefect.yaml").touch()
    monkeypatch.delenv("HEADRACE_HOME", raising=False)
    monkeypatch.setenv("HEADRACE_ROOT", str(tmp_path))
    monkeypatch.setenv("HEADRACE_PIPELINE", PIPELINE)
    monkeypatch.setenv("LAKEFS_ENDPOINT", NOBODY.endpoint)
    monkeypatch.setenv("LAKEFS_ACCESS_KEY_ID", NOBODY.access_key_id)
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", NOBODY.secret_access_key)
    return tmp_path


def test_opening_creates_nothing_and_asks_the_lake_nothing(project: Path) -> None:
    before = sorted(project.rglob("*"))
    context = open_context()
    assert sorted(project.rglob("*")) == before
    assert (context.pipeline.name, context.repository) == ("flights", "flights")
    assert context.lake.access == NOBODY
    assert context.keys == project / ".headrace" / "keys"
    assert (context.actor, context.origin) == ("", Provenance())
    with pytest.raises(Unavailable) as caught:
        context.pin()
    assert caught.value.code == "lake.no_answer"


def test_the_pipeline_that_is_named_wins_over_the_settings(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "own_flights.py").write_text(
        "from dataclasses import replace\n"
        "from examples.flights.pipeline import pipeline\n"
        "pipeline = replace(pipeline, name='own')\n"
    )
    assert load_definition("own_flights:pipeline")[1].name == "own"
    assert load_definition()[1].name == "flights"
    monkeypatch.setenv("HEADRACE_PIPELINE", "nowhere:pipeline")
    with pytest.raises(Misconfigured):
        open_context()


def test_a_lake_without_a_key_is_not_opened(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEFS_SECRET_ACCESS_KEY")
    with pytest.raises(Misconfigured, match="LAKEFS_SECRET_ACCESS_KEY is not set"):
        open_lake(Settings.load())


def test_the_policy_is_verified_once_whoever_acts_and_anew_when_it_is_asked_for(
    site: Site,
) -> None:
    context = site.context("ana")
    ben = context.acting("ben")
    first = context.trusted
    change_rules(site.keys, demand_clean_code, signer=load_signer(site.keys, "policy"))
    assert context.trusted is ben.trusted is first
    assert first.policy.edition == (1, 1, 1)
    again = ben.read_policy_again()
    assert (again.actor, again.trusted.policy.edition) == ("ben", (1, 1, 2))
    (site.keys / "rules.dsse.json").write_bytes(b"{}")
    assert again.trusted.policy.edition == (1, 1, 2)
    with pytest.raises(Untrusted):
        assert again.read_policy_again().trusted


def demand_clean_code(rules):  # type: ignore[no-untyped-def]
    return replace(rules, require_clean_code=True)


def test_without_keys_only_what_needs_them_fails(site: Site, tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, home=tmp_path / "empty", lake_endpoint=None)
    context = Context(settings, site.lake, site.pipeline)
    assert context.pin().repository == "flights"
    with pytest.raises(Misconfigured, match="There are no keys in"):
        assert context.trusted
    init_keys(context.keys)
    assert isinstance(context.trusted, Trusted)


def test_a_command_is_named_with_its_code_and_a_flow_run_keeps_its_own(site: Site) -> None:
    flow_run = Provenance(code={"code_commit": "x"}, orchestrator={"prefect_flow_run": "y"})
    context = replace(site.context("ana"), origin=flow_run)
    assert context.acting("ben").origin == flow_run
    origin = context.acting("ben", command="headrace keys").origin
    assert origin.orchestrator == {"command": "headrace keys", "actor": "ben"}
    assert origin.code == read_code(context.settings.root)


def test_what_a_run_commits_says_who_started_it(site: Site) -> None:
    context = site.context().acting("ana", command="headrace test")
    run = "ab" * 32
    data = context.commit_data("x", run, lambda run: run.put("a", b"1"), inputs={})
    release = context.commit_release("x", run, lambda run: run.put("b", b"2"))
    assert (data.pin.repository, release.pin.repository) == ("flights", "flights-releases")
    for outcome in (data, release):
        assert outcome.record.orchestrator == {"command": "headrace test", "actor": "ana"}
    assert context.commit_release("x", run, lambda run: None).already
    assert context.pin_releases() == release.pin


def test_what_is_not_there_is_told_by_what_is_missing(site: Site) -> None:
    context = site.context()
    head = context.pin()
    assert context.pin(head.commit[:16]) == head
    for ref in ("nowhere", COMMIT):
        with pytest.raises(NotFound) as caught:
            context.pin(ref)
        assert caught.value.code == "lake.ref_missing"
        assert str(caught.value) == f"flights has no branch, tag or commit {ref!r}."
    empty = Context(context.settings, MemoryLake(), context.pipeline)
    for pin in (empty.pin, empty.pin_releases):
        with pytest.raises(NotFound, match="has no repository flights") as caught:
            pin()
        assert caught.value.code == "lake.repository_missing"
    empty.create_repositories()
    assert empty.lake.fs.repositories() == ["flights", "flights-releases"]


def test_a_moment_names_the_commit_that_main_was_at(site: Site) -> None:
    context, fs = site.context(), site.lake.fs
    first = context.pin()
    fs.now_s += 3600  # type: ignore[attr-defined]
    context.commit_data("x", "ab" * 32, lambda run: run.put("a", b"1"), inputs={})
    assert context.pin("2013-07-01T00:30:00Z") == first
    assert context.pin("2013-07-01T01:00:00Z") == context.pin() != first
    assert context.pin("main@2013-07-01T00:30:00Z") == first
    with pytest.raises(NotFound, match="no commit as old as"):
        context.pin("2013-06-30")


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *who, "-C", str(root), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_outside_git_there_is_no_commit_and_nothing_is_clean(tmp_path: Path) -> None:
    assert read_code(tmp_path) == {"code_commit": "", "code_clean": "false", "lock": ""}


def test_the_code_is_a_commit_its_state_and_the_lock(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    lock = b"polars==1.0\n"
    (tmp_path / "requirements.lock").write_bytes(lock)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    expected = {
        "code_commit": git(tmp_path, "rev-parse", "HEAD"),
        "lock": hashlib.sha256(lock).hexdigest(),
    }
    assert len(expected["code_commit"]) == 40
    (tmp_path / "notes.txt").write_text("nobody tracks this")
    assert read_code(tmp_path) == {**expected, "code_clean": "true"}
    read_code.cache_clear()
    (tmp_path / "requirements.lock").write_bytes(b"polars==2.0\n")
    changed = read_code(tmp_path)
    assert changed["code_clean"] == "false"
    assert changed["code_commit"] == expected["code_commit"]
    assert changed["lock"] != expected["lock"]
