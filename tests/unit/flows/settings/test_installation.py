import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from flows.errors import Misconfigured
from flows.machine.first_use import ensure_lake_key
from flows.settings.installation import Settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("HEADRACE_", "LAKEFS_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_home_lies_under_the_nearest_project_above(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert Settings.load().root == project
    assert Settings.load().home == project / ".headrace"


def test_home_from_the_environment_wins(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("HEADRACE_HOME", str(elsewhere))
    assert Settings.load().home == elsewhere
    assert Settings.load().root == project


def test_outside_any_project_the_remedy_names_the_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "prefect.yaml").unlink()
    with pytest.raises(Misconfigured) as caught:
        Settings.load()
    assert "HEADRACE_ROOT" in caught.value.remedy


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADRACE_LAKE_PORT", "seventy"),
        ("HEADRACE_PREFECT_PORT", "0"),
        ("HEADRACE_SERVICE_PORT", "65536"),
        ("HEADRACE_WORKER_LIMIT", "0"),
        ("LAKEFS_ENDPOINT", "lake.example:8000"),
    ],
)
def test_an_unusable_value_is_named_by_its_variable(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Misconfigured, match=variable) as caught:
        Settings.load()
    assert value in str(caught.value)
    assert variable in caught.value.remedy


def test_each_variable_reaches_its_field(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_LAKE_PORT", "1111")
    monkeypatch.setenv("HEADRACE_PIPELINE", "mine.pipeline:pipeline")
    monkeypatch.setenv("HEADRACE_ENVIRONMENT", "staging")
    found = Settings.load()
    assert (found.lake_port, found.pipeline, found.environment) == (
        1111,
        "mine.pipeline:pipeline",
        "staging",
    )
    assert found.lake_url == "http://127.0.0.1:1111"


def test_an_empty_endpoint_means_the_embedded_lake(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFS_ENDPOINT", "")
    assert Settings.load().lake_is_embedded


def test_settings_are_frozen_and_refuse_unknown_names(project: Path) -> None:
    with pytest.raises(ValidationError):
        Settings.load().lake_port = 1
    with pytest.raises(ValidationError):
        Settings(root=project, lake_prot=1)  # type: ignore[call-arg]


def test_the_first_call_makes_the_lake_key_and_later_ones_read_it(project: Path) -> None:
    settings = Settings.load()
    with pytest.raises(Misconfigured, match="no key yet"):
        settings.lake_access()
    made = ensure_lake_key(settings)
    assert ensure_lake_key(settings) == made
    assert Settings.load().lake_access() == made
    assert settings.lake_credentials_file.stat().st_mode & 0o777 == 0o600


def test_two_installations_get_different_keys(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    keys = [ensure_lake_key(Settings(root=project, home=home)) for home in (project, other)]
    assert keys[0].access_key_id != keys[1].access_key_id
    assert keys[0].secret_access_key != keys[1].secret_access_key


def test_a_key_that_others_can_read_is_refused(project: Path) -> None:
    settings = Settings.load()
    ensure_lake_key(settings)
    settings.lake_credentials_file.chmod(0o640)
    with pytest.raises(Misconfigured, match="read by others") as caught:
        settings.lake_access()
    assert caught.value.remedy.startswith("chmod 600")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"access_key_id": "A"}'])
def test_a_damaged_key_file_is_refused_and_not_replaced(project: Path, content: str) -> None:
    settings = Settings.load()
    ensure_lake_key(settings)
    settings.lake_credentials_file.write_text(content)
    with pytest.raises(Misconfigured, match="does not hold a lake key"):
        ensure_lake_key(settings)
    assert settings.lake_credentials_file.read_text() == content


def test_a_key_from_the_environment_is_never_written_down(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFS_ACCESS_KEY_ID", "AKIAGIVEN")
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "given")
    settings = Settings.load()
    assert ensure_lake_key(settings).secret_access_key == SecretStr("given")
    assert not settings.lake_credentials_file.exists()


def test_half_a_key_is_refused_and_the_missing_half_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFS_ACCESS_KEY_ID", "AKIAGIVEN")
    with pytest.raises(Misconfigured, match="LAKEFS_SECRET_ACCESS_KEY is not set"):
        Settings.load().lake_access()


def test_a_real_lake_needs_a_key_of_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_lake_key(Settings.load())
    monkeypatch.setenv("LAKEFS_ENDPOINT", "https://lake.example")
    with pytest.raises(Misconfigured, match=r"https://lake\.example is incomplete"):
        ensure_lake_key(Settings.load())


def test_no_secret_shows_in_the_text_of_settings_or_access(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFS_ACCESS_KEY_ID", "AKIAGIVEN")
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "very-secret")
    settings = Settings.load()
    assert "very-secret" not in repr(settings) + repr(settings.lake_access())
    assert "very-secret" not in settings.model_dump_json()


def test_importing_settings_stays_light() -> None:
    code = "import sys, flows.settings, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert not {"prefect", "httpx", "polars", "sklearn", "lakefs_client"} & set(loaded)
