"""The prediction service beside a bare FastAPI application: `python bench/serving.py`.

Both run uvicorn with one worker and the same protocol implementation, and score the same trees on
the same bodies. The bare one parses JSON, fills a matrix, scores and answers; it checks nothing,
names no release, counts nothing and logs nothing. The service does all of that and writes every
row to its spool, from where a thread delivers it to an embedded lake during the run.
Needs wrk. Rounds alternate between the two, so that other load on the machine hits both.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CATEGORICAL = {"carrier": 16, "origin": 3, "dest": 100}
NUMBERS = [f"number_{i:02d}" for i in range(23)]
KEY, SECRET = "AKIAHEADRACEBENCH", secrets.token_hex(16)
LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = io.open({body!r}):read("*a")
"""


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    connections: int


CASES = (Case("1 row, c=1", 1, 1), Case("1 row, c=16", 1, 16), Case("500 rows, c=1", 500, 1))


@dataclass(frozen=True)
class Result:
    per_s: float
    p50_ms: float
    p99_ms: float


def rows(count: int) -> list[dict[str, object]]:
    import random

    pick = random.Random(7)
    return [
        {name: f"{name}-{pick.randrange(size)}" for name, size in CATEGORICAL.items()}
        | {name: round(pick.gauss(0, 1), 4) for name in NUMBERS}
        for _ in range(count)
    ]


def make_model(folder: Path) -> None:
    """Trees as large as the example pipeline's, on made-up numbers."""
    import numpy as np
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import HistGradientBoostingClassifier

    source = np.random.default_rng(7)
    x = source.normal(size=(20_000, len(CATEGORICAL) + len(NUMBERS))).astype(np.float32)
    y = (x[:, 3] + x[:, 7] * x[:, 9] + source.normal(size=len(x)) > 1).astype(int)
    trees = HistGradientBoostingClassifier(max_iter=120, min_samples_leaf=60, early_stopping=False)
    model = convert_sklearn(
        trees.fit(x, y),
        initial_types=[("features", FloatTensorType([None, x.shape[1]]))],
        options={"zipmap": False},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    encoding = {
        "format": "headrace-encoding/v1",
        "features": [*CATEGORICAL, *NUMBERS],
        "categories": {n: [f"{n}-{i}" for i in range(size)] for n, size in CATEGORICAL.items()},
    }
    (folder / "encoding.json").write_text(json.dumps(encoding))


def serve_bare(folder: Path, port: int) -> None:
    """What one writes in ten minutes."""
    import numpy as np
    import onnxruntime
    import uvicorn
    from fastapi import FastAPI, Request

    encoding = json.loads((folder / "encoding.json").read_bytes())
    features, names = encoding["features"], encoding["categories"]
    codes = {n: {c: float(i) for i, c in enumerate(known)} for n, known in names.items()}
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), _single_thread())
    app = FastAPI()

    @app.post("/invocations")
    async def invocations(request: Request) -> dict[str, list[float]]:
        records = (await request.json())["dataframe_records"]
        matrix = np.array(
            [
                [codes[n].get(row[n], np.nan) if n in codes else row[n] for n in features]
                for row in records
            ],
            dtype=np.float32,
        )
        scores = session.run(["probabilities"], {"features": matrix})[0][:, 1]
        return {"predictions": scores.tolist()}

    uvicorn.run(app, port=port, http="h11", access_log=False, log_level="warning")


def serve_headrace(folder: Path, port: int) -> None:
    """The service itself; only verification is skipped, which is not on a request's way."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    import onnxruntime

    from flows.service.__main__ import listen
    from flows.service.assembly import PredictionService, ServedEnvironment
    from flows.service.http.limits import RequestLimits
    from flows.service.models.encode import read_encoding
    from flows.service.models.model import ServedModel
    from flows.service.models.state import LoadedIndex
    from flows.service.predictions.spool import SpoolLimits
    from security.policy.key_homes import init_keys
    from security.release.index import NamedRelease
    from storage.lake import Lake
    from storage.lake.client import Access

    lake = Lake(Access(os.environ["LAKEFS_ENDPOINT"], KEY, SECRET))
    lake.create_pipeline("bench")
    init_keys(folder / "keys")
    served = ServedEnvironment("bench", "trip", "bench", folder / "keys", folder / "service")
    service = PredictionService(lake, served, limits=RequestLimits(), spool_limits=SpoolLimits())
    model = ServedModel(
        NamedRelease("bench", 1, "0" * 64, "models/bench/1"),
        read_encoding((folder / "encoding.json").read_bytes()),
        key="trip",
        session=onnxruntime.InferenceSession(str(folder / "model.onnx"), _single_thread()),
    )
    model.columns = service.spool.declare(model.list_spool_columns())
    service.serving.swap(LoadedIndex(1, "0" * 64, model))
    service.run(listen("127.0.0.1", port))


def _single_thread() -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


@contextmanager
def running(*command: str, ready: str, **environment: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        _wait(ready, process)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{url} ended with {process.returncode}") from None
            time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer")


def load(url: str, script: Path, case: Case, seconds: int) -> Result:
    """One run of wrk. Raises RuntimeError if any answer was not a 200."""
    options = ("-t1", f"-c{case.connections}", f"-d{seconds}s", "--latency", "-s", str(script))
    command = ["wrk", *options, f"{url}/invocations"]
    done = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise RuntimeError(done)
    return Result(float(_found(r"Requests/sec:\s+(\S+)", done)), _ms("50%", done), _ms("99%", done))


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(text)
    return match[1]


def _ms(percentile: str, text: str) -> float:
    value = _found(rf"\s{percentile}\s+(\S+)", text)
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", value).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def compare(folder: Path, *, seconds: int, rounds: int) -> None:
    ports = {"lake": 18471, "bare": 18472, "headrace": 18473}
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    make_model(folder)
    scripts = {}
    for count in {case.rows for case in CASES}:
        body, scripts[count] = folder / f"{count}.json", folder / f"{count}.lua"
        body.write_text(json.dumps({"dataframe_records": rows(count)}))
        scripts[count].write_text(LUA.format(body=str(body)))
    lake = ("-m", "storage.embedded", "--root", str(folder / "lake"), "--port", str(ports["lake"]))
    key = {"LAKEFS_ACCESS_KEY_ID": KEY, "LAKEFS_SECRET_ACCESS_KEY": SECRET}
    me = str(Path(__file__))
    with (
        running(*lake, ready=f"{at['lake']}/api/v1/healthcheck", **key),
        running(me, "bare", str(folder), str(ports["bare"]), ready=f"{at['bare']}/openapi.json"),
        running(
            me,
            "headrace",
            str(folder),
            str(ports["headrace"]),
            ready=f"{at['headrace']}/v2/health/ready",
            BENCH_SECRET=SECRET,
            LAKEFS_ENDPOINT=at["lake"],
        ),
    ):
        for case in CASES:
            report(case, at, scripts[case.rows], seconds=seconds, rounds=rounds)
        with urllib.request.urlopen(f"{at['headrace']}/status") as reply:
            print("predictions:", json.load(reply)["predictions"])


def report(case: Case, at: dict[str, str], script: Path, *, seconds: int, rounds: int) -> None:
    results: dict[str, list[Result]] = {"bare": [], "headrace": []}
    for who in results:
        load(at[who], script, case, 1)
    for _ in range(rounds):
        for who, found in results.items():
            found.append(load(at[who], script, case, seconds))
    medians = {
        who: [
            statistics.median(getattr(r, field) for r in found) for field in Result.__annotations__
        ]
        for who, found in results.items()
    }
    for who, (per_s, p50, p99) in medians.items():
        print(f"{case.name:14} {who:9} {per_s:8.0f}/s  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms")
    (bare, *_), (own, *_) = medians["bare"], medians["headrace"]
    print(f"{case.name:14} headrace / bare = {own / bare:.2f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="length of one run of wrk")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median counts")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        print(
            "wrk is not installed.\nInstall it with the system's package manager.", file=sys.stderr
        )
        return 1
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), seconds=given.seconds, rounds=given.rounds)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        serve_bare(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["headrace"]:
        SECRET = os.environ["BENCH_SECRET"]
        serve_headrace(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
