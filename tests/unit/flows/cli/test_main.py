import json
import os
import subprocess
import sys
from pathlib import Path
from socket import socket

import pytest

from flows.cli import main
from flows.errors import EmptyWindow
from security.errors import Untrusted
from storage.errors import NotFound

HEAVY = {"prefect", "polars", "sklearn", "deltalake", "lakefs_client", "httpx", "pydantic", "numpy"}


def headrace(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "LAKEFS_"))}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder,
        env=kept | env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, json\nfrom flows.cli.main import assemble\n"
        "try:\n    assemble()(['--help'])\nexcept SystemExit:\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "status" in done.stdout
    assert not HEAVY & set(json.loads(done.stderr))


def test_status_of_nothing_is_a_list_of_stopped_services(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").touch()
    done = headrace("status", "--json", folder=tmp_path)
    assert {one["name"]: one["state"] for one in json.loads(done.stdout)} == dict.fromkeys(
        ("lake", "prefect", "worker", "service"), "stopped"
    )
    assert not (tmp_path / ".headrace").exists()


def test_a_real_lake_is_shown_as_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").touch()
    lake = {"LAKEFS_ENDPOINT": "https://lake.example"}
    done = headrace("status", "--json", folder=tmp_path, **lake)
    assert json.loads(done.stdout)[0] | {"name": "lake", "state": "elsewhere"} == {
        "name": "lake",
        "state": "elsewhere",
        "pid": None,
        "address": "https://lake.example",
        "since": None,
        "memory_bytes": None,
    }


def test_plain_rows_when_nobody_looks(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").touch()
    done = headrace("status", folder=tmp_path)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [
        "lake",
        "prefect",
        "worker",
        "service",
    ]


def test_down_of_nothing_is_fine(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").touch()
    done = headrace("down", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_problem_is_two_lines_and_no_traceback(tmp_path: Path) -> None:
    done = headrace("status", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["problem", "remedy"]


def test_a_problem_is_one_line_of_json_for_a_program(tmp_path: Path) -> None:
    done = headrace("status", "--json", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    error = json.loads(line)["error"]
    assert error.keys() == {"code", "problem", "remedy"}
    assert error["code"] == "setup.misconfigured"
    assert "prefect.yaml" in error["problem"]
    assert "HEADRACE_ROOT" in error["remedy"]


def test_debugging_shows_the_traceback(tmp_path: Path) -> None:
    done = headrace("status", folder=tmp_path, HEADRACE_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    assert headrace("nonsense", folder=tmp_path).returncode == 2
    assert headrace("status", "--nonsense", folder=tmp_path).returncode == 2


@pytest.mark.parametrize("name", ["LAKE", "PREFECT", "SERVICE"])
def test_a_port_in_use_is_named_with_its_variable_and_nothing_starts(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "prefect.yaml").touch()
    with socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = str(stranger.getsockname()[1])
        ports = {f"HEADRACE_{one}_PORT": _free() for one in ("LAKE", "PREFECT", "SERVICE")}
        done = headrace("up", folder=tmp_path, **ports | {f"HEADRACE_{name}_PORT": port})
    assert done.returncode == 1
    problem, remedy = done.stderr.splitlines()
    assert f"port {port}" in problem
    assert f"HEADRACE_{name}_PORT" in remedy
    assert list((tmp_path / ".headrace" / "run").glob("*.json")) == []


def test_a_foreign_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "assemble", lambda: _raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main.main()


@pytest.mark.parametrize(
    "error",
    [
        EmptyWindow("no rows\nin june", remedy="wait"),
        NotFound("no rows in june", remedy="wait"),
        Untrusted("no rows in june", remedy="wait"),
    ],
)
def test_each_family_of_errors_is_described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    monkeypatch.setattr(main, "assemble", lambda: _raising(error))
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "problem: no rows in june\nremedy: wait\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EmptyWindow("no rows\nin june"), ("stage.empty_window", "no rows in june", "")),
        (NotFound("gone", remedy="look\nagain"), ("lake.not_found", "gone", "look again")),
        (Untrusted("no", code="trust.untrusted"), ("trust.untrusted", "no", "")),
        (NotFound("\x1b[2J\N{LATIN SMALL LETTER U WITH DIAERESIS}"), None),
    ],
)
def test_json_carries_the_code_and_only_ascii(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    told: tuple[str, str, str] | None,
) -> None:
    monkeypatch.setattr(main, "assemble", lambda: _raising(error))
    monkeypatch.setattr(sys, "argv", ["headrace", "runs", "--json"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    line = capsys.readouterr().err
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    if told:
        assert tuple(json.loads(line)["error"].values()) == told


def test_an_argument_after_two_dashes_is_no_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "assemble", lambda: _raising(NotFound("no rows")))
    monkeypatch.setattr(sys, "argv", ["headrace", "data", "show", "--", "--json"])
    with pytest.raises(SystemExit):
        main.main()
    assert capsys.readouterr().err == "problem: no rows\n"


def _raising(error: Exception) -> object:
    def run() -> None:
        raise error

    return run


def _free() -> str:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
