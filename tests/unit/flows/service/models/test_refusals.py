"""A refusal is kept on disk first, and reaches the lake once however often it is handed in."""

from datetime import UTC, datetime
from pathlib import Path

from flows import audit
from flows.service.models.refusals import Refusal, RefusalOutbox
from security.errors import Untrusted
from storage import registry
from storage.lake import Lake
from storage.lake.client import Access

AT = datetime(2013, 7, 1, 12, tzinfo=UTC)
REFUSAL = Refusal("trips/2", 7, "release, step 9", "a digest differs", AT)


def outbox(lake: Lake, pipeline: str, folder: Path) -> RefusalOutbox:
    return RefusalOutbox(lake, pipeline=pipeline, environment="production", folder=folder)


def test_status_shows_plain_values() -> None:
    assert REFUSAL.to_json() == {
        "release": "trips/2",
        "index": 7,
        "step": "release, step 9",
        "reason": "a digest differs",
        "at": "2013-07-01T12:00:00+00:00",
    }
    assert Refusal("", 7, "policy", "x", AT).to_json()["release"] is None


def test_a_refusal_waits_in_the_folder_while_the_lake_is_away_and_is_then_collected_once(
    lake: Lake, repo: str, tmp_path: Path
) -> None:
    away = outbox(Lake(Access("http://127.0.0.1:9", "key", "secret")), repo, tmp_path / "out")
    away.keep(REFUSAL, Untrusted("a digest differs"))
    away.hand_in()
    assert len(list((tmp_path / "out").iterdir())) == 1
    again = outbox(lake, repo, tmp_path / "out")
    again.hand_in()
    assert list((tmp_path / "out").iterdir()) == []
    assert audit.collect_events(lake, repo) == 1
    assert audit.collect_events(lake, repo) == 0
    (entry,) = audit.read_log(lake, registry.head(lake, repo)).entries
    assert (entry.kind, entry.subject) == ("refused", "models/trips/2")
    assert entry.detail == {"step": "release, step 9", "problem": "Untrusted", "index": "7"}


def test_an_index_that_was_refused_before_any_release_is_named_itself(
    lake: Lake, repo: str, tmp_path: Path
) -> None:
    box = outbox(lake, repo, tmp_path / "out")
    box.keep(Refusal("", 7, "index", "below the floor", AT), Untrusted("below the floor"))
    box.hand_in()
    assert audit.collect_events(lake, repo) == 1
    (entry,) = audit.read_log(lake, registry.head(lake, repo)).entries
    assert entry.subject == "environments/production/index/7"
