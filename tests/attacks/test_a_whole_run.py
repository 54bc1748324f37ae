"""Attacks 53, 58 and 63, on everything that a whole run of train, gate, serve left behind.

tests/e2e/test_loop.py searches once more, after what `headrace up` starts.
"""

import base64
import pickletools
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE

from security.keys.pairs import ROLES
from security.policy.gates import parse_evidence
from security.policy.key_homes import load_signer
from security.release.verify import GATES, read_statement
from storage import registry
from storage.registry import candidates, layout
from storage.runs import records
from tests.attacks.left_behind import NAME, ROOT, WholeRun, flows_log, run

__all__ = ["run"]


def forms(secret: bytes) -> set[bytes]:
    """The bytes themselves, and as text shows them: hex, Python's, base64 wherever it begins."""
    shifted = (base64.b64encode(bytes(shift) + secret)[4:-4] for shift in range(3))
    python = repr(secret)[2:-1].encode()
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), python, *shifted}


def error_kept(data: bytes) -> str:
    """The class of the error whose few words are all that this result is."""
    assert len(data) < 1000
    pickled = pickletools.genops(base64.b64decode(data))
    words = [value for _, value, _ in pickled if isinstance(value, str)]
    return f"{words[0]}.{words[1]}"


def test_53_no_result_of_a_task_is_kept_or_found_again(run: WholeRun, tmp_path: Path) -> None:
    """Though Prefect was told to keep all: it has what failed flows said, and no model."""
    assert run.told["serve honest"]["state"] == "Completed"
    kept = [error_kept(path.read_bytes()) for path in run.storage.rglob("*") if path.is_file()]
    assert {name.rsplit(".", 1)[0] for name in kept} <= {"security.errors", "storage.errors"}
    assert len(kept) <= run.ask("SELECT count(*) FROM flow_run WHERE state_type = 'FAILED'")[0][0]
    assert run.ask("SELECT count(*) > 9 FROM task_run") == [(1,)]
    assert run.ask("SELECT count(*) FROM task_run WHERE cache_key IS NOT NULL") == [(0,)]
    assert run.ask("SELECT count(*) FROM task_run_state_cache") == [(0,)]
    model = run.model(tmp_path)
    assert {"model.onnx", "model.skops"} <= model.keys()
    for name, data in model.items():
        middle = data[len(data) // 2 :][:64]
        assert run.holds(middle) == [], name


def test_53_every_task_and_flow_refuses_to_keep_its_result() -> None:
    """Whatever settings it runs under: the switch is on each of them."""
    found: list[Any] = []
    for path in sorted((ROOT / "flows").glob("*/flow.py")):
        module = import_module(f"flows.{path.parent.name}.flow")
        found += [one for one in vars(module).values() if isinstance(one, Flow | Task)]
    assert len(found) > 15
    kept = [one.name for one in found if one.persist_result is not False]
    cached = [one.name for one in found if isinstance(one, Task) and one.cache_policy != NO_CACHE]
    assert (kept, cached) == ([], [])


def test_58_no_secret_is_in_anything_that_a_run_leaves(run: WholeRun) -> None:
    """Not in logs, tracebacks, Prefect's database with its artifacts and parameters, the lake."""
    assert len(run.secrets) == 5 + 2 * len(ROLES) + 4
    log = flows_log(run.folder).read_text()
    assert log.count("Traceback (most recent call last)") >= 3
    assert "the passphrase is wrong" in log
    counts = "SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM artifact)"
    assert all(count > 5 for count in run.ask(counts)[0])
    leaks = {
        name: places
        for name, secret in run.secrets.items()
        for form in forms(secret)
        if (places := run.holds(form))
    }
    assert leaks == {}


def test_58_the_search_finds_what_is_there(run: WholeRun) -> None:
    """The releaser's public key id, in the lake; a parameter, in Prefect's database and output."""
    public = load_signer(run.home / "keys", "releaser", passphrase=run.passphrase).public
    assert any("release.dsse.json" in place for place in run.holds(public.key_id.encode()))
    assert any(place.startswith("prefect/") for place in run.holds(b"of other files"))
    assert "output/told.json" in run.holds(b"of other files")


def test_63_the_gatekeeper_measures_for_itself_what_a_candidate_boasts_of(run: WholeRun) -> None:
    """It signs its own numbers, by which the boasting model fails; nothing of it is released."""
    head = registry.head(run.lake, NAME)
    candidate = records.run_id("train", NAME, "request", "boasting")
    claimed = candidates.candidate_record(run.lake, head, candidate)
    assert claimed is not None
    assert claimed.details["training"]["metrics"]["roc_auc"] == 0.999
    assert run.told["gate boasting"]["message"].startswith("champion stays: roc_auc ")
    path = f"{layout.candidate_folder(candidate)}/{GATES}"
    signed = run.folder / GATES
    signed.write_bytes(run.lake.fs.get(head.repository, head.commit, path))
    payload = read_statement(signed, run.trusted.policy, "gatekeeper").payload
    values = {one.metric: (one.value, one.passed) for one in parse_evidence(payload)[0].results}
    assert float(values["roc_auc"][0]) < 0.5
    assert values["roc_auc"][1] is False


def test_63_the_gatekeeper_reads_the_data_itself_and_signs_nothing_about_other_data(
    run: WholeRun,
) -> None:
    told = run.told["gate of other files"]
    reason = "refused: the provenance names other files than the data commit holds"
    assert told["message"] == f"champion stays: {reason}"
    head = registry.head(run.lake, NAME)
    candidate = records.run_id("train", NAME, "request", "of other files")
    folder = layout.candidate_folder(candidate)
    paths = [one.path for one in run.lake.fs.objects(head.repository, head.commit, prefix=folder)]
    assert paths
    assert f"{folder}/{GATES}" not in paths


WHY = {"boasting": "a gate did not pass", "of other files": "the candidate has no gate evidence"}


@pytest.mark.parametrize("name", WHY)
def test_63_the_releaser_signs_neither_and_what_served_still_serves(
    run: WholeRun, name: str
) -> None:
    told = run.told[f"serve {name}"]
    assert told["state"] == "Failed"
    assert WHY[name] in told["message"]
    head = registry.head(run.lake, NAME)
    assert registry.versions(run.lake, head, NAME) == [1]
    newest = run.trusted.newest_index(run.lake, head, "production")
    assert newest is not None
    assert (newest.index.number, newest.index.release.version) == (1, 1)
