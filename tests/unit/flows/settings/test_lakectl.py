"""Whose lake it is: Headrace's variables, lakectl's, the installation's own, lakectl's file."""

import os
from pathlib import Path

import pytest

from flows.errors import Misconfigured
from flows.machine.first_use import ensure_lake_key
from flows.settings import Settings

OURS = {
    "LAKEFS_ENDPOINT": "https://ours.example",
    "LAKEFS_ACCESS_KEY_ID": "OURS",
    "LAKEFS_SECRET_ACCESS_KEY": "our secret",
}
THEIRS = {
    "LAKECTL_SERVER_ENDPOINT_URL": "https://variables.example/api/v1",
    "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "VARIABLES",
    "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "the variables' secret",
}
FILE = """\
credentials:
    access_key_id: FILE
    secret_access_key: the file's secret
server:
    endpoint_url: http://file.example:8000/
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("HEADRACE_", "LAKEFS_", "LAKECTL_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def chosen() -> tuple[str, str, str]:
    access = Settings.load().lake_access()
    return access.endpoint, access.access_key_id, access.secret_access_key.get_secret_value()


THE_FILES = ("http://file.example:8000", "FILE", "the file's secret")
THE_VARIABLES = ("https://variables.example", "VARIABLES", "the variables' secret")


def test_our_own_variables_win_over_everything(project, monkeypatch):
    (project / "home" / ".lakectl.yaml").write_text(FILE)
    set_all(monkeypatch, OURS | THEIRS)
    assert chosen() == tuple(OURS.values())


def test_lakectls_variables_win_over_its_file_and_over_the_lake_of_the_installation(
    project, monkeypatch
):
    ensure_lake_key(Settings.load())
    (project / "home" / ".lakectl.yaml").write_text(FILE)
    set_all(monkeypatch, THEIRS)
    assert chosen() == THE_VARIABLES
    assert not Settings.load().lake_is_embedded


def test_lakectls_file_is_read_where_lakectl_reads_it(project, monkeypatch):
    (project / "home" / ".lakectl.yaml").write_text(FILE)
    assert chosen() == THE_FILES
    elsewhere = project / "other.yaml"
    elsewhere.write_text(FILE.replace("FILE", "ELSEWHERE"))
    monkeypatch.setenv("LAKECTL_CONFIG_FILE", str(elsewhere))
    assert chosen()[1] == "ELSEWHERE"


def test_a_variable_of_lakectls_replaces_one_value_of_its_file(project, monkeypatch):
    (project / "home" / ".lakectl.yaml").write_text(FILE)
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "newer")
    assert chosen() == (*THE_FILES[:2], "newer")


def test_a_lake_that_runs_here_already_is_not_left_for_lakectls_file(project):
    own = ensure_lake_key(Settings.load())
    (project / "home" / ".lakectl.yaml").write_text(FILE)
    assert Settings.load().lake_is_embedded
    assert chosen()[1] == own.access_key_id


def test_a_key_of_lakectls_goes_to_its_own_lake_only(project, monkeypatch):
    set_all(monkeypatch, THEIRS)
    monkeypatch.setenv("LAKEFS_ENDPOINT", "https://variables.example/")
    assert chosen()[1:] == THE_VARIABLES[1:]
    monkeypatch.setenv("LAKEFS_ENDPOINT", "https://elsewhere.example")
    with pytest.raises(Misconfigured, match="LAKEFS_ACCESS_KEY_ID is not set"):
        chosen()


def test_half_of_lakectls_variables_is_said_and_half_of_its_file_is_nothing(project, monkeypatch):
    (project / "home" / ".lakectl.yaml").write_text("server: {endpoint_url: http://x}\n")
    assert Settings.load().lake_is_embedded
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "HALF")
    with pytest.raises(Misconfigured, match="LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY is not set"):
        Settings.load()


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "just text"])
def test_a_file_that_cannot_be_used_is_named_and_not_quoted(project, text):
    path = project / "home" / ".lakectl.yaml"
    path.write_text(f"{text} secret-in-the-file")
    with pytest.raises(Misconfigured) as caught:
        Settings.load()
    assert str(path) in str(caught.value)
    assert "secret-in-the-file" not in f"{caught.value} {caught.value.remedy}"
    assert "/dev/null" in caught.value.remedy


def test_a_secret_of_lakectls_is_in_no_repr(project, monkeypatch):
    set_all(monkeypatch, THEIRS)
    assert "the variables' secret" not in f"{Settings.load()!r}"
