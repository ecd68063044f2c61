"""Rows and facts as one Parquet file, and the hash of its content."""

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import polars as pl

ROW_GROUP_ROWS = 50_000  # small enough to be skipped by a filter, large enough to compress well
UNHASHED = frozenset(("content_hash", "code", "code_version", "generation"))  # these facts do not belong to the content
FACTS, FACTS_HASH = "coin", "coin_sha256"  # keys of the footer; former versions wrote no hash
_MAGIC = b"PAR1"  # a Parquet file begins and ends with it
_REQUIRED_FACTS = frozenset(("content_hash", "generation", "rows"))


class NotOurs(Exception):
    """The bytes are not a Parquet file of this lake."""


class Broken(Exception):
    """The bytes are a Parquet file that cannot be read, or that holds other values than were stored."""


def encode(rows: pl.DataFrame, facts: dict[str, Any]) -> bytes:
    """Return the Parquet file. The same arguments give the same bytes in one version of polars."""
    file, text = io.BytesIO(), json.dumps(facts, sort_keys=True, default=str)
    rows.write_parquet(
        file,
        compression="zstd",
        compression_level=3,
        statistics=True,
        row_group_size=ROW_GROUP_ROWS,
        metadata={FACTS: text, FACTS_HASH: _sha256(text)},
    )
    return file.getvalue()


def facts_of(data: bytes) -> dict[str, Any]:
    """Return the facts of a file. The file's end is enough. Raises `NotOurs` and `Broken`."""
    try:
        metadata = pl.read_parquet_metadata(io.BytesIO(data))
    except (Exception, pl.exceptions.PanicException) as error:  # polars answers damaged bytes with many types
        raise (Broken if _MAGIC in (data[:4], data[-4:]) else NotOurs)(_line(error)) from error
    if FACTS not in metadata:
        raise NotOurs("a Parquet file without our facts")
    if metadata.get(FACTS_HASH, facts_hash := _sha256(metadata[FACTS])) != facts_hash:
        raise Broken("its facts are not those that were stored")
    try:
        facts = json.loads(metadata[FACTS])
    except ValueError as error:
        raise Broken(f"its facts cannot be read: {_line(error)}") from error
    if not isinstance(facts, dict) or not facts.keys() >= _REQUIRED_FACTS:
        raise Broken("its facts are not complete")
    return facts


def decode(data: bytes) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return rows and facts of a whole file, after a look at its hash. Raises `NotOurs` and `Broken`."""
    facts = facts_of(data)
    try:
        rows = pl.read_parquet(io.BytesIO(data))
        rows_hash = content_hash(rows, {name: value for name, value in facts.items() if name not in UNHASHED})
    except (Exception, pl.exceptions.PanicException) as error:
        raise Broken(_line(error)) from error
    if rows_hash != facts["content_hash"]:
        raise Broken("its values are not those that were stored")
    return rows, facts


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def content_hash(rows: pl.DataFrame, facts: dict[str, Any]) -> str:
    """Return the SHA-256 of the facts and of every value. Unlike the file's bytes, it is equal in every polars."""
    hasher = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, dtype in rows.schema.items():
        hasher.update(f"\n{name} {dtype}\n".encode())
        for part in _values(rows[name]):
            hasher.update(part)
    return hasher.hexdigest()


def _values(column: pl.Series) -> Iterator[bytes]:
    """Yield a column as bytes that no other column has: which values are null, then lengths, then values."""
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
