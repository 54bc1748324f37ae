"""A pipeline with real keys over a lake in memory."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.release_site import Site


@pytest.fixture(scope="session")
def key_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every role's key and a policy with one gate for flights; copy it before you change it."""
    from flows.pipeline.gate_rules import make_gate_rules
    from security.policy.key_homes import init_keys
    from tests.release_site import GATES

    folder = tmp_path_factory.mktemp("home") / "keys"
    return init_keys(folder, gates={"flights": make_gate_rules(GATES)}).folder


@pytest.fixture
def keys(key_home: Path, tmp_path: Path) -> Path:
    """Keys of this test's own."""
    return Path(shutil.copytree(key_home, tmp_path / ".headrace" / "keys"))


@pytest.fixture
def site(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Site":
    """Two empty repositories, and what the roles do with them."""
    from dataclasses import replace

    from examples.flights.pipeline import pipeline as flights
    from tests.release_site import GATES, Site
    from tests.unit.fake_lake import MemoryLake

    for role in ("ROLES", "PASSPHRASE_FILE", *ROLE_KEYS):
        monkeypatch.delenv(f"HEADRACE_{role}", raising=False)
    lake = MemoryLake()
    lake.create_pipeline("flights")
    return Site(lake, replace(flights, gates=GATES), {}, keys, tmp_path / "work")


ROLE_KEYS = [
    f"{role}_KEY"
    for role in ("TRAINER", "GATEKEEPER", "RELEASER", "TIMESTAMP", "POLICY", "ROOT", "SERVING")
]
