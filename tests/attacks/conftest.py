"""The reviewer's list of attacks on a released model: one small sealed release to attack.

Tests are named `test_NN_what_is_attempted`; the summary counts the numbers. What is attacked is
what a user installs: `python -m security verify`, and the functions that flows call.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from security.__main__ import main
from security.formats import envelope
from security.keys.pairs import ROLES, Recipient, Signer
from security.policy.gates import GateRule
from security.policy.key_homes import init_keys, load_recipient, load_signer
from security.policy.trust_policy import TrustPolicy, load_root
from security.release.bundle import open_bundle, seal
from security.release.provenance import Build, DataPin
from security.release.signing import (
    Measurement,
    ReleaseTerms,
    sign_gates,
    sign_provenance,
    sign_release,
    verify_release,
)

ATTACKS = 63
MODEL = "delays"
CREATED = "2013-07-01T00:00:00Z"
FILES = {"model.onnx": bytes(range(256)) * 200, "reference.json": b'{"rows":1}' * 5000}
BUILD = Build(
    run_id="train-1f",
    pipeline="flights",
    model=MODEL,
    data={"flights": DataPin("flights", "ab" * 32)},
    code_commit="0123456789abcdef0123456789abcdef01234567",
    code_clean=True,
    lock_sha256="11" * 32,
    definition_sha256="22" * 32,
    hyperparameters={"max_iter": 100},
    features_sha256="33" * 32,
    schema_sha256="44" * 32,
    started=CREATED,
    finished=CREATED,
)
_outcomes: dict[int, set[str]] = {}
_left_out: set[int] = set()


@dataclass(frozen=True)
class Keys:
    """Every role's keys and the policy they signed."""

    folder: Path
    policy: TrustPolicy
    signers: dict[str, Signer]
    recipient: Recipient

    def release(
        self, place: Path, *, version: int = 1, build: Build = BUILD, files: Any = None
    ) -> Path:
        """A whole release in `place/release`, made as the three roles make it."""
        plain = place / "plain"
        plain.mkdir(parents=True)
        for name, data in (files or FILES).items():
            (plain / name).write_bytes(data)
        paths = {name: plain / name for name in (files or FILES)}
        out = place / "release"
        bundle = seal(paths, recipients=self.policy.recipients, out=out)
        sign_provenance(out, build, bundle.sealed, signer=self.signers["trainer"])
        sign_gates(
            out,
            Measurement(model=build.model, files=paths, values={"log_loss": 0.41}),
            policy=self.policy,
            signer=self.signers["gatekeeper"],
        )
        sign_release(
            out,
            ReleaseTerms(
                version=version,
                card="# Delays\n",
                created=CREATED,
                created_by="ana",
                reason="monthly",
            ),
            policy=self.policy,
            signer=self.signers["releaser"],
        )
        for name in ("trust.dsse.json", "rules.dsse.json"):
            shutil.copy(self.folder / name, out / name)
        return out


@dataclass
class Target:
    """A copy of a good release, and what a victim does with it."""

    folder: Path
    keys: Keys
    place: Path
    read_output: Callable[[], tuple[str, str]]

    @property
    def model(self) -> Path:
        return self.folder / "payload" / "model.onnx.sealed"

    def verify(self, *more: str) -> str:
        """The refusal that `python -m security verify` prints; fails if there is none."""
        root = str(self.keys.folder / "root.json")
        code = main(["verify", str(self.folder), "--root", root, *more])
        out, err = self.read_output()
        assert code == 1, out
        assert err.startswith("refused: ")
        reason, *remedy = err.splitlines()
        assert len(reason) < 300, "the reason is one sentence"
        assert len(remedy) <= 1, err
        assert "verified" not in out
        return err

    def verifies(self) -> None:
        """Nothing was refused."""
        root = str(self.keys.folder / "root.json")
        assert main(["verify", str(self.folder), "--root", root]) == 0

    def open(self, recipient: Recipient | None = None, release: Any = None) -> Path:
        """Decrypt what the untouched release stated, whatever the folder now holds."""
        stated = release or self.stated
        into = self.place / "private" / "open"
        return open_bundle(
            self.folder, stated, recipient=recipient or self.keys.recipient, into=into
        )

    def nothing_was_published(self) -> None:
        private = self.place / "private"
        assert not private.exists() or list(private.iterdir()) == []

    def resign(self, name: str, role: str, edit: Callable[[dict[str, Any]], None]) -> None:
        """An insider: the holder of `role` signs an edited statement."""
        path = self.folder / name
        fields = json.loads(path.read_bytes())
        statement = json.loads(envelope.decode64(fields["payload"], "payload"))
        edit(statement)
        text = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        signer = self.keys.signers[role]
        path.write_bytes(envelope.sign(text.encode(), fields["payloadType"], signer))

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """An outsider: the file is changed, and nobody signs."""
        path = self.folder / name
        fields = json.loads(path.read_bytes())
        change(fields)
        path.write_text(json.dumps(fields))

    def __post_init__(self) -> None:
        self.stated = verify_release(self.folder, policy=self.keys.policy).release


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("attacked") / "keys"
    init_keys(folder, gates={MODEL: (GateRule("log_loss", "<=", "0.45"),)})
    return Keys(
        folder,
        TrustPolicy.load(folder, root=load_root(folder / "root.json")),
        {role: load_signer(folder, role) for role in ROLES},
        load_recipient(folder),
    )


@pytest.fixture(scope="session")
def _release(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keys.release(tmp_path_factory.mktemp("released"))


@pytest.fixture
def target(
    keys: Keys, _release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Target:
    folder = tmp_path / "release"
    shutil.copytree(_release, folder)

    def read_output() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return Target(folder, keys, tmp_path, read_output)


@pytest.fixture
def other(keys: Keys, tmp_path: Path) -> Path:
    """Another good release, signed by the same people."""
    return keys.release(tmp_path / "second", version=2, files={"model.onnx": b"another" * 8000})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Under xdist, too: reports of every process come to the one that writes the summary."""
    number = attack_of(report.nodeid)
    if number and not report.passed:
        _outcomes.setdefault(number, set()).add(report.outcome)
    elif number and report.when == "call":
        _outcomes.setdefault(number, set()).add("passed")


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    _left_out.update(filter(None, (attack_of(item.nodeid) for item in items)))


def attack_of(nodeid: str) -> int:
    """The number of the attack that a test is of; 0 for other tests."""
    found = re.search(r"tests/attacks/\w+\.py::test_(\d\d)_", nodeid)
    return int(found[1]) if found else 0


def summary(outcomes: Mapping[int, set[str]], left_out: Set[int]) -> list[str]:
    """What is printed: how many attacks were refused, then by number those that were not."""
    refused = {number for number, seen in outcomes.items() if seen == {"passed"}}
    failed = {number for number, seen in outcomes.items() if "failed" in seen}
    part = {
        "NOT REFUSED": failed,
        "only partly run": set(outcomes) - refused - failed | refused & left_out,
        "not run": set(range(1, ATTACKS + 1)) - set(outcomes),
    }
    few = len(outcomes) < ATTACKS // 2
    if few:
        part["not run"] = set()
    of = f"{len(outcomes)} of {ATTACKS}" if few else str(ATTACKS)
    lines = [f"{of} attacks, {len(refused - left_out)} refused"]
    named = {why: ", ".join(map(str, sorted(numbers))) for why, numbers in part.items() if numbers}
    return lines + [f"{why}: {numbers}" for why, numbers in named.items()]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in summary(_outcomes, _left_out) if _outcomes else ():
        terminalreporter.write_line(line)
