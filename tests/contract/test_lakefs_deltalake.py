"""Delta tables through delta-rs and polars, over S3 and over delta-rs's own lakefs:// scheme."""

from concurrent.futures import ThreadPoolExecutor

import polars as pl
from deltalake import DeltaTable, write_deltalake

ROWS = pl.DataFrame({"id": [1, 2, 3], "value": ["a", "b", "c"]})
MORE = pl.DataFrame({"id": [4], "value": ["d"]})


def test_a_table_is_written_appended_to_and_read_at_each_commit(endpoint, rest):
    rest.branch("work")
    uri, options = f"s3://{rest.repository}/work/tables/t", endpoint.storage_options
    write_deltalake(uri, ROWS, storage_options=options)
    first = rest.commit("work", "first")
    write_deltalake(uri, MORE, mode="append", storage_options=options)
    second = rest.commit("work", "second")
    assert rest.merge("work", "main").status_code == 200

    def at(ref: str) -> list[int]:
        path = f"s3://{rest.repository}/{ref}/tables/t"
        return sorted(pl.scan_delta(path, storage_options=options).collect()["id"])

    assert at(first) == [1, 2, 3]
    assert at(second) == [1, 2, 3, 4]
    assert at("main") == [1, 2, 3, 4]


def test_a_merge_by_key_updates_and_inserts(endpoint, rest):
    uri, options = f"s3://{rest.repository}/main/tables/t", endpoint.storage_options
    write_deltalake(uri, ROWS, storage_options=options)
    table = DeltaTable(uri, storage_options=options)
    source = pl.DataFrame({"id": [3, 5], "value": ["C", "e"]})
    outcome = (
        table.merge(source, predicate="t.id = s.id", source_alias="s", target_alias="t")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )
    assert (outcome["num_target_rows_updated"], outcome["num_target_rows_inserted"]) == (1, 1)
    found = pl.scan_delta(uri, storage_options=options).sort("id").collect()
    assert found.rows() == [(1, "a"), (2, "b"), (3, "C"), (5, "e")]


def test_old_versions_of_a_table_stay_readable(endpoint, rest):
    uri, options = f"s3://{rest.repository}/main/tables/t", endpoint.storage_options
    write_deltalake(uri, ROWS, storage_options=options)
    write_deltalake(uri, MORE, mode="overwrite", storage_options=options)
    now = pl.scan_delta(uri, storage_options=options).collect()
    before = pl.scan_delta(uri, version=0, storage_options=options).collect()
    assert sorted(now["id"]) == [4]
    assert sorted(before["id"]) == [1, 2, 3]


def test_put_if_absent_lets_every_concurrent_append_land_once(endpoint, rest):
    uri, options = f"s3://{rest.repository}/main/tables/t", endpoint.storage_options
    write_deltalake(uri, ROWS, storage_options=options)

    def append(number: int) -> None:
        row = pl.DataFrame({"id": [number], "value": ["w"]})
        write_deltalake(uri, row, mode="append", storage_options=options)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(10, 18)))
    found = pl.scan_delta(uri, storage_options=options).collect()
    assert sorted(found["id"]) == [1, 2, 3, *range(10, 18)]
    assert DeltaTable(uri, storage_options=options).version() == 8


def test_two_branches_that_append_to_one_table_conflict(endpoint, rest):
    options = endpoint.storage_options
    write_deltalake(f"s3://{rest.repository}/main/t", ROWS, storage_options=options)
    rest.commit("main")
    for branch in ("one", "two"):
        rest.branch(branch)
        uri = f"s3://{rest.repository}/{branch}/t"
        write_deltalake(uri, MORE, mode="append", storage_options=options)
        rest.commit(branch)
    assert rest.merge("one", "main").status_code == 200
    assert rest.merge("two", "main").status_code == 409
    found = pl.scan_delta(f"s3://{rest.repository}/main/t", storage_options=options).collect()
    assert sorted(found["id"]) == [1, 2, 3, 4]


def test_the_lakefs_scheme_of_delta_rs_writes_and_reads(endpoint, rest):
    uri = f"lakefs://{rest.repository}/main/tables/t"
    options = {
        "endpoint": endpoint.url,
        "access_key_id": endpoint.key_id,
        "secret_access_key": endpoint.secret,
        "allow_http": "true",
    }
    write_deltalake(uri, ROWS, storage_options=options)
    write_deltalake(uri, MORE, mode="append", storage_options=options)
    table = DeltaTable(uri, storage_options=options)
    assert table.version() == 1
    over_s3 = f"s3://{rest.repository}/main/tables/t"
    found = pl.scan_delta(over_s3, storage_options=endpoint.storage_options).collect()
    assert sorted(found["id"]) == [1, 2, 3, 4]
