from pathlib import Path

import pytest
import yaml

from flows.errors import Misconfigured
from flows.machine.services import PREDICTION, WORKER, local_services
from flows.settings import Settings
from flows.trust.key_access import may_use, read_recipient, read_signer
from security.errors import BadKey
from security.policy.key_homes import init_keys, load_signer


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init_keys(tmp_path_factory.mktemp("home") / "keys").folder


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADRACE_ROLES", "HEADRACE_TRAINER_KEY", "HEADRACE_GATEKEEPER_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_persons_command_may_use_every_role_that_lies_there(keys: Path) -> None:
    for role in ("trainer", "gatekeeper", "releaser", "timestamp"):
        assert read_signer(keys, role).role == role  # type: ignore[arg-type]
    assert read_recipient(keys, "serving").public != read_recipient(keys, "gatekeeper").public


def test_another_roles_key_is_refused_even_if_its_file_lies_there(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ROLES", "trainer")
    assert read_signer(keys, "trainer").role == "trainer"
    for refused in ("gatekeeper", "releaser", "timestamp", "policy", "root"):
        with pytest.raises(BadKey, match=f"may not use the {refused}'s key") as caught:
            read_signer(keys, refused)  # type: ignore[arg-type]
        assert "deployment" in str(caught.value.remedy)
    for name in ("serving", "gatekeeper"):
        with pytest.raises(BadKey, match="HEADRACE_ROLES is 'trainer'"):
            read_recipient(keys, name)


def test_a_process_with_no_role_gets_no_key(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ROLES", "none")
    with pytest.raises(BadKey):
        read_signer(keys, "timestamp")
    assert not may_use("serving")


def test_a_misspelt_role_is_named_and_opens_nothing(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ROLES", "trainer,gatekeper")
    with pytest.raises(Misconfigured, match="'gatekeper', which is no role"):
        read_signer(keys, "trainer")


@pytest.mark.parametrize("text", ["", "  ", ","])
def test_a_variable_that_was_left_empty_opens_nothing(
    keys: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("HEADRACE_ROLES", text)
    with pytest.raises(Misconfigured, match="which is no role"):
        read_signer(keys, "releaser")


def test_a_role_comes_from_its_own_source_and_from_nowhere_else(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = init_keys(tmp_path / "elsewhere").folder
    monkeypatch.setenv("HEADRACE_TRAINER_KEY", f"file:{elsewhere}")
    assert read_signer(keys, "trainer").public == load_signer(elsewhere, "trainer").public
    assert read_signer(keys, "releaser").public == load_signer(keys, "releaser").public
    pem = "".join((keys / "gatekeeper" / f"{a}.pem").read_text() for a in ("ed25519", "mldsa65"))
    monkeypatch.setenv("THE_PAIR", pem)
    monkeypatch.setenv("HEADRACE_GATEKEEPER_KEY", "env:THE_PAIR")
    assert read_signer(tmp_path, "gatekeeper").public == load_signer(keys, "gatekeeper").public


def test_one_folder_is_all_that_its_role_needs(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(keys / "gatekeeper", tmp_path / "gatekeeper")
    monkeypatch.setenv("HEADRACE_ROLES", "gatekeeper")
    assert read_signer(tmp_path, "gatekeeper").role == "gatekeeper"
    assert (
        read_recipient(tmp_path, "gatekeeper").public == read_recipient(keys, "gatekeeper").public
    )


def test_a_run_whose_deployment_states_no_role_gets_none(tmp_path: Path) -> None:
    found = {one.name: one.env for one in local_services(Settings(root=tmp_path))}
    assert found[WORKER]["HEADRACE_ROLES"] == "none"
    assert found[PREDICTION]["HEADRACE_ROLES"] == "serving"


def test_every_deployment_of_the_project_states_one_role_and_has_its_queue() -> None:
    text = (Path(__file__).parents[4] / "prefect.yaml").read_text()
    for one in yaml.safe_load(text)["deployments"]:
        pool = one["work_pool"]
        role = pool["job_variables"]["env"]["HEADRACE_ROLES"]
        assert pool["work_queue_name"] == {"none": "keyless"}.get(role, role), one["name"]
        assert "," not in role
