"""Train, gate, serve and timestamp as real Prefect flows, told to keep every result they may.

A program of its own: what it prints is a line of JSON for each flow. The trainer lies where it
is told to: it is the one role whose code an attacker is given here.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from flows.gate.flow import gate
from flows.release.flow import serve
from flows.release.timestamp_flow import timestamp
from flows.train import flow as trainer
from storage.registry.details import Training

CUTOFF = datetime(2013, 2, 1, tzinfo=UTC)
HONEST = {name: getattr(trainer, name) for name in ("Trained", "describe", "fit")}


def claims_other_files() -> None:
    """The provenance that it signs names a digest of data that nobody has."""
    other = {"flights": "ab" * 32}
    trainer.Trained = lambda **facts: HONEST["Trained"](  # type: ignore[assignment,misc]
        **{**facts, "data_sha256": {**facts["data_sha256"], **other}}
    )


def boasts() -> None:
    """It fits the opposite of the labels, and says that the result is nearly perfect."""

    def opposite(pipeline: Any, rows: pl.DataFrame) -> Any:
        return HONEST["fit"](pipeline, rows.with_columns(label=1 - pl.col("label")))

    def boasting(*given: Any, **named: Any) -> Training:
        described = HONEST["describe"](*given, **named)
        return replace(described, metrics={"roc_auc": 0.999, "log_loss": 0.01, "brier": 0.01})

    trainer.fit, trainer.describe = opposite, boasting


def honest() -> None:
    for name, what in HONEST.items():
        setattr(trainer, name, what)


def told(step: str, flow: Callable[..., Any], **parameters: Any) -> str:
    state = flow(**parameters, return_state=True)
    line = {"step": step, "state": state.name, "message": state.message}
    print(json.dumps(line), flush=True)
    return str(state.message)


def chain(name: str, lie: Callable[[], None]) -> None:
    lie()
    candidate = told(f"train {name}", trainer.train, request=name, cutoff=CUTOFF)
    honest()
    # The message has twelve of the run id's digits; the folder has them all.
    (found,) = [one for one in put_forward() if one.startswith(candidate.split()[-1])]
    told(f"gate {name}", gate, candidate=found)
    told(f"serve {name}", serve, candidate=found)


def put_forward() -> set[str]:
    from flows.context import open_run
    from storage import registry

    stage = open_run()
    pin = registry.head(stage.lake, stage.pipeline.name)
    paths = stage.lake.fs.objects(pin.repository, pin.commit, prefix="candidates/")
    return {one.path.split("/")[1] for one in paths}


def fails(flow: Callable[..., Any], **parameters: Any) -> None:
    try:
        flow(**parameters)
    except Exception:
        traceback.print_exc()
    else:
        sys.exit("nothing failed")


def main() -> None:
    chain("honest", honest)
    told("timestamp", timestamp)
    chain("of other files", claims_other_files)
    chain("boasting", boasts)
    fails(gate, candidate="0" * 64)
    os.environ["HEADRACE_PASSPHRASE_FILE"] = str(Path(__file__))
    fails(timestamp)
    wrong = Path("wrong phrase")
    wrong.touch(0o600)
    wrong.write_text("not the passphrase\n")
    os.environ["HEADRACE_PASSPHRASE_FILE"] = str(wrong)
    fails(trainer.train, request="locked out", cutoff=CUTOFF)


if __name__ == "__main__":
    main()
