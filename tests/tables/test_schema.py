"""The key of a table: a later row replaces an earlier one."""

from datetime import UTC, datetime

import polars as pl

from coin_platform.tables import schema
from tests.kit.log import TIME


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(TIME / 1e6 + seconds, UTC)


def test_a_gap_is_read_as_it_was_last_told() -> None:
    rows = [("A-B", 1, None), ("A-C", 1, 2), ("A-B", 1, 9)]
    values = [
        ("ticker", pair, at(start), None if stop is None else at(stop), "killed", "why", None, at(n), "t", 0, n)
        for n, (pair, start, stop) in enumerate(rows)
    ]
    told = pl.DataFrame(values, schema=schema.GAP, orient="row")
    found = schema.latest("gap", told.lazy()).collect()
    assert found.select("pair", "to").rows() == [("A-B", at(9)), ("A-C", at(2))]


def test_a_key_is_made_of_columns_of_its_table() -> None:
    for table, key in schema.KEYS.items():
        assert set(key) <= set(schema.TABLES[table].names())
    for table, span in schema.SPANS.items():
        assert set(span) <= set(schema.TABLES[table].names())


def test_rows_of_a_table_without_a_key_all_stay() -> None:
    rows = pl.DataFrame({"pair": ["A-B", "A-B"], "offset": [1, 1]})
    assert schema.latest("trade", rows.lazy()).collect().equals(rows)
