"""What the gatekeeper found of a candidate: measured by itself, signed, ready to be recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flows.errors import EmptyWindow
from flows.gate.measure import JudgedGate, judge_gates
from flows.gate.opening import OpenedCandidate
from flows.gate.parity import parity
from flows.learn.champion import Champion
from flows.learn.dataset import Split
from flows.pipeline import Pipeline
from security.errors import Untrusted
from security.keys.pairs import RoleSigner
from security.policy.gates import GateEvidence, find_shortfalls
from security.policy.trust_policy import TrustPolicy
from security.release.signing import Measurement, sign_gates
from security.release.verify import GATES
from storage.registry.details import GateDetails

_BOUNDS = {">=": "least", "<=": "most"}


@dataclass(frozen=True)
class Trial:
    """A candidate, the rows it is judged on, and the release that it is compared with."""

    opened: OpenedCandidate
    split: Split
    champion: Champion | None


@dataclass(frozen=True)
class Verdict:
    """`failed` says why the champion stays, empty if it does not have to; `refused`, that it was
    not even judged. `files` go beside the candidate; the rest becomes the run's record."""

    failed: tuple[str, ...]
    refused: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)
    details: GateDetails = field(default_factory=lambda: GateDetails(decision=None))
    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether a release may come of it."""
        return not self.failed

    @property
    def outcome(self) -> str:
        """For the record and the flow run's state."""
        return "passed" if self.passed else f"champion stays: {'; '.join(self.failed)}"


def measure_gates(pipeline: Pipeline, trial: Trial) -> tuple[JudgedGate, ...]:
    """Every gate, on the sealed model's own bytes, with the champion on the same holdout rows.

    Without a champion the candidate is compared with the share of positives in its training
    rows, so that the gate is never idle.
    """
    opened, split, champion = trial.opened, trial.split, trial.champion
    prior = np.full(split.holdout.height, split.train["label"].to_numpy().mean())
    return judge_gates(
        pipeline,
        opened.model,
        split,
        parity(opened.model, opened.estimator, split.holdout),
        champion_scores=prior if champion is None else champion.predict(split.holdout),
    )


def sign_verdict(
    pipeline: Pipeline,
    trial: Trial,
    evidence: Sequence[JudgedGate],
    *,
    policy: TrustPolicy,
    signer: RoleSigner,
) -> tuple[Verdict, GateEvidence | None]:
    """The verdict under the policy, and its evidence signed from these numbers and no others.

    What could not be measured cannot be signed: such a candidate fails without evidence.
    Raises: Untrusted if the policy demands a metric that the pipeline's gates do not measure.
    """
    opened, split, champion = trial.opened, trial.split, trial.champion
    sides = {"train": split.train, "holdout": split.holdout}
    counts = {name: side.height for name, side in sides.items()}
    positives = {f"{name}_positives": int(side["label"].sum()) for name, side in sides.items()}
    failed = [str(one) for one in evidence if not one.passed]
    signed = None
    if all(one.value != "NaN" for one in evidence):
        signed = sign_gates(
            opened.folder,
            Measurement(
                model=pipeline.name,
                files=opened.files,
                values={one.gate.id: one.value for one in evidence},
                against=champion.verified.digest if champion else None,
                rows={**counts, **positives},
                build=opened.verified.build,
            ),
            policy=policy,
            signer=signer,
        )
        failed = failed or find_shortfalls(policy.gates(pipeline.name), signed.results)
    verdict = Verdict(
        failed=tuple(failed),
        files={GATES: (opened.folder / GATES).read_bytes()} if signed else {},
        details=_describe(trial, evidence),
        counts=counts,
        metrics={e.gate.metric: float(e.value) for e in evidence if not e.gate.group_by},
    )
    return verdict, signed


def refuse_candidate(error: Untrusted | EmptyWindow) -> Verdict:
    """Of a candidate that does not hold."""
    return Verdict(failed=(f"refused: {error}",), refused=True)


def name_rival(champion: Champion | None) -> str:
    """Whom it was compared with, for people."""
    return f"champion {champion.ref}" if champion else "the base rate: there is no champion yet"


def tabulate_gates(evidence: Sequence[JudgedGate]) -> list[dict[str, str]]:
    """A row for each gate, for people."""
    return [
        {
            "gate": judged.title,
            "value": judged.value,
            # The UI reads cells as Markdown, in which >= begins a quotation.
            "required": f"at {_BOUNDS[judged.gate.comparator]} {judged.gate.threshold}",
            "passed": "yes" if judged.passed else "NO",
            "of what": judged.detail,
        }
        for judged in evidence
    ]


def _describe(trial: Trial, evidence: Sequence[JudgedGate]) -> GateDetails:
    build, split = trial.opened.verified.build, trial.split
    return GateDetails(
        decision=None,
        reason=build.reason,
        branch=build.branch,
        cutoff=split.cutoff.isoformat(),
        boundary=split.boundary.isoformat(),
        against=name_rival(trial.champion),
        gates=tuple({"gate": str(e), "passed": e.passed} for e in evidence),
    )
