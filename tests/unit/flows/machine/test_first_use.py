"""The prediction service's key: enough for what it does, and for nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.machine.first_use import SERVICE_KEY, ensure_lake_key, service_key
from flows.machine.process_environment import LAKE_SECRETS
from flows.settings import Settings
from storage.embedded.keys.keyring import Keyring
from storage.errors import Forbidden
from storage.lake import LANDING, MAIN, Lake
from storage.lake.client import Access
from storage.landing import deliver

ROOT = Path(__file__).parents[4]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [n for n in os.environ if n.startswith(("HEADRACE_", "LAKEFS_", "LAKECTL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADRACE_ROOT", str(ROOT))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    return Settings.load()


def test_it_is_made_once_and_again_for_another_pipeline(settings):
    first = service_key(settings)
    assert service_key(settings) == first
    ring = Keyring(settings.home / "lake")
    (made,) = ring.list_keys()
    assert made.name == SERVICE_KEY
    assert [str(grant) for grant in made.grants] == [
        "read:flights-releases",
        "write:flights/landing",
    ]
    ring.revoke(SERVICE_KEY)
    ring.create(SERVICE_KEY, made.grants[:1])
    assert service_key(settings) != first
    assert [one.grants for one in ring.list_keys()] == [made.grants]


def test_a_lakefs_of_ones_own_gets_no_key_from_us(settings, monkeypatch):
    monkeypatch.setenv("LAKEFS_ENDPOINT", "https://lake.example")
    assert service_key(Settings.load()) == {}
    assert not settings.home.exists()


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    admin = ensure_lake_key(settings)
    values = (admin.access_key_id, admin.secret_access_key.get_secret_value())
    where = ("--root", str(settings.home / "lake"), "--port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "storage.embedded", *where],
        env={**os.environ, **dict(zip(LAKE_SECRETS, values, strict=True))},
        stdout=subprocess.PIPE,
        text=True,
    )
    url = process.stdout.readline().split()[-1]
    Lake(Access(url, *values)).create_pipeline("flights")
    yield url
    process.terminate()
    assert process.wait(60) == 0


def test_it_reads_releases_and_lands_predictions_and_nothing_else(settings, url):
    lake = Lake(Access(url, *service_key(settings).values()))
    lake.fs.health()
    head = lake.fs.head("flights-releases", MAIN)
    lake.pin("flights-releases", MAIN)
    assert lake.fs.objects("flights-releases", head, prefix="models/") == []
    deliver(lake, "flights", "predictions", "batch-1", {"rows.parquet": b"x"})
    assert lake.fs.get("flights", LANDING, "landing/predictions/batch-1/rows.parquet") == b"x"
    for refused in (
        lambda: lake.fs.get("flights", MAIN, "tables/flights"),
        lambda: lake.fs.head("flights", LANDING),
        lambda: lake.fs.put("flights-releases", MAIN, "environments/x", b""),
        lambda: lake.fs.create_branch("flights-releases", "run-x", source=MAIN),
        lambda: lake.fs.copy("flights", "tables/x", source_ref=MAIN, branch=LANDING),
        lambda: lake.fs.create_repository("mine", namespace="local://mine"),
    ):
        with pytest.raises(Forbidden, match="may not do this"):
            refused()
