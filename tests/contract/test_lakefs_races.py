"""Many at once: one winner for a key, and every run of eight writers lands once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import boto3
import httpx
import polars as pl
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from storage import tables
from storage.lake import Lake
from storage.runs import Job, Run, commit_once, records

RACES = [
    pytest.param(8, 5, id="8x5"),
    pytest.param(64, 200, id="64x200", marks=pytest.mark.long),
]
ROUNDS = [1, pytest.param(10, marks=pytest.mark.long)]
WRITERS = 8
Attempt = Callable[[str, bytes], bool]


@pytest.mark.parametrize(("racers", "keys"), RACES)
def test_a_key_that_many_put_if_absent_has_one_winner(endpoint, rest, racers, keys):
    """Half of them come over REST, half over S3; every key is a race that all begin together."""
    start = threading.Barrier(racers, timeout=120)
    attempts = [over_rest(endpoint, rest) if n % 2 else over_s3(endpoint, rest) for n in range(2)]

    def race(racer: int) -> list[str]:
        won = []
        for key in (f"race/{number}" for number in range(keys)):
            start.wait()
            if attempts[racer % 2](key, b"%d" % racer):
                won.append(key)
        return won

    with ThreadPoolExecutor(racers) as pool:
        winners = list(pool.map(race, range(racers)))
    kept = {key: b"%d" % racer for racer, won in enumerate(winners) for key in won}
    assert sum(len(won) for won in winners) == len(kept) == keys
    assert {key: rest.content("main", key) for key in kept} == kept


def over_rest(endpoint, rest) -> Attempt:
    limits = httpx.Limits(max_connections=64)
    http = httpx.Client(auth=(endpoint.key_id, endpoint.secret), timeout=120, limits=limits)
    url = f"{endpoint.url}/api/v1/repositories/{rest.repository}/branches/main/objects"

    def attempt(key: str, content: bytes) -> bool:
        absent = {"If-None-Match": "*"}
        done = http.post(url, params={"path": key}, content=content, headers=absent)
        assert done.status_code in (201, 412), done.text
        return done.status_code == 201

    return attempt


def over_s3(endpoint, rest) -> Attempt:
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint.url,
        aws_access_key_id=endpoint.key_id,
        aws_secret_access_key=endpoint.secret,
        region_name="us-east-1",
        config=Config(
            s3={"addressing_style": "path"},
            retries={"max_attempts": 1},
            max_pool_connections=64,
            read_timeout=120,
        ),
    )

    def attempt(key: str, content: bytes) -> bool:
        try:
            s3.put_object(Bucket=rest.repository, Key=f"main/{key}", Body=content, IfNoneMatch="*")
        except ClientError as refusal:
            if refusal.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                raise
            return False
        return True

    return attempt


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("table", ["one", "each"])
def test_what_eight_writers_write_lands_once(lake: Lake, repo: str, table: str, rounds: int):
    """Into one table, where all but one must write again, or into a table of each."""

    def name_of(writer: int) -> str:
        return "shared" if table == "one" else f"own_{writer}"

    def write(key: int) -> None:
        run_once(lake, repo, name_of(key % WRITERS), key)

    for number in range(rounds):
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(number * WRITERS, (number + 1) * WRITERS)))
    pin = lake.pin(repo)
    names = {name_of(writer) for writer in range(WRITERS)}
    found = [tables.scan(lake, pin, name).collect()["key"].to_list() for name in names]
    assert sorted(key for keys in found for key in keys) == list(range(WRITERS * rounds))
    assert len(records.at(lake, pin)) == WRITERS * rounds


def run_once(lake: Lake, repo: str, table: str, key: int) -> None:
    def body(run: Run) -> None:
        run.append(table, pl.DataFrame({"key": [key]}))

    run_id = records.run_id("ingest", str(key))
    assert not commit_once(lake, Job(repo, "ingest", run_id), body).already
