"""Small objects that make rows readable before their window is committed.

The key is `landing/<table>/exchange=<x>/<raw topic>-<partition>-<first raw offset>.parquet`. So a retry overwrites its
own object.
"""

import io
import logging
import re
import time
from collections import defaultdict
from collections.abc import Callable

import polars as pl

from coin_platform.errors import Conflict, Damaged
from coin_platform.lake.store import Store
from coin_platform.model import Microseconds

logger = logging.getLogger(__name__)

FOLDER = "landing"
SUFFIX = ".parquet"
CLAIM_SECONDS = 10.0  # between two claims: a claim for each of a few objects a second costs a third more requests
NAME = re.compile(rf"exchange=([^/]+)/(.+)-(\d+)-(\d{{1,18}}){re.escape(SUFFIX)}")


class LandingStore:
    """Keeps the landing objects of a lake."""

    def __init__(self, store: Store, claim: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`claim` raises `NotOwner` where this deployment may not write. It is called every `CLAIM_SECONDS` at most."""
        self._store = store
        self._claim, self._clock = claim, clock
        self._claimed: float | None = None

    def put(self, table: str, exchange: str, name: str, rows: pl.DataFrame) -> str:
        """Store rows of one raw partition under `name`, and return the key. Raises `NotOwner`.

        An object of that name is replaced: it holds the same rows.
        """
        self._claim_now_and_then()
        file = io.BytesIO()
        rows.write_parquet(file, compression="zstd", compression_level=3, statistics=True)
        key = f"{FOLDER}/{table}/exchange={exchange}/{name}{SUFFIX}"
        while True:
            stored = self._store.get(key, 1)
            try:
                self._store.put(key, file.getvalue(), stored.etag if stored else None)
                return key
            except Conflict:  # a worker that was thought dead stores the same rows
                continue

    def keys(self, table: str) -> dict[str, list[str]]:
        """Return the objects of each exchange, in the order of their offsets."""
        objects: defaultdict[str, list[tuple[str, str, int, str]]] = defaultdict(list)
        prefix = f"{FOLDER}/{table}/"
        for key in self._store.list(prefix):
            if match := NAME.fullmatch(key.removeprefix(prefix)):
                exchange, topic, partition, offset = match.groups()
                objects[exchange].append((topic, partition, int(offset), key))
        return {exchange: [key for *_, key in sorted(items)] for exchange, items in objects.items()}

    def times(self, key: str) -> set[Microseconds] | None:
        """Return the log times (µs) of the rows of an object; `None` when it is gone, or damaged, which is logged."""
        try:
            rows = self.read(key)
            return None if rows is None else times_of(rows)
        except Damaged as error:
            logger.warning("%s", error)
            return None

    def holds(self, key: str) -> bool:
        """Return whether a key of the lake belongs to a landing object."""
        return key.startswith(f"{FOLDER}/")

    def read(self, key: str) -> pl.DataFrame | None:
        """Return the rows of an object; `None` when it is gone. Raises `Damaged`."""
        stored = self._store.get(key)
        if stored is None:
            return None
        try:
            rows = pl.read_parquet(io.BytesIO(stored.data))
            if not isinstance(rows.schema.get("log_time"), pl.Datetime):
                raise ValueError("no column log_time")
        except (Exception, pl.exceptions.PanicException) as error:
            reason = " ".join(str(error).split())[:200]
            raise Damaged(
                f"{self._store.uri(key)} is damaged ({reason}): remove it, its rows are in the table of their window "
                "once that is made"
            ) from error
        return rows

    def delete(self, key: str) -> None:
        """Remove an object whose rows are in a committed window."""
        self._claim_now_and_then()
        self._store.delete(key)

    def _claim_now_and_then(self) -> None:
        if self._claimed is None or self._clock() - self._claimed >= CLAIM_SECONDS:
            self._claim()
            self._claimed = self._clock()


def times_of(rows: pl.DataFrame) -> set[Microseconds]:
    """Return the log times (µs) of rows."""
    return set(rows["log_time"].unique().to_physical().to_list())


def parted(key: str) -> tuple[str, int]:
    """Split a key into the part that all keys of a raw partition share, and the first raw offset. That saves memory."""
    common, _, first = key.removesuffix(SUFFIX).rpartition("-")
    return common, int(first)


def key_of(common: str, first: int) -> str:
    """Return the key that `parted` has split."""
    return f"{common}-{first}{SUFFIX}"
