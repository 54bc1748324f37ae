"""The model card: what a release is and what it proved, from evidence and nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.learn.dataset import Split
from flows.pipeline import Param, Pipeline
from flows.train.gates import Evidence


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Everything a card may say. `pins` are names and full commit ids of the inputs."""

    pipeline: Pipeline
    definition_digest: str
    pins: Mapping[str, str]
    hyperparameters: Mapping[str, Param]
    seed: int
    split: Split
    evidence: Sequence[Evidence]
    sizes: Mapping[str, int]


def render_card(facts: CardFacts) -> str:
    """Markdown; the same facts give the same text."""
    passed = sum(e.passed for e in facts.evidence)
    sections = [
        f"# Model card: {_text(facts.pipeline.name)}",
        f"Probability that the outcome is **{_text(facts.pipeline.positive)}**. "
        f"{passed} of {len(facts.evidence)} gates passed.",
        "## Gates",
        _table(("gate", "value", "bound", "passed", "of what"), map(_gate_row, facts.evidence)),
        "## Data",
        _table(("rows", "count", "positives", "from", "to"), _data_rows(facts.split)),
        "## Inputs",
        _table(("input", "pinned to"), sorted(facts.pins.items())),
        f"Definition `{facts.definition_digest}`, seed {facts.seed}.",
        "## Hyperparameters",
        _table(("name", "value"), sorted(facts.hyperparameters.items())),
        "## Features",
        _table(("feature", "kind"), _feature_rows(facts.pipeline)),
        "## Files",
        _table(("file", "bytes"), sorted(facts.sizes.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _gate_row(evidence: Evidence) -> tuple[object, ...]:
    gap = f" gap by {evidence.group_by}" if evidence.group_by else ""
    bound = f"{evidence.comparator} {evidence.threshold}"
    verdict = "yes" if evidence.passed else "**no**"
    return (evidence.metric + gap, evidence.value, bound, verdict, evidence.detail)


def _data_rows(split: Split) -> list[tuple[object, ...]]:
    sides = (("training", split.train), ("holdout", split.holdout))
    return [
        (
            name,
            side.height,
            int(side["label"].sum()),
            _date(side["at"].min()),
            _date(side["at"].max()),
        )
        for name, side in sides
    ]


def _feature_rows(pipeline: Pipeline) -> list[tuple[object, ...]]:
    return [
        (name, "categorical" if name in pipeline.categorical else "number")
        for name in pipeline.features
    ]


def _date(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if isinstance(moment, datetime) else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _text(cell: object) -> str:
    """One line that cannot leave its table cell or become markup."""
    text = " ".join(str(cell).split())
    for mark in "\\|<>`[]":
        text = text.replace(mark, f"\\{mark}")
    return text
