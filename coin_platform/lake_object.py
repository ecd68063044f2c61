"""One object of the lake: rows and facts as a Parquet file, and the hash that says whether two hold the same."""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import polars as pl

ROW_GROUP = 50_000


def encode(rows: pl.DataFrame, facts: dict[str, Any]) -> bytes:
    """Return the Parquet file: the same bytes for the same arguments and version of polars."""
    file = io.BytesIO()
    rows.write_parquet(
        file,
        compression="zstd",
        compression_level=3,
        statistics=True,
        row_group_size=ROW_GROUP,
        metadata={"coin": json.dumps(facts, sort_keys=True, default=str)},
    )
    return file.getvalue()


def content_hash(rows: pl.DataFrame, facts: dict[str, Any]) -> str:
    """Return the sha256 of the facts and of every value: equal in every version of polars, unlike the file's bytes."""
    hasher = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, dtype in rows.schema.items():
        hasher.update(f"\n{name} {dtype}\n".encode())
        for part in _values(rows[name]):
            hasher.update(part)
    return hasher.hexdigest()


def _values(column: pl.Series) -> Iterator[bytes]:
    """Yield a column as bytes that can be mistaken for no other column's: which are null, lengths, values."""
    dtype = column.dtype
    yield column.is_null().cast(pl.UInt8).to_numpy().tobytes()
    if isinstance(dtype, pl.List):
        lengths = column.list.len().fill_null(0)
        yield lengths.to_numpy().tobytes()
        yield from _values(column.filter(lengths > 0).explode())
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _values(column.struct.field(field.name))
    elif dtype == pl.Binary:
        yield column.bin.size().fill_null(0).to_numpy().tobytes()
        yield b"".join(column.drop_nulls())
    elif dtype.is_temporal() or dtype.is_float() or dtype.is_integer() or dtype == pl.Boolean:
        yield column.to_physical().drop_nulls().to_numpy().tobytes()
    else:
        yield from _values(column.cast(pl.String).cast(pl.Binary))
