"""A table that is made of other tables of its window, and is committed only if those did not change meanwhile."""

from typing import Any

import dagster as dg
import polars as pl

from coin_platform.errors import Conflict
from coin_platform.exchanges.base import Exchange
from coin_platform.lake import Commit, Lake
from coin_platform.lake.lake import RAW_PREFIX
from coin_platform.lake.objects import StoredWindow
from coin_platform.model import Window


class Derivation:
    """One table of one window while it is made: which tables were read for it."""

    def __init__(self, lake: Lake, table: str, exchange: Exchange, window: Window) -> None:
        self._lake, self._table, self._exchange, self._window = lake, table, exchange.name, window
        self._generation = lake.generation(table, exchange.name, window)
        self._content_hashes: dict[str, str] = {}  # of the tables that were read

    @property
    def raw_content_hashes(self) -> dict[str, str]:
        """The content hashes of the raw tables that were read, by table."""
        return {table: value for table, value in self._content_hashes.items() if table.startswith(RAW_PREFIX)}

    def load(self, table: str) -> StoredWindow:
        """Return another table of the window. Raises `dg.Failure` if it is not made, and `Damaged`."""
        held = self._lake.load(table, self._exchange, self._window)
        if held is None:
            raise self._missing(table)
        self._note(table, held.facts)
        return held

    def facts(self, table: str) -> dict[str, Any]:
        """Return the footer of another table of the window. Raises as `load` does."""
        facts = self._lake.provenance(table, self._exchange, self._window)
        if facts is None:
            raise self._missing(table)
        self._note(table, facts)
        return facts

    def commit(self, rows: pl.DataFrame, facts: dict[str, Any], code_version: str | None = None) -> Commit:
        """Commit the table. Raises `Conflict` if it, or a table that was read for it, was made again meanwhile."""
        for table, content_hash in self._content_hashes.items():
            stored_facts = self._lake.provenance(table, self._exchange, self._window) or {}
            if stored_facts.get("content_hash") != content_hash:
                raise Conflict(
                    f"{self._lake.uri(self._table, self._exchange, self._window)}: {table} was made again meanwhile; "
                    "compute again and retry"
                )
        return self._lake.commit(
            self._table,
            self._exchange,
            self._window,
            rows,
            facts,
            generation=self._generation,
            code_version=code_version,
        )

    def _note(self, table: str, facts: dict[str, Any]) -> None:
        """Remember a table that was read. Raises `dg.Failure` if it was made of other raw records than are stored."""
        made_of, raw = facts.get("raw_content_hash"), self._content_hashes.get(f"{RAW_PREFIX}{table}")
        if made_of is not None and raw is not None and made_of != raw:
            raise dg.Failure(
                f"{self._lake.uri(table, self._exchange, self._window)} was made of other raw records than are stored: "
                "materialise it first"
            )
        self._content_hashes[table] = facts["content_hash"]

    def _missing(self, table: str) -> dg.Failure:
        return dg.Failure(f"{table} of {self._exchange} has no such window yet: materialise it first")
