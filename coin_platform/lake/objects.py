"""Committed objects: read whole, or by their footer alone. A damaged object is an error that names its remedy."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import polars as pl

from coin_platform.errors import Damaged, LakeError
from coin_platform.lake.layout import Layout
from coin_platform.lake.parquet import Broken, NotOurs, decode, facts_of
from coin_platform.lake.store import Store, Stored
from coin_platform.times import minute_text

logger = logging.getLogger(__name__)

_FOOTER_BYTES = 64 << 10  # the footers of all but the largest windows are shorter


class StoredWindow(NamedTuple):
    """The rows of a window, and the facts of its footer."""

    rows: pl.DataFrame
    facts: dict[str, Any]


class Version(NamedTuple):
    """A committed object as the store has it, and the facts of its footer: none where the footer is damaged."""

    stored: Stored
    facts: dict[str, Any]

    @property
    def generation(self) -> int:
        """How often the window was committed with other content, from 1 on; 0 where the footer is damaged."""
        return int(self.facts.get("generation", 0))

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Return whether the object has the content hash of `facts`."""
        return bool(self.facts.get("content_hash") == facts["content_hash"])


class WindowObjects:
    """Reads committed objects by their keys."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store, self._layout = store, layout

    def version(self, key: str) -> Version | None:
        """Read an object's footer only; `None` when there is no object. Raises `Damaged`."""
        stored = self._store.get(key, _FOOTER_BYTES)
        if stored is None:
            return None
        size = int.from_bytes(stored.data[-8:-4], "little") + 8
        if len(stored.data) < size <= stored.size:
            stored = self._store.get(key, size) or stored
        try:
            return Version(stored, facts_of(stored.data))
        except (Broken, NotOurs):
            stored = self._store.get(key) or stored  # the first bytes tell whether this lake wrote the object
        with self._readable(key):
            return Version(stored, facts_of(stored.data))

    def version_or_damaged(self, key: str) -> Version | None:
        """Return what `version` does, and a version without facts for a damaged object."""
        try:
            return self.version(key)
        except Damaged:
            stored = self._store.get(key, 1)
            return None if stored is None else Version(stored, {})

    def load(self, key: str) -> StoredWindow | None:
        """Read a whole object and compare its content with its hash. Raises `Damaged` where they differ."""
        stored = self._store.get(key)
        if stored is None:
            return None
        with self._readable(key):
            return StoredWindow(*decode(stored.data))

    def is_sound(self, key: str) -> bool:
        """Return whether an object still holds what its footer says."""
        try:
            return self.load(key) is not None
        except Damaged as error:
            logger.warning("%s; it is written again", error)
            return False

    def remedy(self, key: str) -> str:
        """Return how a damaged object is made again."""
        table, _, path = key.partition("/")
        window, exchange = self._layout.window_of(path)
        if window is None:
            return "remove it"
        again = f"coin lake backfill --from {minute_text(window.start)} --to {minute_text(window.stop)} --table {table}"
        return f"make it again while the records are kept, or put it back from a backup: {again}" + (
            f" --exchange {exchange}" if exchange else ""
        )

    @contextmanager
    def _readable(self, key: str) -> Iterator[None]:
        try:
            yield
        except Broken as error:
            raise Damaged(f"{self._store.uri(key)} is damaged ({error}): {self.remedy(key)}") from error
        except NotOurs as error:
            raise LakeError(f"{self._store.uri(key)} was not written by this lake ({error}): move it away") from error
