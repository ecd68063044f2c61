"""Windows of tables: committed whole or not at all, read, listed and scanned."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from coin_platform import __version__
from coin_platform.errors import Conflict, Damaged, SettingsError, Smaller
from coin_platform.lake.deployment import Deployment, deployment_of
from coin_platform.lake.folder import FolderStore
from coin_platform.lake.lake_file import LakeFile
from coin_platform.lake.landing import LandingStore
from coin_platform.lake.layout import Layout, iso_text
from coin_platform.lake.objects import StoredWindow, Version, WindowObjects
from coin_platform.lake.parquet import UNHASHED, content_hash, encode
from coin_platform.lake.scan import LATEST, Scanner
from coin_platform.lake.store import Store, digest
from coin_platform.model import Microseconds, Pair, Window
from coin_platform.settings import Settings, load

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RAW_PREFIX = "raw_"  # of the tables that only a topic can make again
OWN_FACTS = frozenset(("table", "exchange", "window_start", "window_stop", "rows", "schema", *UNHASHED))


class Commit(NamedTuple):
    """The object of a window after a commit. `changed` is false when it had the same content before."""

    key: str
    uri: str
    rows: int
    bytes: int
    generation: int
    sha256: str
    content_hash: str
    changed: bool


class StoredSize(NamedTuple):
    """How large one window of a table is, as `Lake.contents` lists it."""

    exchange: str | None
    window: Window
    rows: int
    bytes: int


class Lake:
    """Tables of one object for each window (of `window` µs) of each exchange."""

    def __init__(
        self,
        store: Store,
        window: Microseconds,
        *,
        deployment: Callable[[], Deployment] | None = None,
        replaces_smaller: bool = False,
    ) -> None:
        """Open the lake in a store.

        `deployment` returns this deployment. It is asked before a write, because a lake names its only writer.
        `replaces_smaller` lets `commit` replace a raw window by one with fewer records.
        """
        self.window = window
        self.replaces_smaller = replaces_smaller
        self.file = LakeFile(store, window, deployment)
        self.landing = LandingStore(store, self.file.claim)
        self._store = store
        self._layout = Layout(store, window)
        self._objects = WindowObjects(store, self._layout)
        self._scanner = Scanner(store, self._layout, self._objects, self.landing)

    def key(self, table: str, exchange: str | None, window: Window) -> str:
        """Return where a window lives. Raises `LakeError` when it is not one of this lake's windows."""
        return self._layout.key(table, exchange, window)

    def commit(
        self,
        table: str,
        exchange: str | None,
        window: Window,
        rows: pl.DataFrame,
        provenance: Mapping[str, Any],
        *,
        generation: int | None = None,
        code_version: str | None = None,
    ) -> Commit:
        """Make sorted rows the content of a window, whole or not at all.

        1. The same rows and provenance leave the object as it is. So `provenance` must follow from the input alone,
           without clock, host or run.
        2. `generation` is the one seen before computing (0: none). Give it where the input may have changed since.
        3. `code_version` names the code that computed the rows.
        4. A damaged object is written again.

        Raises `Conflict` when another writer committed other content meanwhile: compute again and retry. Raises
        `Smaller` when the window would lose records, see `_refuse_smaller`. Raises `NotOwner`.
        """
        self.file.check()
        key = self.key(table, exchange, window)
        if clash := OWN_FACTS & provenance.keys():
            raise ValueError(f"the lake itself writes {sorted(clash)}: leave it out of the provenance")
        facts = {
            **provenance,
            "table": table,
            "exchange": exchange,
            "window_start": iso_text(window.start),
            "window_stop": iso_text(window.stop),
            "rows": rows.height,
            "schema": digest(str(list(rows.schema.items())).encode())[:12],
        }
        facts["content_hash"] = content_hash(rows, facts)
        before = self._objects.version_or_damaged(key)
        if before and before.holds(facts) and self._objects.is_sound(key):
            return self._unchanged(key, before)
        seen = before.generation if before else 0
        if generation not in (None, seen):
            raise Conflict(
                f"{self._store.uri(key)}: generation {seen} was committed meanwhile; compute again and retry"
            )
        self.file.claim()
        own = {"code": __version__, "generation": seen + 1}
        if code_version is not None:
            own["code_version"] = code_version
        if before and before.facts:
            self._refuse_smaller(key, before.facts, {**facts, **own})
        data = encode(rows, {**facts, **own})
        try:
            self._store.put(key, data, before.stored.etag if before else None)
        except Conflict:
            winner = self._objects.version(key)
            if winner is None or not winner.holds(facts):
                raise
            return self._unchanged(key, winner)
        return Commit(
            key,
            self._store.uri(key),
            rows.height,
            len(data),
            seen + 1,
            digest(data),
            facts["content_hash"],
            changed=True,
        )

    def read(self, table: str, exchange: str | None, window: Window) -> pl.DataFrame | None:
        """Return the rows of a window, `None` when it was never committed. Raises `Damaged`."""
        stored = self.load(table, exchange, window)
        return stored.rows if stored else None

    def load(self, table: str, exchange: str | None, window: Window) -> StoredWindow | None:
        """Return rows and facts of a window, `None` when it was never committed.

        The content is compared with its hash. Raises `Damaged` where they differ.
        """
        self.file.check()
        return self._objects.load(self.key(table, exchange, window))

    def provenance(self, table: str, exchange: str | None, window: Window) -> dict[str, Any] | None:
        """Return the facts of a window's footer: offsets, counts, `generation`, `content_hash`, `code` ...

        Raises `Damaged` when the footer cannot be read.
        """
        self.file.check()
        version = self._objects.version(self.key(table, exchange, window))
        return version.facts if version else None

    def readable_provenance(self, table: str, exchange: str | None, window: Window) -> dict[str, Any] | None:
        """Return what `provenance` does, but `None` for a damaged footer: such a window is to be made again."""
        try:
            return self.provenance(table, exchange, window)
        except Damaged:
            return None

    def generation(self, table: str, exchange: str | None, window: Window) -> int:
        """Return the generation that `commit` is to replace: 0 for no window, and for a damaged footer.

        Raises `NotOwner`, so that nothing is computed in vain.
        """
        self.file.claim()
        version = self._objects.version_or_damaged(self.key(table, exchange, window))
        return version.generation if version else 0

    def windows(
        self,
        table: str,
        exchange: str | None,
        start: Microseconds | None = None,
        stop: Microseconds | None = None,
    ) -> list[Window]:
        """Return the committed windows that overlap `[start, stop)`, oldest first."""
        self.file.check()
        return [window for window, _ in self._layout.windows(table, exchange, start, stop)]

    def uri(self, table: str, exchange: str | None, window: Window) -> str:
        """Return the address of a window, for people."""
        return self._store.uri(self.key(table, exchange, window))

    def contents(self, table: str) -> Iterator[StoredSize]:
        """Yield the size of every window of a table, by exchange, oldest first. Every footer is read."""
        self.file.check()
        for exchange in self._layout.exchanges(table):
            for window, key in self._layout.windows(table, exchange):
                version = self._objects.version(key)
                if version is not None:
                    yield StoredSize(exchange, window, int(version.facts["rows"]), version.stored.size)

    def scan(
        self,
        table: str,
        *,
        exchanges: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        late: timedelta = LATEST,
        pairs: Iterable[Pair | str] | None = None,
    ) -> pl.LazyFrame:
        """Return the rows received in `[start, end)`, with a column `exchange`, as a lazy frame.

        1. The newest window decides which columns there are.
        2. Rows of windows that are not committed yet come from the landing objects.
        3. Of table `candle`, the candles that opened in `[start, end)` are returned, each once, as told last.
        4. Of table `gap`, the gaps that overlap `[start, end)` and began at most `late` before `start` are returned,
           each once, as told last.
        5. A row may have reached the log up to `late` after it was received. So windows up to `end + late` are read.

        Raises `LakeError` when there is no window to read.
        """
        self.file.check()
        return self._scanner.scan(table, exchanges, start, end, late, pairs)

    def _refuse_smaller(self, key: str, stored: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Raise `Smaller` if a window would lose rows and `replaces_smaller` does not allow that.

        1. A raw window would lose records that nothing could bring back.
        2. Another table of the same raw content may get fewer rows by other code only. The same code had more input
           when it made the stored rows.
        """
        is_raw = str(facts["table"]).startswith(RAW_PREFIX)
        names = ("raw_content_hash", "code_version")
        is_same = all(facts.get(name) is not None and facts.get(name) == stored.get(name) for name in names)
        if (is_raw or is_same) and facts["rows"] < stored["rows"] and not self.replaces_smaller:
            raise Smaller(
                f"{self._store.uri(key)}: {facts['rows']} {'records' if is_raw else 'rows'} would replace the "
                f"{stored['rows']} that are stored; they are kept; to replace them: "
                "coin lake backfill --replace-smaller"
            )

    def _unchanged(self, key: str, version: Version) -> Commit:
        stored, facts = version
        return Commit(
            key,
            self._store.uri(key),
            facts["rows"],
            stored.size,
            facts["generation"],
            stored.sha256,
            facts["content_hash"],
            changed=False,
        )


def open_lake(settings: Settings, s3: "S3Client | None" = None, *, replaces_smaller: bool = False) -> Lake:
    """Return the lake of `COIN_LAKE_URL`; one in S3 uses the client `s3`, or its own."""
    scheme, _, place = settings.lake_url.partition(":")
    if scheme == "file":
        store: Store = FolderStore(settings.path(Path(place)))
    elif scheme == "s3":
        from coin_platform.lake.s3 import open_s3

        store = open_s3(settings, s3)
    else:
        raise SettingsError(f"COIN_LAKE_URL={settings.lake_url}: write file:FOLDER or s3://bucket/prefix")
    ours = partial(deployment_of, settings)
    return Lake(store, settings.window_length, deployment=ours, replaces_smaller=replaces_smaller)


def scan(
    table: str,
    *,
    exchanges: Iterable[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    late: timedelta = LATEST,
    pairs: Iterable[Pair | str] | None = None,
) -> pl.LazyFrame:
    """Return the rows of `[start, end)` from the lake of this environment, as `Lake.scan` does."""
    return open_lake(load()).scan(table, exchanges=exchanges, start=start, end=end, late=late, pairs=pairs)
