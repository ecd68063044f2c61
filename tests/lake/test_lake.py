"""The lake keeps each window whole, once and readable: in memory, in a folder and in a real S3."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coin_platform import __version__
from coin_platform.errors import Conflict, LakeError, SettingsError
from coin_platform.lake import Commit, FolderStore, Lake, MemoryStore, Store, open_lake
from coin_platform.lake.folder import ABANDONED_SECONDS
from coin_platform.lake.lake_file import LAKE_FILE
from coin_platform.lake.s3 import ATTEMPTS, S3Store
from coin_platform.lake.store import Stored, digest
from coin_platform.model import SECOND, Pair, Window
from coin_platform.settings import Settings
from infra.stack import SeaweedFS
from tests.kit.s3 import Fault, S3Proxy, s3_client

HOUR = 3600 * SECOND
TEN = 1_792_144_800 * SECOND  # 2026-10-16 10:00 UTC
WINDOW = Window(TEN, TEN + HOUR)
NEXT = Window(TEN + HOUR, TEN + 2 * HOUR)
KEY = "ticker/exchange=upbit/date=2026-10-16/hour=10/part.parquet"
PROVENANCE = {"topic": "koreaSocketDataIn-ticker", "partition": 0, "first": 7, "stop": 9, "frames": 2, "dead": 0}
SCHEMA = pl.Schema([("pair", pl.String()), ("received_time", pl.Datetime("us", "UTC")), ("last", pl.Float64())])


def at(minutes: float) -> datetime:
    return datetime(2026, 10, 16, 10, tzinfo=UTC) + timedelta(minutes=minutes)


def rows(*values: tuple[str, float, float]) -> pl.DataFrame:
    """Return rows of pair, minutes after ten, last price."""
    return pl.DataFrame([(pair, at(minutes), last) for pair, minutes, last in values], SCHEMA, orient="row")


ROWS = rows(("BTC-KRW", 1, 100.0), ("ETH-KRW", 2, 10.5))
OTHER = rows(("BTC-KRW", 1, 100.0), ("ETH-KRW", 2, 10.6))


@pytest.fixture(params=["memory", "folder", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return FolderStore(tmp_path / "lake")
    return s3_store(request.getfixturevalue("seaweedfs").address)


def s3_store(
    endpoint: str, waits: list[float] | None = None, prefix: str | None = None, *, probe: bool = False
) -> S3Store:
    """Return a store of its own in the test bucket; waiting is only written down."""
    options = {
        "aws_endpoint_url": endpoint,
        "aws_allow_http": "true",
        "aws_region": "us-east-1",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
    }
    return S3Store(
        s3_client(endpoint),
        "lake",
        prefix or uuid.uuid4().hex,
        scan_options=options,
        single_writer=None if probe else False,
        sleep=(waits if waits is not None else []).append,
    )


@pytest.fixture
def lake(store: Store) -> Lake:
    return Lake(store, HOUR)


def commit(lake: Lake, frame: pl.DataFrame = ROWS, window: Window = WINDOW, exchange: str | None = "upbit") -> Commit:
    return lake.commit("ticker", exchange, window, frame, PROVENANCE)


# Where a window lives


@pytest.mark.parametrize(
    ("minutes", "exchange", "key"),
    [
        (60, "upbit", KEY),
        (15, "upbit", "ticker/exchange=upbit/date=2026-10-16/hour=10/minute=00/part.parquet"),
        (60, None, "ticker/date=2026-10-16/hour=10/part.parquet"),
    ],
)
def test_the_key_names_table_exchange_and_time(minutes: int, exchange: str | None, key: str) -> None:
    length = minutes * 60 * SECOND
    assert Lake(MemoryStore(), length).key("ticker", exchange, Window(TEN, TEN + length)) == key


@pytest.mark.parametrize("window", [Window(TEN + 1, TEN + HOUR + 1), Window(TEN, TEN + HOUR // 2)])
def test_a_window_of_another_length_or_start_has_no_key(window: Window) -> None:
    with pytest.raises(LakeError, match=r"is not a window of 60 minutes.*COIN_WINDOW"):
        Lake(MemoryStore(), HOUR).key("ticker", "upbit", window)


def test_windows_shorter_than_an_hour_are_listed_in_order(store: Store) -> None:
    quarter = 15 * 60 * SECOND
    lake = Lake(store, quarter)
    windows = [Window(TEN + n * quarter, TEN + (n + 1) * quarter) for n in (5, 0, 3)]
    for window in windows:
        commit(lake, window=window)
    assert lake.windows("ticker", "upbit") == sorted(windows)
    assert lake.windows("ticker", "upbit", sorted(windows)[1].stop - 1) == sorted(windows)[1:]
    assert lake.windows("ticker", "okx") == []


# What a commit does


def test_what_was_committed_is_read_back_with_its_provenance(lake: Lake, store: Store) -> None:
    result = commit(lake)
    stored = store.get(KEY)
    assert stored is not None
    assert result == Commit(
        KEY, store.uri(KEY), 2, len(stored.data), 1, digest(stored.data), result.content_hash, changed=True
    )
    read = lake.read("ticker", "upbit", WINDOW)
    assert read is not None
    assert read.equals(ROWS)
    assert read.schema == SCHEMA
    assert lake.provenance("ticker", "upbit", WINDOW) == PROVENANCE | {
        "table": "ticker",
        "exchange": "upbit",
        "window_start": "2026-10-16T10:00:00+00:00",
        "window_stop": "2026-10-16T11:00:00+00:00",
        "rows": 2,
        "generation": 1,
        "content_hash": result.content_hash,
        "schema": digest(
            b"[('pair', String), ('received_time', Datetime(time_unit='us', time_zone='UTC')), ('last', Float64)]"
        )[:12],
        "code": __version__,
    }


def test_a_window_that_was_never_committed_reads_as_none(lake: Lake) -> None:
    commit(lake)
    assert lake.read("ticker", "upbit", NEXT) is None
    assert lake.provenance("ticker", "upbit", NEXT) is None


def test_S2_the_same_rows_again_leave_the_object_untouched(lake: Lake, store: Store) -> None:
    first = commit(lake)
    before = store.get(KEY)
    again = commit(lake)
    assert again == first._replace(changed=False)
    assert store.get(KEY) == before


def test_a_rerun_does_not_even_touch_the_file(tmp_path: Path) -> None:
    lake = Lake(FolderStore(tmp_path), HOUR)
    commit(lake)
    before = (tmp_path / KEY).stat()
    commit(Lake(FolderStore(tmp_path), HOUR))
    after = (tmp_path / KEY).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_rows_become_the_next_generation(lake: Lake) -> None:
    first, second = commit(lake), commit(lake, OTHER)
    assert (first.generation, second.generation, second.changed) == (1, 2, True)
    assert first.content_hash != second.content_hash
    read = lake.read("ticker", "upbit", WINDOW)
    assert read is not None
    assert read["last"].to_list() == [100.0, 10.6]


def test_the_same_rows_from_other_offsets_become_the_next_generation(lake: Lake) -> None:
    commit(lake)
    assert lake.commit("ticker", "upbit", WINDOW, ROWS, PROVENANCE | {"stop": 10}).generation == 2


def test_provenance_cannot_speak_for_the_lake(lake: Lake) -> None:
    with pytest.raises(ValueError, match=r"the lake itself writes .'generation', 'rows'.: leave it out"):
        lake.commit("ticker", "upbit", WINDOW, ROWS, {"rows": 3, "generation": 1})


def test_an_empty_window_is_committed_too(lake: Lake) -> None:
    assert commit(lake, ROWS.clear()).rows == 0
    read = lake.read("ticker", "upbit", WINDOW)
    assert read is not None
    assert read.schema == SCHEMA


def test_a_footer_longer_than_the_first_read_is_found_whole(lake: Lake) -> None:
    long = {"pairs": "x" * 100_000}
    lake.commit("ticker", "upbit", WINDOW, ROWS, long)
    provenance = lake.provenance("ticker", "upbit", WINDOW)
    assert provenance is not None
    assert provenance["pairs"] == long["pairs"]


def test_a_result_computed_from_an_older_generation_is_refused(lake: Lake) -> None:
    commit(lake, OTHER)
    with pytest.raises(Conflict, match="generation 1 was committed meanwhile"):
        lake.commit("ticker", "upbit", WINDOW, ROWS, PROVENANCE, generation=0)
    assert lake.commit("ticker", "upbit", WINDOW, ROWS, PROVENANCE, generation=1).generation == 2


def test_a_file_of_someone_else_is_named_and_left_alone(lake: Lake, store: Store) -> None:
    commit(lake, window=NEXT)
    store.put(KEY, b"not a table", None)
    with pytest.raises(LakeError, match=r"part\.parquet was not written by this lake .* move it away"):
        commit(lake)
    stored = store.get(KEY)
    assert stored is not None
    assert stored.data == b"not a table"


# Byte identity

WRITE = """
import datetime, hashlib, sys, pathlib, polars as pl
from coin_platform.lake import FolderStore, Lake
from coin_platform.model import Window
n = 60_000
start = datetime.datetime(2026, 10, 16, 10, tzinfo=datetime.UTC)
rows = pl.select(n=pl.arange(n), pair=pl.lit("BTC-KRW"))
levels = [pl.struct(price=pl.col("n") / number, size=1.5) for number in (7, 11)]
rows = rows.with_columns(bids=pl.concat_list(levels))
time = start + pl.duration(microseconds=pl.col("n"))
rows = rows.with_columns(received_time=time, raw=pl.col("pair").cast(pl.Binary))
result = Lake(FolderStore(pathlib.Path(sys.argv[1])), 3600 * 10**6).commit(
    "ticker", "upbit", Window(1792144800 * 10**6, 1792148400 * 10**6), rows, {"first": 1})
print(result.sha256, result.content_hash)
"""


def test_S2_the_bytes_are_equal_in_every_process_and_with_any_number_of_threads(tmp_path: Path) -> None:
    answers = [
        subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path / f"{n}")],
            env=os.environ | {"POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": f"{n}"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for n, threads in enumerate(["1", "4"])
    ]
    assert len(set(answers)) == 1
    data = [(tmp_path / str(n) / KEY).read_bytes() for n in range(2)]
    assert digest(data[0]) == answers[0].split()[0]
    assert data[0] == data[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.Series(["a", "bc"]), pl.Series(["ab", "c"])),
        (pl.Series(["", None]), pl.Series([None, ""])),
        (pl.Series([[1], [2, 3]]), pl.Series([[1, 2], [3]])),
        (pl.Series([[], None], dtype=pl.List(pl.Int64)), pl.Series([None, []], dtype=pl.List(pl.Int64))),
        (pl.Series([[None], [1]]), pl.Series([[1], [None]])),
        (pl.Series([0, None]), pl.Series([None, 0])),
        (pl.Series([1], dtype=pl.Int64), pl.Series([1], dtype=pl.UInt64)),
        (pl.Series([b"\x00", b""]), pl.Series([b"", b"\x00"])),
        (pl.Series([{"a": 1, "b": None}]), pl.Series([{"a": None, "b": 1}])),
        (pl.Series([True, False]), pl.Series([False, True])),
        (pl.Series([date(2026, 1, 1)]), pl.Series([date(2026, 1, 2)])),
        (pl.Series(["a"], dtype=pl.Enum(["a", "b"])), pl.Series(["b"], dtype=pl.Enum(["a", "b"]))),
    ],
)
def test_content_that_differs_anywhere_has_another_content_hash(one: pl.Series, other: pl.Series) -> None:
    lake = Lake(MemoryStore(), HOUR)
    first = commit(lake, pl.DataFrame({"x": one}))
    assert not commit(lake, pl.DataFrame({"x": one.clone()})).changed
    assert commit(lake, pl.DataFrame({"x": other})).content_hash != first.content_hash
    assert commit(lake, pl.DataFrame({"y": other})).generation == 3


@given(st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=6), st.integers(0, 6))
def test_the_content_hash_does_not_depend_on_how_rows_are_held_in_memory(values: list[str | None], cut: int) -> None:
    whole = pl.DataFrame({"x": values}, {"x": pl.String})
    parts = pl.concat([whole[:cut], whole[cut:]], rechunk=False)
    lake = Lake(MemoryStore(), HOUR)
    assert commit(lake, whole).content_hash == commit(lake, parts).content_hash


# Racing writers


def race(writers: list[Callable[[], object]]) -> list[object]:
    """Run writers at the same moment; return what each returned or raised."""
    barrier = threading.Barrier(len(writers))

    def run(writer: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return writer()
        except LakeError as error:
            return error

    with ThreadPoolExecutor(len(writers)) as pool:
        return list(pool.map(run, writers))


def rounds(store: Store) -> int:
    """Return how often to race: SeaweedFS lets those who meet in one object wait whole seconds."""
    return 2 if isinstance(store, S3Store) else 25


def test_S4_of_racing_first_commits_exactly_one_wins(store: Store) -> None:
    for number in range(rounds(store)):
        key = f"t/{number}"
        results = race([partial(store.put, key, b"%d" % writer, None) for writer in range(8)])
        winners = [writer for writer, result in enumerate(results) if isinstance(result, str)]
        assert len(winners) == 1
        stored = store.get(key)
        assert stored is not None
        assert stored.data == b"%d" % winners[0]


def test_S4_of_racing_replacements_exactly_one_wins_each_generation(store: Store) -> None:
    etag = store.put("t/x", b"start", None)
    for number in range(rounds(store)):
        contents = [b"%d %d" % (number, writer) for writer in range(8)]
        results = race([partial(store.put, "t/x", data, etag) for data in contents])
        winners = [writer for writer, result in enumerate(results) if isinstance(result, str)]
        assert len(winners) == 1
        stored = store.get("t/x")
        assert stored is not None
        assert stored.data == contents[winners[0]]
        etag = stored.etag


def test_S4_A15_twins_of_a_run_end_as_one_commit_and_one_already_committed(lake: Lake) -> None:
    results = race([partial(commit, lake)] * 6)
    assert sorted(result.changed for result in results if isinstance(result, Commit)) == [False] * 5 + [True]
    assert {result.generation for result in results if isinstance(result, Commit)} == {1}


def test_S4_runs_with_other_results_never_overwrite_each_other_unseen(lake: Lake) -> None:
    commit(lake)
    frames = [rows(("BTC-KRW", 1, float(number))) for number in range(6)]
    results = race([partial(lake.commit, "ticker", "upbit", WINDOW, frame, {}, generation=1) for frame in frames])
    winners = [result for result in results if isinstance(result, Commit)]
    assert [winner.generation for winner in winners] == [2]
    assert sum(isinstance(result, Conflict) for result in results) == 5
    provenance = lake.provenance("ticker", "upbit", WINDOW)
    assert provenance is not None
    assert provenance["content_hash"] == winners[0].content_hash


COUNT = """
import pathlib, sys
from coin_platform.errors import Conflict
from coin_platform.lake.folder import FolderStore
store = FolderStore(pathlib.Path(sys.argv[1]))
print("ready", flush=True)
wins = 0
while wins < int(sys.argv[2]):
    stored = store.get("t/n")
    number = int(stored.data.split()[0]) if stored else 0
    try:
        store.put("t/n", b"%d " % (number + 1) * 20_000, stored.etag if stored else None)
    except Conflict:
        continue
    wins += 1
"""


def start_counter(folder: Path, wins: int) -> subprocess.Popen[bytes]:
    """Start a process that adds one, again and again, and return once it is at it."""
    process = subprocess.Popen([sys.executable, "-c", COUNT, str(folder), str(wins)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_S4_processes_that_count_together_lose_no_count(tmp_path: Path) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += [start_counter(tmp_path, 40) for _ in range(3)]
        assert [process.wait(30) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            end(process)
    assert (tmp_path / "t/n").read_bytes() == b"120 " * 20_000


# Killed writers


def test_S3_A15_a_reader_never_sees_half_a_window_while_writers_are_killed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    survivor = start_counter(tmp_path, 10**9)
    numbers: list[int] = []
    try:
        for kill in range(20):
            victim = start_counter(tmp_path, 10**9)
            try:
                until = time.monotonic() + 0.003 * kill
                while time.monotonic() < until or not numbers:
                    stored = store.get("t/n")
                    if stored is not None:
                        words = stored.data.split()
                        assert len(words) == 20_000
                        assert set(words) == {words[0]}
                        numbers.append(int(words[0]))
            finally:
                end(victim)
        assert survivor.poll() is None
    finally:
        end(survivor)
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0]
    assert list(store.list("")) == ["t/n"]


class Killed(BaseException):
    """The process ended here."""


class DyingStore(MemoryStore):
    """A store whose writer dies before or after its put number `step` (1: the lake's file, 2: the window)."""

    def __init__(self, step: int, *, after: bool) -> None:
        super().__init__()
        self._step = step
        self._after = after

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        self._step -= 1
        if self._step == 0 and not self._after:
            raise Killed
        etag = super().put(key, data, if_match)
        if self._step == 0:
            raise Killed
        return etag


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", [1, 2])
def test_S3_A15_a_commit_that_died_at_any_step_is_finished_by_the_next_run(step: int, after: bool) -> None:
    store = DyingStore(step, after=after)
    with pytest.raises(Killed):
        commit(Lake(store, HOUR))
    assert (store.get(KEY) is None) == ((step, after) != (2, True))
    again = commit(Lake(store, HOUR))
    assert (again.generation, again.changed) == (1, (step, after) != (2, True))
    assert sorted(store.list("")) == ["_lake.json", KEY]


def test_the_remains_of_killed_writers_are_hidden_and_go_after_an_hour(tmp_path: Path) -> None:
    lake = Lake(FolderStore(tmp_path), HOUR)
    commit(lake)
    old, new = (tmp_path / KEY).with_name(".part.parquet.old.tmp"), (tmp_path / KEY).with_name(".part.parquet.new.tmp")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - ABANDONED_SECONDS - 60,) * 2)
    assert lake.windows("ticker", "upbit") == [WINDOW]
    assert lake.scan("ticker").collect().height == 2
    commit(lake, OTHER)
    assert not old.exists()
    assert new.exists()


# What a lake refuses


def test_a_lake_refuses_another_window_length(store: Store) -> None:
    commit(Lake(store, HOUR))
    other = Lake(store, 60 * SECOND)
    minute = Window(TEN, TEN + 60 * SECOND)
    uses: list[Callable[[], object]] = [
        lambda: other.commit("ticker", "upbit", minute, ROWS, {}),
        lambda: other.read("ticker", "upbit", minute),
        lambda: other.windows("ticker", "upbit"),
        lambda: other.scan("ticker"),
    ]
    for use in uses:
        with pytest.raises(LakeError, match="has windows of 60 minutes: set COIN_WINDOW=60m") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert list(store.list("ticker/")) == [KEY]


def test_of_two_first_writers_with_other_lengths_one_is_refused(store: Store) -> None:
    lakes = [Lake(store, HOUR), Lake(store, HOUR // 2)]
    results = race([partial(commit, lake, window=Window(TEN, TEN + lake.window)) for lake in lakes])
    assert sorted(type(result).__name__ for result in results) == ["Commit", "LakeError"]


class OvertakenStore(MemoryStore):
    """Another writer commits its first window right after the `reads`-th read of the lake's own file."""

    def __init__(self, reads: int) -> None:
        super().__init__()
        self._reads = reads

    def get(self, key: str, last: int | None = None) -> Stored | None:
        """Return the object as it was before the other writer."""
        stored = super().get(key, last)
        self._reads -= key == LAKE_FILE
        if key == LAKE_FILE and self._reads == 0:
            commit(Lake(self, HOUR // 2), window=Window(TEN, TEN + HOUR // 2))
        return stored


@pytest.mark.parametrize("reads", [1, 2])
def test_a_first_writer_that_is_overtaken_by_one_of_another_length_is_refused(reads: int) -> None:
    with pytest.raises(LakeError, match="this lake has windows of 30 minutes"):
        commit(Lake(OvertakenStore(reads), HOUR))


def test_a_file_where_the_folder_should_be_is_one_line_with_path_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("I am a file")
    with pytest.raises(LakeError) as caught:
        commit(Lake(FolderStore(tmp_path / "lake"), HOUR))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/lake")
    assert "Not a directory" in text or "File exists" in text
    assert "COIN_LAKE_URL" in text
    assert "\n" not in text


FULL = """
import pathlib, resource, sys
from coin_platform.errors import LakeError
from coin_platform.lake.folder import FolderStore
store = FolderStore(pathlib.Path(sys.argv[1]))
etag = store.put("t/x", b"old", None)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.put("t/x", b"new" * 10_000, etag)
except LakeError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_the_old_object_alone(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert str(tmp_path) in done.stdout
    assert "File too large; make room and access there, or set COIN_LAKE_URL" in done.stdout
    assert (tmp_path / "t/x").read_bytes() == b"old"
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["x"]


# Scanning


@pytest.fixture
def scanned(lake: Lake) -> Lake:
    """Two exchanges, two hours; one row of the first hour reached the log in the second."""
    commit(lake, rows(("BTC-KRW", 5, 1.0), ("ETH-KRW", 59, 2.0)))
    commit(lake, rows(("BTC-KRW", 58, 3.0), ("BTC-KRW", 70, 4.0)), NEXT)
    commit(lake, rows(("BTC-USDT", 6, 5.0)), WINDOW, "okx")
    return lake


def test_S5_scan_finds_late_rows_in_later_windows(scanned: Lake) -> None:
    found = scanned.scan("ticker", exchanges=["upbit"], start=at(55), end=at(60))
    assert found.collect().rows() == [("ETH-KRW", at(59), 2.0, "upbit"), ("BTC-KRW", at(58), 3.0, "upbit")]


def test_scan_opens_no_window_beyond_late(scanned: Lake) -> None:
    found = scanned.scan("ticker", exchanges=["upbit"], start=at(55), end=at(60), late=timedelta(0))
    assert found.collect()["last"].to_list() == [2.0]


def test_scan_finds_all_exchanges_and_names_them(scanned: Lake) -> None:
    found = scanned.scan("ticker").select("exchange", "last").collect()
    assert found.sort("last").rows() == [("upbit", 1.0), ("upbit", 2.0), ("upbit", 3.0), ("upbit", 4.0), ("okx", 5.0)]


def test_scan_starts_within_a_window_and_ends_before_its_end(scanned: Lake) -> None:
    found = scanned.scan("ticker", start=at(6), end=at(70)).collect()
    assert sorted(found["last"]) == [2.0, 3.0, 5.0]


def test_scan_chooses_pairs(scanned: Lake) -> None:
    found = scanned.scan("ticker", pairs=[Pair("ETH", "KRW"), "BTC-USDT"]).collect()
    assert sorted(found["last"]) == [2.0, 5.0]


CANDLES = pl.Schema(
    [
        ("pair", pl.String()),
        *((name, pl.Datetime("us", "UTC")) for name in ("received_time", "log_time", "open_time")),
        ("close", pl.Float64()),
        *((name, pl.Int64()) for name in ("offset", "index")),
    ]
)


def candles(*values: tuple[str, float, float, float, int, int]) -> pl.DataFrame:
    """Return rows of pair, minutes after ten when it opened and when it was logged, close, offset, index."""
    full = [(pair, at(log), at(log), at(opened), *rest) for pair, opened, log, *rest in values]
    return pl.DataFrame(full, CANDLES, orient="row")


@pytest.fixture
def minutes(lake: Lake) -> Lake:
    """Minutes that were told in two windows, by two exchanges."""
    first = candles(("BTC-KRW", 58, 59, 1.0, 4, 0), ("BTC-KRW", 59, 59.5, 2.0, 5, 0), ("ETH-KRW", 59, 59.5, 3.0, 5, 1))
    # the topic was made anew: offsets begin again, the log's time does not
    second = candles(("BTC-KRW", 59, 60.1, 4.0, 0, 1), ("BTC-KRW", 58, 60.1, 5.0, 0, 0), ("BTC-KRW", 60, 61, 6.0, 1, 0))
    lake.commit("candle", "upbit", WINDOW, first, {})
    lake.commit("candle", "upbit", NEXT, second, {})
    lake.commit("candle", "bithumb", WINDOW, candles(("BTC-KRW", 59, 59.9, 7.0, 9, 0)), {})
    return lake


def test_scan_gives_each_candle_once_as_it_was_told_last(minutes: Lake) -> None:
    found = minutes.scan("candle")
    assert isinstance(found, pl.LazyFrame)
    assert found.select("exchange", "pair", "open_time", "close").collect().rows() == [
        ("bithumb", "BTC-KRW", at(59), 7.0),
        ("upbit", "BTC-KRW", at(58), 5.0),
        ("upbit", "BTC-KRW", at(59), 4.0),
        ("upbit", "BTC-KRW", at(60), 6.0),
        ("upbit", "ETH-KRW", at(59), 3.0),
    ]
    assert found.select("close").collect()["close"].to_list() == [7.0, 5.0, 4.0, 6.0, 3.0]
    assert found.filter(pl.col("close") == 2.0).collect().is_empty(), "a replaced row does not come back"


def test_scan_chooses_candles_by_when_they_opened(minutes: Lake) -> None:
    found = minutes.scan("candle", exchanges=["upbit"], start=at(59), end=at(60))
    assert found.select("pair", "close").collect().rows() == [("BTC-KRW", 4.0), ("ETH-KRW", 3.0)]
    found = minutes.scan("candle", pairs=["BTC-KRW"], start=at(60))
    assert found.collect()["close"].to_list() == [6.0]
    early = minutes.scan("candle", exchanges=["upbit"], end=at(60), late=timedelta(0), pairs=["BTC-KRW"])
    assert early.collect()["close"].to_list() == [1.0, 2.0]


def test_a_table_without_exchanges_is_scanned_as_it_is(lake: Lake) -> None:
    frame = pl.DataFrame({"bucket": [1, 2]})
    lake.commit("premium", None, WINDOW, frame, {})
    assert lake.scan("premium", start=at(0)).collect().equals(frame)
    assert lake.windows("premium", None) == [WINDOW]


def test_a_column_that_older_windows_lack_is_null_there(lake: Lake) -> None:
    commit(lake)
    commit(lake, rows(("BTC-KRW", 61, 3.0)).with_columns(volume=pl.lit(7.0)).drop("pair"), NEXT)
    found = lake.scan("ticker").collect()
    assert found.columns == ["received_time", "last", "volume", "exchange"]
    assert found["volume"].to_list() == [None, None, 7.0]


def test_scan_of_nothing_says_so(scanned: Lake) -> None:
    with pytest.raises(LakeError, match="ticker: no window between 2026-10-17"):
        scanned.scan("ticker", start=at(24 * 60))
    with pytest.raises(LakeError, match="no window"):
        scanned.scan("orderbook")


def test_a_time_without_zone_is_refused(scanned: Lake) -> None:
    with pytest.raises(LakeError, match="has no time zone"):
        scanned.scan("ticker", start=datetime(2026, 10, 16))  # noqa: DTZ001


# Opening


def test_the_address_of_a_folder_is_relative_to_home(tmp_path: Path) -> None:
    lake = open_lake(Settings(home=tmp_path, lake_url="file:data/lake", window=timedelta(hours=1)))
    assert commit(lake).uri == f"file://{tmp_path}/data/lake/{KEY}"
    assert (tmp_path / "data/lake" / KEY).exists()
    assert json.loads((tmp_path / "data/lake/_lake.json").read_bytes())["window_minutes"] == 60
    same = open_lake(Settings(lake_url=f"file://{tmp_path}/data/lake"))
    assert not commit(same).changed


def test_an_unknown_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="COIN_LAKE_URL=ftp://x: write file:FOLDER or s3://bucket/prefix"):
        open_lake(Settings(lake_url="ftp://x"))


def test_a_folder_costs_no_import_of_boto3() -> None:
    code = "import sys, coin_platform.lake; print('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


@pytest.mark.s3
def test_settings_open_a_lake_in_s3(seaweedfs: SeaweedFS) -> None:
    settings = Settings(
        lake_url="s3://lake/some/prefix", s3_endpoint=seaweedfs.address, s3_access_key="key", s3_secret_key="secret"
    )
    assert commit(open_lake(settings)).uri == f"s3://lake/some/prefix/{KEY}"
    assert open_lake(settings).scan("ticker").collect()["last"].to_list() == [100.0, 10.5]


@pytest.mark.s3
def test_a_bucket_that_does_not_exist_is_one_line_with_the_remedy(seaweedfs: SeaweedFS) -> None:
    store = S3Store(s3_client(seaweedfs.address), "nowhere")
    with pytest.raises(LakeError, match=r"s3://nowhere/: .*bucket does not exist; check COIN_LAKE_URL"):
        store.get("x")


# S3 that fails


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[S3Proxy]:
    with S3Proxy(seaweedfs.address) as proxy:
        yield proxy


@pytest.mark.s3
@pytest.mark.parametrize("status", [500, 0], ids=["500", "reset"])
def test_S4_A12_a_put_whose_answer_is_lost_counts_as_ours(proxy: S3Proxy, status: int) -> None:
    store = s3_store(proxy.endpoint)
    lake = Lake(store, HOUR)
    assert commit(lake, window=NEXT).changed
    for generation, frame in ((1, ROWS), (2, OTHER)):
        proxy.faults = [Fault("PUT", status=status, after=True)]
        result = commit(lake, frame)
        assert (result.generation, result.changed) == (generation, True)
        stored = store.get(KEY)
        assert stored is not None
        assert digest(stored.data) == result.sha256 == stored.sha256


@pytest.mark.s3
def test_S4_A12_a_repeated_put_never_overwrites_what_came_after_it(proxy: S3Proxy, seaweedfs: SeaweedFS) -> None:
    store = s3_store(proxy.endpoint, prefix="overtaken")
    rival = s3_store(seaweedfs.address, prefix="overtaken")
    etag = store.put("x", b"1", None)

    def overtake(_: float) -> None:
        stored = rival.get("x")
        assert stored is not None
        assert stored.data == b"2"
        rival.put("x", b"3", stored.etag)

    slow = S3Store(s3_client(proxy.endpoint), "lake", "overtaken", single_writer=False, sleep=overtake)
    proxy.faults = [Fault("PUT", status=500, after=True)]
    with pytest.raises(Conflict):
        slow.put("x", b"2", etag)
    stored = rival.get("x")
    assert stored is not None
    assert stored.data == b"3"


@pytest.mark.s3
def test_S3_A13_an_answer_cut_in_the_middle_is_read_again(proxy: S3Proxy) -> None:
    store = s3_store(proxy.endpoint)
    commit(Lake(store, HOUR))
    proxy.faults = [Fault("GET", 2, cut=True)]
    assert isinstance(stored := store.get(KEY), Stored)
    assert digest(stored.data) == stored.sha256


@pytest.mark.s3
def test_S4_A14_a_store_that_ignores_conditions_is_found_out(proxy: S3Proxy, caplog: pytest.LogCaptureFixture) -> None:
    proxy.strip = True
    store = s3_store(proxy.endpoint, probe=True)
    with caplog.at_level(logging.WARNING):
        lake = Lake(store, HOUR)
        assert commit(lake).generation == 1
    assert store.single_writer
    assert "ignores conditional writes: only one process may write this lake" in caplog.text
    assert commit(lake, OTHER).generation == 2
    assert not commit(lake, OTHER).changed
    with pytest.raises(Conflict):
        store.put(KEY, b"stale", '"0"')


@pytest.mark.s3
def test_the_probe_leaves_nothing_behind(seaweedfs: SeaweedFS) -> None:
    store = s3_store(seaweedfs.address, probe=True)
    assert not store.single_writer
    assert list(store.list("")) == []


@pytest.mark.s3
def test_a_server_that_stays_away_is_one_line_with_the_remedy(proxy: S3Proxy) -> None:
    waits: list[float] = []
    store = s3_store(proxy.endpoint, waits)
    proxy.faults = [Fault("GET", 1000, status=503)]
    with pytest.raises(LakeError, match="does not answer; is it running, is COIN_S3_ENDPOINT right"):
        Lake(store, HOUR).read("ticker", "upbit", WINDOW)
    assert len(proxy.requests) == ATTEMPTS
    assert sum(waits) < 10


@pytest.mark.s3
def test_a_listing_longer_than_a_page_is_complete(seaweedfs: SeaweedFS) -> None:
    def three(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return params | {"MaxKeys": 3}

    client = s3_client(seaweedfs.address)
    client.meta.events.register("provide-client-params.s3.ListObjectsV2", three)  # type: ignore[arg-type]  # the stubs forget the answer
    store = S3Store(client, "lake", "pages", single_writer=False)
    keys = [f"t/{number:02}" for number in range(10)]
    for key in keys:
        store.put(key, b"x", None)
    assert list(store.list("t/")) == keys
    assert list(store.list("t/", "t/02")) == keys[3:]
