from dataclasses import replace
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegression

from examples.flights.pipeline import pipeline as flights
from flows.keys.first_keys import list_saved_types, make_keys
from flows.pipeline import Gate
from flows.pipeline.gate_rules import make_gate_rules
from security.errors import BadKey
from security.policy.edition import load_policy
from security.policy.key_homes import load_signer

PIPELINE = replace(
    flights,
    gates=(Gate("log_loss", "<=", "0.5"),),
    estimator=lambda _: LogisticRegression(max_iter=200),
)


def test_the_first_policy_has_the_definitions_gates_and_types(tmp_path: Path) -> None:
    home = make_keys(PIPELINE, tmp_path / "keys")
    assert home.created
    policy = load_policy(home.folder)
    assert policy.gates("flights") == make_gate_rules(PIPELINE.gates)
    assert policy.rules.skops_types == list_saved_types(PIPELINE)
    assert home.root == policy.root == load_signer(home.folder, "root").public


def test_made_again_nothing_changes(tmp_path: Path) -> None:
    folder = make_keys(PIPELINE, tmp_path / "keys").folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = make_keys(replace(PIPELINE, gates=()), folder)
    assert (again.created, again.root) == (False, load_policy(folder).root)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_home_needs_no_private_key_to_stay_as_it_is(key_home: Path, tmp_path: Path) -> None:
    for name in ("root.json", "trust.dsse.json", "rules.dsse.json"):
        (tmp_path / name).write_bytes((key_home / name).read_bytes())
    assert make_keys(PIPELINE, tmp_path).root == load_policy(key_home).root
    (tmp_path / "rules.dsse.json").unlink()
    with pytest.raises(BadKey, match=r"is not empty and lacks rules\.dsse\.json"):
        make_keys(PIPELINE, tmp_path)


def test_a_passphrase_that_is_too_weak_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(BadKey):
        make_keys(PIPELINE, tmp_path / "keys", passphrase="short")
    assert not (tmp_path / "keys").exists()


def test_types_are_what_skops_does_not_trust_by_itself() -> None:
    assert list_saved_types(PIPELINE) == ()
    small = replace(flights, hyperparameters={**flights.hyperparameters, "max_iter": 2})
    found = list_saved_types(small)
    assert found == tuple(sorted(found))
    assert any("_hist_gradient_boosting" in name for name in found)
