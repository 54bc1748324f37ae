import os
from contextlib import closing

import pytest

from flows.errors import Misconfigured
from flows.machine import lake_folder
from flows.machine.first_use import ensure_lake_key
from flows.machine.process_records import ProcessRecord, ProcessRecords
from flows.machine.processes import find
from flows.machine.services import LAKE
from flows.settings import Settings
from storage.embedded.lake import EmbeddedLake
from storage.errors import NotFound, Unavailable
from tests.unit.flows.machine.conftest import FakePrefect


def test_a_lakefs_of_ones_own_has_no_folder(settings: Settings) -> None:
    assert lake_folder.lake_folder(settings) == settings.home / "lake"
    real = settings.model_copy(update={"lake_endpoint": "https://lake.example"})
    with pytest.raises(Misconfigured, match=r"https://lake\.example"):
        lake_folder.lake_folder(real)


def test_there_is_nothing_to_collect_without_a_lake(settings: Settings) -> None:
    with pytest.raises(NotFound, match="there is no lake"):
        lake_folder.collect_garbage(settings, grace_s=0, dry_run=True)


def test_a_lake_that_nobody_serves_is_collected_here(settings: Settings) -> None:
    EmbeddedLake(settings.home / "lake").close()
    found = lake_folder.collect_garbage(settings, grace_s=0, dry_run=True)
    assert (found.dry_run, found.objects, found.octets) == (True, 0, 0)


def test_a_served_lake_is_asked_where_up_started_it(
    settings: Settings, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, object]] = []

    def answer(path: str, body: dict[str, object]) -> dict[str, object]:
        asked.append((path, body))
        return {"commits": 1, "nodes": 4, "objects": 2, "octets": 3, "dry_run": True}

    monkeypatch.setattr(prefect, "answer", answer)
    ensure_lake_key(settings)
    me = find(os.getpid())
    assert me is not None
    started = ProcessRecord(LAKE, me.pid, me.birth, "2026-01-01", prefect.address, "", 0)
    ProcessRecords(settings.home).write(started)
    with closing(EmbeddedLake(settings.home / "lake")):
        found = lake_folder.collect_garbage(settings, grace_s=60, dry_run=True)
    assert (found.commits, found.objects, found.octets) == (1, 2, 3)
    assert asked == [("/_headrace/gc", {"grace_s": 60, "dry_run": True})]


def test_a_served_lake_that_does_not_answer_is_unavailable(settings: Settings) -> None:
    ensure_lake_key(settings)
    with (
        closing(EmbeddedLake(settings.home / "lake")),
        pytest.raises(Unavailable, match="is running but does not answer"),
    ):
        lake_folder.collect_garbage(settings, grace_s=0, dry_run=True)
