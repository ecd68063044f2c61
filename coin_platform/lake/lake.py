"""Parquet in S3 or a folder: where a table lives, how it is committed whole, how it is read.

`<table>/exchange=<x>/date=<YYYY-MM-DD>/hour=<HH>/part.parquet` holds one window; windows shorter than an hour add
`minute=<MM>`. A table of all exchanges together has no level `exchange=`.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from coin_platform import __version__
from coin_platform.errors import Conflict, Damaged, LakeError, NotOwner, SettingsError, Smaller
from coin_platform.lake.deployment import Deployment, deployment_of
from coin_platform.lake.explained import told
from coin_platform.lake.folder import FolderStore
from coin_platform.lake.landing import LandingStore
from coin_platform.lake.parquet import UNHASHED, Broken, NotOurs, content_hash, decode, encode, facts_of
from coin_platform.lake.store import Store, Stored, digest
from coin_platform.model import SECOND, Channel, Microseconds, Pair, Window
from coin_platform.settings import Settings, load
from coin_platform.tables import candle, gap_table

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


logger = logging.getLogger(__name__)

MINUTE: Microseconds = 60 * SECOND
HOUR: Microseconds = 60 * MINUTE
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATE = timedelta(hours=24)
LAKE_FILE = "_lake.json"
RAW_PREFIX = "raw_"  # of the tables that nothing but a topic can make again
OWN_FACTS = frozenset(("table", "exchange", "window_start", "window_stop", "rows", "schema", *UNHASHED))
FOOTER = 64 << 10  # bytes; the footers of all but the largest windows are shorter
PATH = re.compile(r"(?:exchange=([^/]+)/)?date=([\d-]+)/hour=(\d\d)/(?:minute=(\d\d)/)?part\.parquet")


class Commit(NamedTuple):
    """What the lake holds of a window. `changed` is false when it held the same content before."""

    key: str
    uri: str
    rows: int
    bytes: int
    generation: int
    sha256: str
    content_hash: str
    changed: bool


class Content(NamedTuple):
    """One window of a table, as `Lake.contents` lists it."""

    exchange: str | None
    window: Window
    rows: int
    bytes: int


class Held(NamedTuple):
    """A window of a table, and what its footer says of it."""

    rows: pl.DataFrame
    facts: dict[str, Any]


class _Version(NamedTuple):
    """A committed object: what the store and its footer say of it, which is nothing where that is damaged."""

    stored: Stored
    facts: dict[str, Any]

    @property
    def generation(self) -> int:
        return int(self.facts.get("generation", 0))

    def holds(self, facts: Mapping[str, Any]) -> bool:
        return bool(self.facts.get("content_hash") == facts["content_hash"])


class Lake:
    """Tables, one object for each window (of `window` µs) of each exchange."""

    def __init__(
        self,
        store: Store,
        window: Microseconds,
        *,
        deployment: Callable[[], Deployment] | None = None,
        replaces_smaller: bool = False,
    ) -> None:
        """`deployment` returns who we are, and is asked before something is written: a lake names its only writer.

        `replaces_smaller` allows what `commit` refuses otherwise: to replace a raw window by fewer records.
        """
        self.window = window
        self.replaces_smaller = replaces_smaller
        self.landing = LandingStore(store, self._claim)
        self._store = store
        self._deployment = deployment
        self._checked = False

    def key(self, table: str, exchange: str | None, window: Window) -> str:
        """Return where a window lives. Raises `LakeError` when it is not one of this lake's windows."""
        if window.start % self.window or window.stop - window.start != self.window:
            raise LakeError(
                f"{_time(window.start)} to {_time(window.stop)} is not a window of {self.window // MINUTE} minutes: "
                "ask for a whole one, or set COIN_WINDOW"
            )
        return f"{_folder(table, exchange)}{self._path(window.start)}part.parquet"

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

        The same rows and provenance leave the object as it is, so `provenance` must follow from the input alone: no
        clock, host or run. `generation` is the one seen before computing (0: none), where the input may have changed.
        `code_version` names the code that computed. An object that is damaged is written again.
        Raises `Conflict` when another writer committed other content meanwhile: compute again and retry. Raises
        `Smaller` when the window would lose records, see `_refuse_smaller`. Raises `NotOwner`.
        """
        self._check()
        key = self.key(table, exchange, window)
        if clash := OWN_FACTS & provenance.keys():
            raise ValueError(f"the lake itself says {sorted(clash)}: leave it out of the provenance")
        facts = {
            **provenance,
            "table": table,
            "exchange": exchange,
            "window_start": _time(window.start),
            "window_stop": _time(window.stop),
            "rows": rows.height,
            "schema": digest(str(list(rows.schema.items())).encode())[:12],
        }
        facts["content_hash"] = content_hash(rows, facts)
        before = self._version_or_damaged(key)
        if before and before.holds(facts) and self._is_sound(key):
            return self._unchanged(key, before)
        seen = before.generation if before else 0
        if generation not in (None, seen):
            raise Conflict(
                f"{self._store.uri(key)}: generation {seen} was committed meanwhile; compute again and retry"
            )
        self._claim()
        own = {"code": __version__, "generation": seen + 1}
        if code_version is not None:
            own["code_version"] = code_version
        if before and before.facts:
            self._refuse_smaller(key, before.facts, {**facts, **own})
        data = encode(rows, {**facts, **own})
        try:
            self._store.put(key, data, before.stored.etag if before else None)
        except Conflict:
            winner = self._version(key)
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
        held = self.load(table, exchange, window)
        return held.rows if held else None

    def load(self, table: str, exchange: str | None, window: Window) -> Held | None:
        """Return rows and facts of a window, `None` when it was never committed.

        They are what was stored, for their hash is looked at. Raises `Damaged` otherwise.
        """
        self._check()
        return self._load(self.key(table, exchange, window))

    def provenance(self, table: str, exchange: str | None, window: Window) -> dict[str, Any] | None:
        """Return what the footer says of a window: offsets, counts, `generation`, `content_hash`, `code` ...

        Raises `Damaged` when the footer cannot be read.
        """
        self._check()
        version = self._version(self.key(table, exchange, window))
        return version.facts if version else None

    def readable_provenance(self, table: str, exchange: str | None, window: Window) -> dict[str, Any] | None:
        """Return what `provenance` does, and `None` also when the footer is damaged: for a window to be made again."""
        try:
            return self.provenance(table, exchange, window)
        except Damaged:
            return None

    def generation(self, table: str, exchange: str | None, window: Window) -> int:
        """Return the generation of a window to `commit` upon: 0 for none, and for one whose footer is damaged.

        Raises `NotOwner`: nothing need be computed then.
        """
        self._claim()
        version = self._version_or_damaged(self.key(table, exchange, window))
        return version.generation if version else 0

    def windows(
        self,
        table: str,
        exchange: str | None,
        start: Microseconds | None = None,
        stop: Microseconds | None = None,
    ) -> list[Window]:
        """Return the committed windows, oldest first, from the one that holds `start` on, that begin before `stop`."""
        self._check()
        begin, end = (None if time is None else EPOCH + timedelta(microseconds=time) for time in (start, stop))
        return [window for window, _ in self._objects(table, exchange, begin, end)]

    def uri(self, table: str, exchange: str | None, window: Window) -> str:
        """Return the address of a window, for people."""
        return self._store.uri(self.key(table, exchange, window))

    def contents(self, table: str) -> Iterator[Content]:
        """Yield what there is of a table, by exchange, oldest first. Every footer is read."""
        self._check()
        for exchange in self._exchanges(table):
            for window, key in self._objects(table, exchange):
                version = self._version(key)
                if version is not None:
                    yield Content(exchange, window, int(version.facts["rows"]), version.stored.size)

    def scan(
        self,
        table: str,
        *,
        exchanges: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        late: timedelta = LATE,
        pairs: Iterable[Pair | str] | None = None,
    ) -> pl.LazyFrame:
        """Return the rows received in `[start, end)`, with a column `exchange`; the newest window says the columns.

        Rows of windows that are not committed yet come from the landing objects.
        Of candles, return those that opened in `[start, end)`, each once: as it was last told, in whichever window; of
        gaps likewise those that overlap it and began at most `late` before.
        Rows may have reached the log up to `late` after they were received: so many further windows are opened.
        Raises `LakeError` when there is no window to read.
        """
        self._check()
        is_gap = table == "gap"
        begin = start - late if is_gap and start else start
        stop = None if end is None else end + late
        names = (
            list(dict.fromkeys((*self._exchanges(table), *self.landing.keys(table))))
            if exchanges is None
            else list(exchanges)
        )
        found = {name: list(self._objects(table, name, begin, stop)) for name in names}
        # listed after the windows: what is committed meanwhile is then missing from them, not there twice
        landed: dict[str | None, list[str]] = dict(self.landing.keys(table).items())
        newest = max((item for objects in found.values() for item in objects), default=None)
        keys = [newest[1]] if newest else [key for name in found.keys() & landed.keys() for key in landed[name][-1:]]
        if not keys:
            raise LakeError(
                f"{self._store.uri(table)}: no window between {start} and {end}; "
                "is it materialised, is COIN_LAKE_URL the right place?"
            )
        schema = self._schema(keys[0])
        frames = []
        for name, objects in found.items():
            parts = [self._scan([key for _, key in objects], schema, keys[0])] if objects else []
            if name in landed:
                parts.append(self._tail(self._scan(landed[name], schema, keys[0]), objects, begin, stop))
            frames += [part.with_columns(*_constant("exchange", name)) for part in parts]
        rows = pl.concat(frames)
        if is_gap:
            return gap_table.latest(rows, "exchange", *gap_table.KEY).filter(
                *_conditions(schema, "to", "from", start, end, pairs)
            )
        time = "open_time" if table == Channel.CANDLE else "received_time"
        rows = rows.filter(*_conditions(schema, time, time, start, end, pairs))
        return candle.latest(rows, "exchange", *candle.KEY) if table == Channel.CANDLE else rows

    def _tail(
        self,
        landed: pl.LazyFrame,
        objects: list[tuple[Window, str]],
        start: datetime | None,
        stop: datetime | None,
    ) -> pl.LazyFrame:
        """Return the landed rows of windows that overlap `[start, stop)` and are not among the committed ones."""
        committed = [window.start for window, _ in objects]
        window = pl.col("log_time").to_physical() // self.window * self.window
        conditions = [~window.is_in(committed)]
        if start is not None:
            conditions.append(window > _microseconds(start) - self.window)
        if stop is not None:
            conditions.append(window < _microseconds(stop))
        return landed.filter(conditions).unique(["topic", "partition", "offset", "index"], keep="last")

    def _schema(self, key: str) -> pl.Schema:
        """Return the columns of an object."""
        if not self.landing.holds(key):
            self._version(key)
        try:
            return self._files([key]).collect_schema()
        except (Exception, pl.exceptions.PanicException) as error:
            self._explain([key], None, error)
            raise

    def _scan(self, keys: list[str], schema: pl.Schema, newest: str) -> pl.LazyFrame:
        """Return the rows of objects, with the columns of the newest one."""
        return told(self._files(keys, schema), schema, partial(self._explain, [newest, *keys], schema))

    def _files(self, keys: list[str], schema: pl.Schema | None = None) -> pl.LazyFrame:
        return pl.scan_parquet(
            [self._store.source(key) for key in keys],  # type: ignore[arg-type]  # all of one kind, whichever it is
            schema=schema,
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            glob=False,
            storage_options=dict(self._store.scan_options) or None,
        )

    def _explain(self, keys: list[str], schema: pl.Schema | None, error: BaseException) -> None:
        """Raise `LakeError` that names the object because of which polars failed, if it is one of these."""
        text = str(error)
        for key in sorted(keys, key=lambda key: key not in text):
            held = self.landing.read(key) if self.landing.holds(key) else self._load(key)
            if held is None:
                raise LakeError(f"{self._store.uri(key)} was removed while it was read: scan again") from error
            rows = held.rows if isinstance(held, Held) else held
            wrong = [name for name, kind in rows.schema.items() if schema and schema.get(name, kind) != kind]
            if wrong:
                raise LakeError(
                    f"{self._store.uri(key)}: {', '.join(wrong)} has another type than in the newest window: "
                    f"{self._remedy(key)}"
                ) from error

    def _objects(
        self, table: str, exchange: str | None, start: datetime | None = None, stop: datetime | None = None
    ) -> Iterator[tuple[Window, str]]:
        """Yield the windows that overlap `[start, stop)`, oldest first, and their keys."""
        folder = _folder(table, exchange)
        after = folder + self._path(_microseconds(start) // self.window * self.window) if start else ""
        for key in self._store.list(folder, after):
            window, _ = self._window_of(key.removeprefix(f"{table}/"))
            if window is None:
                continue
            if stop is not None and window.start >= _microseconds(stop):
                return
            yield window, key

    def _window_of(self, path: str) -> tuple[Window | None, str | None]:
        """Return what a key within a table's folder says: window and exchange; no window where it is none of ours."""
        match = PATH.fullmatch(path)
        if match is None:
            return None, None
        exchange, date, hour, minute = match.groups()
        try:
            begin = _microseconds(datetime.fromisoformat(f"{date}T{hour}:{minute or '00'}:00+00:00"))
        except ValueError:
            return None, None
        return Window(begin, begin + self.window), exchange

    def _exchanges(self, table: str) -> Iterator[str | None]:
        """Yield the exchanges that have windows, asking the store for one key each."""
        after = ""
        while key := next(self._store.list(f"{table}/", after), None):
            match = PATH.fullmatch(key.removeprefix(f"{table}/"))
            if match:
                yield match[1]
            after = f"{_folder(table, match[1])}~" if match else key  # `~` comes after all that a folder holds

    def _path(self, start: Microseconds) -> str:
        path = f"{EPOCH + timedelta(microseconds=start):date=%Y-%m-%d/hour=%H/}"
        return path if self.window >= HOUR else f"{path}minute={start // MINUTE % 60:02}/"

    def _version(self, key: str) -> _Version | None:
        """Read an object's footer only."""
        stored = self._store.get(key, FOOTER)
        if stored is None:
            return None
        size = int.from_bytes(stored.data[-8:-4], "little") + 8
        if len(stored.data) < size <= stored.size:
            stored = self._store.get(key, size) or stored
        try:
            return _Version(stored, facts_of(stored.data))
        except (Broken, NotOurs):
            stored = self._store.get(key) or stored  # its begin tells whether it is ours
        with self._readable(key):
            return _Version(stored, facts_of(stored.data))

    def _version_or_damaged(self, key: str) -> _Version | None:
        try:
            return self._version(key)
        except Damaged:
            stored = self._store.get(key, 1)
            return None if stored is None else _Version(stored, {})

    def _load(self, key: str) -> Held | None:
        stored = self._store.get(key)
        if stored is None:
            return None
        with self._readable(key):
            return Held(*decode(stored.data))

    def _is_sound(self, key: str) -> bool:
        """Whether an object still holds what its footer says."""
        try:
            return self._load(key) is not None
        except Damaged as error:
            logger.warning("%s; it is written again", error)
            return False

    @contextmanager
    def _readable(self, key: str) -> Iterator[None]:
        try:
            yield
        except Broken as error:
            raise Damaged(f"{self._store.uri(key)} is damaged ({error}): {self._remedy(key)}") from error
        except NotOurs as error:
            raise LakeError(f"{self._store.uri(key)} was not written by this lake ({error}): move it away") from error

    def _remedy(self, key: str) -> str:
        """Return how a damaged object is made again."""
        table, _, path = key.partition("/")
        window, exchange = self._window_of(path)
        if window is None:
            return "remove it"
        again = f"coin lake backfill --from {_minute(window.start)} --to {_minute(window.stop)} --table {table}"
        return f"make it again while the records are kept, or put it back from a backup: {again}" + (
            f" --exchange {exchange}" if exchange else ""
        )

    def _refuse_smaller(self, key: str, stored: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Raise `Smaller` if a window would lose rows and nobody asked for that.

        A raw window would lose records, which nobody could bring back. A table of the same raw content may only get
        fewer rows by other code: the same code had more to go on when it made it.
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

    def _unchanged(self, key: str, version: _Version) -> Commit:
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

    def owner(self) -> Deployment | None:
        """Return the deployment that may write this lake; `None` where its next writer becomes that."""
        return _owner(self._lake_file()[1])

    def adopt(self, former: Deployment | None) -> Deployment:
        """Make this deployment the owner, instead of the former one. Raises `Conflict` if that is another by now."""
        assert self._deployment is not None
        stored, facts = self._lake_file()
        present = _owner(facts)
        if (present and present.id) != (former and former.id):
            raise Conflict(f"{self._store.uri(LAKE_FILE)}: the lake belongs to {present} by now; look again and retry")
        self._check()
        ours = self._deployment()
        self._put_lake_file(facts, ours, stored)
        return ours

    def _claim(self) -> None:
        """Make sure that we may write: the first writer of a lake owns it. Raises `NotOwner`."""
        while True:
            self._check()
            stored, facts = self._lake_file()
            owner, ours = _owner(facts), self._deployment() if self._deployment else None
            if owner is not None and (ours is None or owner.id != ours.id):
                raise NotOwner(
                    f"{self._store.uri('')}: this lake belongs to deployment {owner}, and we are "
                    f"{ours or 'no deployment'}: set COIN_LAKE_URL to another place; or take it over with "
                    f"`coin lake adopt`; or, if both are one, set COIN_DEPLOYMENT={owner.id} here"
                )
            if stored is not None and (owner is not None or ours is None):
                return
            try:
                self._put_lake_file(facts, ours, stored)
            except Conflict:
                continue  # somebody else was first: look who
            return

    def _check(self) -> None:
        """Compare our window length with the lake's. Raises `LakeError`: others would overlap the stored ones."""
        if self._checked:
            return
        stored, facts = self._lake_file()
        if stored is None:
            return
        minutes = facts["window_minutes"]
        if minutes * MINUTE != self.window:
            raise LakeError(
                f"{self._store.uri('')}: this lake has windows of {minutes} minutes: "
                f"set COIN_WINDOW={minutes}m, or COIN_LAKE_URL to a new place"
            )
        self._checked = True

    def _lake_file(self) -> tuple[Stored | None, dict[str, Any]]:
        """Return what the lake says of itself. Raises `LakeError` if that cannot be read."""
        stored = self._store.get(LAKE_FILE)
        if stored is None:
            return None, {}
        try:
            facts: Any = json.loads(stored.data)
            is_right = isinstance(facts["window_minutes"], int)
        except (ValueError, LookupError, TypeError):
            is_right = False
        if not is_right:
            raise LakeError(
                f"{self._store.uri(LAKE_FILE)} does not say how long the windows of this lake are: put it back from a "
                f'backup, or write {{"window_minutes": {self.window // MINUTE}}} into it, if that is their length'
            )
        return stored, facts

    def _put_lake_file(self, facts: dict[str, Any], ours: Deployment | None, stored: Stored | None) -> None:
        names = {} if ours is None else {"deployment": ours.id, "host": ours.host, "home": ours.home}
        body = {"window_minutes": self.window // MINUTE, **facts, **names}
        self._store.put(LAKE_FILE, json.dumps(body).encode(), stored.etag if stored else None)


def _owner(facts: Mapping[str, Any]) -> Deployment | None:
    """Return the deployment that a lake names; one of a former version names none."""
    if not facts.get("deployment"):
        return None
    return Deployment(*(" ".join(str(facts.get(name)).split())[:200] for name in ("deployment", "host", "home")))


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
    late: timedelta = LATE,
    pairs: Iterable[Pair | str] | None = None,
) -> pl.LazyFrame:
    """Return the rows of `[start, end)` from the lake of this environment, as `Lake.scan` does."""
    return open_lake(load()).scan(table, exchanges=exchanges, start=start, end=end, late=late, pairs=pairs)


def _folder(table: str, exchange: str | None) -> str:
    return f"{table}/" if exchange is None else f"{table}/exchange={exchange}/"


def _time(time: Microseconds) -> str:
    return (EPOCH + timedelta(microseconds=time)).isoformat()


def _minute(time: Microseconds) -> str:
    return f"{EPOCH + timedelta(microseconds=time):%Y-%m-%dT%H:%M}"


def _microseconds(time: datetime) -> Microseconds:
    if time.tzinfo is None:
        raise LakeError(f"{time} has no time zone: write datetime(…, tzinfo=UTC)")
    return (time - EPOCH) // timedelta(microseconds=1)


def _constant(name: str, value: str | None) -> list[pl.Expr]:
    return [] if value is None else [pl.lit(value).alias(name)]


def _conditions(
    schema: pl.Schema,
    last: str,
    first: str,
    start: datetime | None,
    end: datetime | None,
    pairs: Iterable[Pair | str] | None,
) -> Iterator[pl.Expr]:
    """Yield what keeps the rows of `[start, end)`: `first` and `last` name the times that a row spans."""
    if start is not None and last in schema:
        yield pl.col(last).is_null() & (first != last) | (pl.col(last) >= start)
    if end is not None and first in schema:
        yield pl.col(first) < end
    if pairs is not None and "pair" in schema:
        yield pl.col("pair").is_in([str(pair) for pair in pairs])
