"""The model card: what a release is and what it proved, from signed statements and nothing else.

The gatekeeper shows it, the releaser signs its digest; both render it themselves, and the same
statements give the same text.
"""

from collections.abc import Iterable, Mapping, Sequence

from flows.pipeline import Pipeline
from security.policy.gates import GateEvidence, GateResult
from security.release.provenance import Build, SealedBundle

_GAP = ":gap-by-"


def render_card(
    pipeline: Pipeline, build: Build, sealed: SealedBundle, evidence: GateEvidence
) -> str:
    """Markdown. The pipeline gives the names of things; every number is a signed one."""
    passed = sum(result.passed for result in evidence.results)
    sections = [
        f"# Model card: {_text(build.model)}",
        f"Probability that the outcome is **{_text(pipeline.positive)}**. "
        f"{passed} of {len(evidence.results)} gates passed, compared with {_rival(evidence)}.",
        "## Gates",
        _table(("gate", "value", "bound", "passed"), map(_gate_row, evidence.results)),
        "## Data",
        _table(("rows", "count", "positives"), _data_rows(evidence.rows or {})),
        "## Inputs",
        _table(("input", "pinned to"), _inputs(build)),
        f"Definition `{build.definition_sha256}`. Trained for: {_text(build.reason or '-')}.",
        "## Hyperparameters",
        _table(("name", "value"), sorted(build.hyperparameters.items())),
        "## Features",
        _table(("feature", "kind"), _feature_rows(pipeline)),
        "## Files",
        _table(("file", "bytes"), sorted((file.name, file.size) for file in sealed.files)),
    ]
    return "\n\n".join(sections) + "\n"


def _rival(evidence: GateEvidence) -> str:
    if evidence.against is None:
        return "the base rate"
    return f"release `{evidence.against[:12]}` on the same rows"


def _gate_row(result: GateResult) -> tuple[object, ...]:
    name = result.metric.replace(_GAP, " gap by ")
    verdict = "yes" if result.passed else "**no**"
    return (name, result.value, f"{result.comparator} {result.threshold}", verdict)


def _data_rows(rows: Mapping[str, int]) -> list[tuple[object, ...]]:
    sides = (("training", "train"), ("holdout", "holdout"))
    return [
        (title, rows[name], rows.get(f"{name}_positives", ""))
        for title, name in sides
        if name in rows
    ]


def _inputs(build: Build) -> list[tuple[object, ...]]:
    pins = [
        (name if name == "data" else f"data {name}", f"{pin.repository}@{pin.commit}")
        for name, pin in sorted(build.data.items())
    ]
    clean = "" if build.code_clean else ", with uncommitted changes"
    return [
        *pins,
        ("known by", build.cutoff or "-"),
        ("code", build.code_commit + clean),
        ("lock", build.lock_sha256),
    ]


def _feature_rows(pipeline: Pipeline) -> list[tuple[object, ...]]:
    return [
        (name, "categorical" if name in pipeline.categorical else "number")
        for name in pipeline.features
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _text(cell: object) -> str:
    """One line that cannot leave its table cell or become markup."""
    text = " ".join(str(cell).split())
    for mark in "\\|<>`[]":
        text = text.replace(mark, f"\\{mark}")
    return text
