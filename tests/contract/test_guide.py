"""The clients' part of docs/guides/lakefs.md, run as it stands against a server process."""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import polars as pl
import pytest
from deltalake import write_deltalake

GUIDE = Path(__file__).parents[2] / "docs/guides/lakefs.md"
ADDRESS = "http://127.0.0.1:8470"


def blocks(language: str) -> list[str]:
    clients = GUIDE.read_text().partition("## Clients")[2].partition("## Keys")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", clients, re.M | re.S)


@pytest.fixture
def flights(http, endpoint):
    """The repository that the guide speaks of, with a table and the branches it writes on."""
    # A real lakeFS takes a namespace once, even when its repository is gone.
    namespace = f"local://guide-{uuid.uuid4().hex[:12]}"
    made = http.post("/repositories", json={"name": "flights", "storage_namespace": namespace})
    if made.status_code == 409:
        pytest.skip("this lakeFS has a repository flights already")
    assert made.status_code == 201, made.text
    rows = pl.DataFrame({"id": [1, 2, 3], "delay_min": [0.0, 5.5, -3.0]})
    uri = "s3://flights/main/tables/flights"
    write_deltalake(uri, rows, storage_options=endpoint.storage_options)
    http.post("/repositories/flights/branches/main/commits", json={"message": "flights"})
    for name in ("mine", "theirs"):
        http.post("/repositories/flights/branches", json={"name": name, "source": "main"})
    yield rows
    http.delete("/repositories/flights")


def run(code: str, endpoint, folder: Path) -> str:
    (folder / ".headrace").mkdir(exist_ok=True)
    key = {"access_key_id": endpoint.key_id, "secret_access_key": endpoint.secret}
    (folder / ".headrace/lake-credentials.json").write_text(json.dumps(key))
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_guides_python_runs_from_top_to_bottom(flights, endpoint, tmp_path):
    code = "\n".join(blocks("python"))
    assert ADDRESS in code
    checks = """
assert table.version() >= 1
assert pl.read_delta(mine, storage_options=options).height == 5
assert pl.read_delta(theirs, storage_options=lakefs_options).height == 5
assert flights.collect().height == 3
print("URL", url)
"""
    told = run(code.replace(ADDRESS, endpoint.url) + checks, endpoint, tmp_path)
    url = told.rpartition("URL ")[2].strip()
    assert httpx.get(url).content == b"fog in the morning"


def test_the_guides_sql_runs(flights, endpoint, tmp_path):
    pytest.importorskip("duckdb")
    (sql,) = blocks("sql")
    sql = sql.replace("127.0.0.1:8470", endpoint.url.removeprefix("http://"))
    sql = sql.replace("'AKIA…'", f"'{endpoint.key_id}'").replace("'…'", f"'{endpoint.secret}'")
    code = f"""
import duckdb
from pathlib import Path
import duckdb_extension_httpfs
(extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension")
session = duckdb.connect(config={{"allow_unsigned_extensions": "true"}})
session.execute(f"LOAD '{{extension}}'")
print(session.execute({sql!r}).fetchone()[0])
"""
    assert int(run(code, endpoint, tmp_path)) == 3
