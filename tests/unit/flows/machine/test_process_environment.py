import os
import sysconfig

import pytest
from pydantic import SecretStr

from flows.machine.process_environment import environment, inherit_environment, overlay
from flows.settings import Settings


def test_a_child_gets_the_users_variables_without_those_withheld(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OF_THE_USER", "kept")
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = inherit_environment(withheld=["LAKEFS_SECRET_ACCESS_KEY"])
    assert found["OF_THE_USER"] == "kept"
    assert "LAKEFS_SECRET_ACCESS_KEY" not in found
    assert "PYTHONDONTWRITEBYTECODE" not in found
    assert found["PATH"].split(os.pathsep)[0] == sysconfig.get_path("scripts")


def test_headraces_own_variables_win_over_the_users(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere.example/api")
    assert environment(settings)["PREFECT_API_URL"] == settings.prefect_api_url


def test_what_headrace_adds_names_the_installation_and_no_secret(settings: Settings) -> None:
    key = {"lake_access_key_id": "AKIA", "lake_secret_access_key": SecretStr("very-secret")}
    found = overlay(settings.model_copy(update=key))
    assert found["HEADRACE_HOME"] == str(settings.home)
    assert "LAKEFS_ENDPOINT" not in found
    assert not any("very-secret" in value or "AKIA" in value for value in found.values())


def test_a_lakefs_of_ones_own_is_passed_on(settings: Settings) -> None:
    real = settings.model_copy(update={"lake_endpoint": "https://lake.example"})
    assert overlay(real)["LAKEFS_ENDPOINT"] == "https://lake.example"
