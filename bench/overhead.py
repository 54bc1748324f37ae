"""Each stage beside a bare script that does the same work: what the lake and the seals cost.

    python bench/overhead.py [--rounds 3]

Bare: polars and scikit-learn on local Parquet files, nothing versioned, checked, signed or kept.
Stage: the same months through contracts, run transactions on an embedded lakeFS, sealing, gates
measured again from the pinned data, and registration. With `headrace up` running, the last column
adds what Prefect reports of the deployed runs of the demo. Medians; ratios are the figures to keep.
"""

import argparse
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import httpx
import polars as pl

from examples.flights.feed import delivery, month_bounds
from examples.flights.pipeline import pipeline
from flows.context import Context, read_code
from flows.gate.opening import open_candidate
from flows.gate.verdict import Trial, measure_gates, sign_verdict
from flows.ingest.land import land, survey
from flows.keys.first_keys import make_keys
from flows.learn.dataset import feature_frame, prepare_split, split_by_time, training_frame
from flows.learn.exported import PROFILE
from flows.learn.fit import fit
from flows.monitor.decide import decide
from flows.monitor.evidence import ReleaseWindow
from flows.monitor.observe import KnownData, observe
from flows.monitor.rules import MonitorRules
from flows.pipeline import Pipeline
from flows.profile.performance import performance
from flows.profile.profile import Profile
from flows.release.register import register_candidate
from flows.settings import Settings
from flows.train.candidate import make_candidate
from flows.train.seal import Trained, sealed_candidate
from flows.trust.installation import Trusted
from flows.trust.key_access import read_recipient, read_signer
from storage import tables
from storage.lake import Lake
from storage.lake.client import Access
from storage.landing import deliver, take_stock
from storage.registry import head
from storage.registry.candidates import put, put_verdict
from storage.runs.details import Details
from storage.tables.manifests import manifests

KEY, SECRET = "AKIAHEADRACEBENCH", "only-for-a-benchmark"
MONTHS = (1, 2, 3)
CUTOFF = month_bounds(4)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        process, lake = start_lake(Path(folder))
        try:
            report(Path(folder), lake, rounds)
        finally:
            process.terminate()
            process.wait(20)


def report(folder: Path, lake: Lake, rounds: int) -> None:
    bare_folder = folder / "bare"
    bare_folder.mkdir()
    for dataset in pipeline.datasets:
        delivered(dataset.name)
    deployed = deployed_seconds()
    names = ("ingest", "train", "monitor")
    bare = {n: [] for n in names}
    stage = {n: [] for n in names}
    for i in range(rounds):
        repo = f"bench-{i}-{os.getpid()}"
        lake.create_pipeline(repo)
        keys = make_keys(_named(repo), folder / f"home{i}" / "keys").folder
        bare["ingest"].append(timed(lambda: bare_ingest(bare_folder)))
        stage["ingest"].append(stage_ingest(lake, repo))
        frames = {
            d.name: pl.scan_parquet(bare_folder / f"{d.name}.parquet") for d in pipeline.datasets
        }
        bare["train"].append(timed(lambda f=frames: bare_train(f)))
        seconds, profile = stage_train(lake, repo, keys, folder / f"work{i}")
        stage["train"].append(seconds)
        predictions = served(frames)
        bare["monitor"].append(timed(lambda f=frames, p=predictions: bare_monitor(f, p)))
        stage["monitor"].append(
            timed(lambda r=repo, p=predictions, q=profile: stage_monitor(lake, r, p, q))
        )
    print(f"{'stage':8} {'bare s':>8} {'stage s':>8} {'ratio':>6}   deployed run, s (ratio)")
    for name in names:
        b, s = statistics.median(bare[name]), statistics.median(stage[name])
        extra = f"{deployed[name]:.2f} ({deployed[name] / b:.2f})" if name in deployed else "-"
        print(f"{name:8} {b:8.2f} {s:8.2f} {s / b:6.2f}   {extra}")


def bare_ingest(folder: Path) -> None:
    for name in (d.name for d in pipeline.datasets):
        parts = [pl.read_parquet(io.BytesIO(data)) for data in delivered(name)]
        key = list(pipeline.dataset(name).key)
        pl.concat(parts).unique(key, keep="first", maintain_order=True).write_parquet(
            folder / f"{name}.parquet", compression="zstd"
        )


def stage_ingest(lake: Lake, repo: str) -> float:
    for name in (d.name for d in pipeline.datasets):
        for month, data in zip(MONTHS, delivered(name), strict=True):
            deliver(lake, repo, name, f"2013-{month:02d}", {"part-0.parquet": data})
    renamed = _named(repo)
    begun = time.perf_counter()
    for batch in survey(lake, renamed, take_stock(lake, repo)).waiting:
        land(lake, renamed, batch)
    return time.perf_counter() - begun


def bare_train(frames: dict[str, pl.LazyFrame]) -> None:
    rows = training_frame(pipeline, frames, cutoff=CUTOFF)
    split = split_by_time(pipeline, rows, cutoff=CUTOFF)
    fitted = fit(pipeline, split.train)
    scored = split.holdout.with_columns(
        score=pl.Series(fitted.predict(split.holdout)), day=pl.col("at").dt.date()
    )
    performance(scored)


def stage_train(lake: Lake, repo: str, keys: Path, work: Path) -> tuple[float, bytes]:
    """Trainer, gatekeeper and releaser one after the other, in this process."""
    renamed, policy = _named(repo), Trusted.load(keys).policy
    for name in ("trainer", "gatekeeper"):
        (work / name).mkdir(mode=0o700, parents=True)
    begun = time.perf_counter()
    data = lake.pin(repo)
    frames = {d.name: tables.scan(lake, data, d.name) for d in pipeline.datasets}
    split = prepare_split(renamed, frames, cutoff=CUTOFF)
    fitted = fit(renamed, split.train)
    candidate = make_candidate(renamed, fitted, split)
    trained = Trained(
        run_id="0" * 64,
        pipeline=renamed,
        data={"data": data},
        data_sha256=manifests(lake, data, [d.name for d in pipeline.datasets]),
        branch="main",
        cutoff=CUTOFF,
        code=read_code(Path.cwd()),
        hyperparameters=fitted.hyperparameters,
        started=datetime.now(UTC),
        files=candidate.files,
        reason="bench",
    )
    trainer = read_signer(keys, "trainer")
    folder = sealed_candidate(trained, policy, signer=trainer, work=work / "trainer")
    put(lake, repo, trained.run_id, folder, details=Details(), inputs={"data": data})
    judge(lake, renamed, trained.run_id, keys, work / "gatekeeper")
    settings = Settings(root=Path.cwd(), home=keys.parent, lake_endpoint=None)
    register_candidate(Context(settings, lake, renamed), trained.run_id)
    return time.perf_counter() - begun, candidate.files[PROFILE]


def judge(lake: Lake, renamed: Pipeline, candidate: str, keys: Path, work: Path) -> None:
    policy = Trusted.load(keys).policy
    opened = open_candidate(
        lake,
        renamed,
        head(lake, renamed.name),
        candidate,
        policy=policy,
        recipient=read_recipient(keys, "gatekeeper"),
        work=work,
    )
    frames = {d.name: tables.scan(lake, opened.data, d.name) for d in renamed.datasets}
    split = prepare_split(renamed, frames, cutoff=opened.cutoff)
    evidence = measure_gates(renamed, Trial(opened, split, None))
    key = read_signer(keys, "gatekeeper")
    verdict, _ = sign_verdict(
        renamed, Trial(opened, split, None), evidence, policy=policy, signer=key
    )
    put_verdict(lake, renamed.name, candidate, verdict.files, details=Details(), inputs={})


def served(frames: dict[str, pl.LazyFrame]) -> pl.DataFrame:
    """A month of predictions by a model of the months before, as the service logs them."""
    start, end = month_bounds(3)
    fitted = fit(pipeline, training_frame(pipeline, frames, cutoff=start))
    rows = feature_frame(pipeline, frames, start=start, end=end).collect()
    return rows.with_columns(
        request_id=pl.lit("bench"),
        predicted_at=pl.col("at"),
        release=pl.lit("bench/1"),
        score=pl.Series(fitted.predict(rows)),
    )


def bare_monitor(frames: dict[str, pl.LazyFrame], predictions: pl.DataFrame) -> None:
    start, _ = month_bounds(3)
    challenger = fit(pipeline, training_frame(pipeline, frames, cutoff=start))
    labels = pipeline.labels(frames).select(pipeline.key, "label").collect()
    scored = predictions.join(labels, on=pipeline.key, how="left").with_columns(
        day=pl.col("at").dt.date(), challenger_score=pl.Series(challenger.predict(predictions))
    )
    performance(scored)
    performance(scored, score="challenger_score")


def stage_monitor(lake: Lake, repo: str, predictions: pl.DataFrame, profile: bytes) -> None:
    start, end = month_bounds(3)
    data = lake.pin(repo)
    frames = {d.name: tables.scan(lake, data, d.name) for d in pipeline.datasets}
    rules = MonitorRules(challenger_window=CUTOFF - month_bounds(1)[0])
    observed = observe(
        KnownData(pipeline, frames, predictions.lazy()),
        ReleaseWindow(pipeline.name, "bench/1", start, end),
        Profile.from_json(profile),
        rules,
    )
    decide(observed.evidence, rules)


def deployed_seconds() -> dict[str, float]:
    """Median run time of the deployed stages, from the Prefect server of `headrace up`."""
    body = {"limit": 200, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    try:
        with httpx.Client(base_url="http://127.0.0.1:4200/api", trust_env=False) as client:
            runs = client.post("/flow_runs/filter", json=body).json()
            flows = {f["id"]: f["name"] for f in client.post("/flows/filter", json={}).json()}
    except httpx.HTTPError:
        return {}
    found: dict[str, list[float]] = {}
    for run in runs:
        found.setdefault(flows[run["flow_id"]], []).append(run["total_run_time"])
    return {name: statistics.median(seconds) for name, seconds in found.items()}


@cache
def delivered(name: str) -> list[bytes]:
    parts = []
    for month in MONTHS:
        buffer = io.BytesIO()
        delivery(month)[name].write_parquet(buffer, compression="zstd")
        parts.append(buffer.getvalue())
    return parts


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def start_lake(folder: Path) -> tuple[subprocess.Popen[bytes], Lake]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "storage.embedded", "--root", str(folder / "lake"), "--port"]
    secrets = {"LAKEFS_ACCESS_KEY_ID": KEY, "LAKEFS_SECRET_ACCESS_KEY": SECRET}
    process = subprocess.Popen([*command, str(port)], env={**os.environ, **secrets})
    url = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{url}/api/v1/healthcheck", timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    return process, Lake(Access(url, KEY, SECRET))


def _named(repo: str) -> Pipeline:
    return replace(pipeline, name=repo)


if __name__ == "__main__":
    main()
