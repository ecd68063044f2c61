"""Stored data only grows or is replaced knowingly: logs that begin anew, with journals and folders, Kafka and S3."""

import json
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from kafka import KafkaAdminClient, KafkaProducer

from coin_platform.broker import Broker, LocalBroker
from coin_platform.broker.kafka import KafkaBroker
from coin_platform.broker.kafka_producer import HEADER
from coin_platform.errors import Conflict, Damaged, NotOwner, Smaller
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import FolderStore, Lake
from coin_platform.lake.deployment import Deployment
from coin_platform.lake.objects import StoredWindow
from coin_platform.lake.s3 import S3Store
from coin_platform.model import Channel, Kind, Microseconds, Window
from coin_platform.orchestration import materialise
from coin_platform.orchestration.materialise import (
    materialise_dead,
    materialise_raw,
    materialise_rows,
)
from coin_platform.orchestration.materialise_gaps import materialise_gaps
from coin_platform.records import Facts, Header
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables.dataframes import Batch, batch
from coin_platform.tables.outcomes import FrameOutcome
from infra.stack import Kafka, SeaweedFS
from tests.kit.recordings import frames
from tests.kit.s3 import s3_client, scan_options
from tests.kit.topics import fresh_topic

START = datetime(2026, 11, 2, tzinfo=UTC)
MINUTE = 60_000_000
WINDOWS = [
    Window(begin, begin + MINUTE) for begin in (int(START.timestamp()) * 1_000_000 + n * MINUTE for n in range(5))
]
FIRST, SECOND, THIRD, FOURTH, _ = WINDOWS
SETTINGS = Settings(start=START, window=timedelta(minutes=1), grace=timedelta(seconds=3))
UPBIT = EXCHANGES["upbit"]
TICKERS = [frame.payload for frame in frames("upbit", "ticker")]


class World(ABC):
    """A raw partition of Upbit's tickers that can be lost, and a lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.epoch = 1
        [self.source] = [found for found in sources(UPBIT, SETTINGS) if found.channel is Channel.TICKER]

    broker: Broker

    @abstractmethod
    def append(self, time: Microseconds, header: str, value: bytes) -> None:
        """Log a record at this time."""

    @abstractmethod
    def begin_anew(self) -> None:
        """Lose the log."""

    def log(self, window: Window, count: int) -> None:
        """Log an opened connection and some tickers, 10 ms one after the other."""
        time, value = window.start + 1_000, Facts(pairs=["BTC-KRW", "ETH-KRW"]).pack()
        self.append(time, Header(Kind.OPENED, self.epoch, "c", 0, time).pack(), value)
        for number in range(1, count):
            time += 10_000
            header = Header(Kind.SOCKET, self.epoch, "c", number, time)
            self.append(time, header.pack(), TICKERS[number % len(TICKERS)])
        self.broker.flush()  # the journal's clock is read when it writes
        self.epoch += 1

    def raw(self, window: Window, lake: Lake | None = None) -> "dg.MaterializeResult[Any]":
        """Make the raw table of a window."""
        return materialise_raw(self.source, window, self.broker, lake or self.lake, SETTINGS)

    def make(self, window: Window) -> "list[dg.MaterializeResult[Any]]":
        """Make the tables of a window."""
        raw = self.raw(window)
        rows = materialise_rows(self.source, window, self.broker, self.lake)
        return [raw, rows, materialise_gaps(UPBIT, [self.source], window, self.lake)]

    def rows(self, window: Window, table: str = "raw_ticker") -> int:
        """Return how many rows a table has."""
        return int((self.lake.provenance(table, "upbit", window) or {"rows": -1})["rows"])


class LocalWorld(World):
    """It is a journal."""

    def __init__(self, folder: Path, lake: Lake) -> None:
        super().__init__(lake)
        self._folder, self._time = folder, 0
        self._open()

    def append(self, time: Microseconds, header: str, value: bytes) -> None:
        self._time = time
        self.broker.append(self.source.topic, self.source.partition, header, value)

    def begin_anew(self) -> None:
        self.broker.close()
        shutil.rmtree(self._folder)
        self._open()

    def _open(self) -> None:
        self.broker = LocalBroker(self._folder, clock=lambda: self._time, monotonic=lambda: self._time / 1e6)


class KafkaWorld(World):
    """It is a topic, whose records are stamped as the test wants."""

    def __init__(self, server: Kafka, folder: Path, lake: Lake) -> None:
        super().__init__(lake)
        self._servers, self._server, self._folder = server.address.split(","), server, folder
        options = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        self.source = self.source._replace(topic=fresh_topic(server, options))
        self._options = options
        self.broker = KafkaBroker(self._servers, folder)

    def append(self, time: Microseconds, header: str, value: bytes) -> None:
        with closing(KafkaProducer(bootstrap_servers=self._servers)) as producer:
            place = (self.source.topic, value, None, [(HEADER, header.encode())], self.source.partition, time // 1000)
            producer.send(*place).get(10)

    def begin_anew(self) -> None:
        self.broker.close()
        with closing(KafkaAdminClient(bootstrap_servers=self._servers)) as admin:
            admin.delete_topics([self.source.topic])
        fresh_topic(self._server, self._options, name=self.source.topic)
        self.broker = KafkaBroker(self._servers, self._folder)


@pytest.fixture(params=["local", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.s3])])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        if request.param == "local":
            world: World = LocalWorld(tmp_path / "journal", Lake(FolderStore(tmp_path / "lake"), MINUTE))
        else:
            server: SeaweedFS = request.getfixturevalue("seaweedfs")
            client, options = s3_client(server.address), scan_options(server.address)
            store = S3Store(client, "lake", uuid.uuid4().hex, scan_options=options, single_writer=False)
            world = KafkaWorld(request.getfixturevalue("kafka"), tmp_path / "spool", Lake(store, MINUTE))
        stack.callback(lambda: world.broker.close())
        yield world


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalWorld]:
    world = LocalWorld(tmp_path / "journal", Lake(FolderStore(tmp_path / "lake"), MINUTE))
    yield world
    world.broker.close()


def failed(result: "dg.MaterializeResult[Any]") -> dict[str, str]:
    """Return the failed checks and what they say."""
    return {str(check.check_name): check.description or "" for check in result.check_results or () if not check.passed}


def test_D1_a_log_that_begins_anew_makes_windows_with_a_gap_and_leaves_stored_ones_as_they_are(world: World) -> None:
    world.log(FIRST, 20)
    assert failed(world.make(FIRST)[0]) == {}
    world.begin_anew()
    world.log(SECOND, 8)
    world.log(THIRD, 5)
    raw, _, gap = world.make(SECOND)
    assert world.rows(SECOND) == 8 and world.rows(SECOND, "ticker") == 7
    assert "the topic began anew" in failed(raw)["conservation"] and "from offset 20 on" in failed(raw)["conservation"]
    assert [check.severity for check in raw.check_results or ()] == [dg.AssetCheckSeverity.WARN], "the rest may go on"
    assert "new_log" in failed(gap)["no_gap"]
    gaps = world.lake.scan("gap").collect().filter(cause="new_log").sort("pair")
    told = [("BTC-KRW", START + timedelta(minutes=1)), ("ETH-KRW", START + timedelta(minutes=1))]
    assert gaps.select("pair", "from").rows() == told
    assert gaps["to"].to_list() == [START + timedelta(minutes=1, milliseconds=1)] * 2
    again = world.raw(FIRST)
    assert world.rows(FIRST) == 20 and again.metadata is not None and not again.metadata["changed"]
    assert "holds 0 records of this window: the stored ones are kept" in failed(again)["conservation"]
    assert failed(world.make(THIRD)[0]) == {} and world.rows(THIRD) == 5, "it is said once"
    repeated = world.raw(SECOND)
    assert repeated.metadata is not None and not repeated.metadata["changed"] and failed(repeated)


def test_D1_a_log_that_has_outgrown_the_one_before_is_known_by_its_name(world: World) -> None:
    world.log(FIRST, 5)
    world.make(FIRST)
    world.begin_anew()
    world.log(FIRST, 9)  # by a clock behind that of the log before
    world.log(SECOND, 9)
    raw, *_ = world.make(SECOND)
    assert world.rows(SECOND) == 18 and "began anew" in failed(raw)["conservation"]
    kept = world.raw(FIRST)
    assert world.rows(FIRST) == 5 and "holds 9 records of this window" in failed(kept)["conservation"]


def test_D2_another_deployment_does_not_overwrite_a_window_until_it_adopts_the_lake(world: World) -> None:
    store = world.lake._store
    first, second = (
        Lake(store, MINUTE, deployment=lambda name=name: Deployment(name, "host", f"/{name}"))  # type: ignore[misc]  # mypy cannot tell
        for name in ("one", "two")
    )
    world.log(FIRST, 20)
    world.raw(FIRST, first)
    world.log(FIRST, 5)  # as another log would have them
    world.log(SECOND, 5)
    for window in (FIRST, SECOND):
        with pytest.raises(NotOwner, match=r"deployment one \(host:/one\), and we are two \(host:/two\): .*adopt"):
            world.raw(window, second)
    assert (world.rows(FIRST), world.rows(SECOND)) == (20, -1)
    second.file.adopt(second.file.owner())
    world.raw(FIRST, second)
    assert world.rows(FIRST) == 25
    with pytest.raises(NotOwner, match="belongs to deployment two"):
        world.raw(SECOND, first)


def test_D1_windows_without_a_record_between_two_logs_belong_to_the_gap(local: LocalWorld) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    local.begin_anew()
    local.log(FOURTH, 8)
    local.log(WINDOWS[4], 2)
    raw, *_ = local.make(FOURTH)
    assert "began anew" in failed(raw)["conservation"]
    [row, *_] = local.lake.scan("gap").collect().filter(cause="new_log").iter_rows(named=True)
    assert (row["from"], row["to"]) == (START + timedelta(minutes=1), START + timedelta(minutes=3, milliseconds=1))


def test_D1_a_window_that_the_new_log_has_nothing_of_is_a_gap_as_a_whole(local: LocalWorld) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    local.begin_anew()
    local.log(THIRD, 8)
    raw, *_ = local.make(SECOND)
    assert local.rows(SECOND) == 0 and "began anew" in failed(raw)["conservation"]
    [row, *_] = local.lake.scan("gap").collect().filter(cause="new_log").iter_rows(named=True)
    assert (row["from"], row["to"]) == (START + timedelta(minutes=1), START + timedelta(minutes=2))
    assert failed(local.make(THIRD)[0]) == {} and local.rows(THIRD) == 8


def test_D1_a_lake_without_names_of_logs_is_adopted_unless_offsets_disprove_it(local: LocalWorld) -> None:
    local.log(FIRST, 20)
    local.log(SECOND, 4)
    local.make(FIRST)
    forget_log(local.lake)
    assert failed(local.make(SECOND)[0]) == {} and local.rows(SECOND) == 4
    forget_log(local.lake)
    local.begin_anew()
    local.log(THIRD, 3)
    assert "from offset 24 on" in failed(local.make(THIRD)[0])["conservation"] and local.rows(THIRD) == 3
    assert "kept" in failed(local.raw(FIRST))["conservation"] and local.rows(FIRST) == 20


def forget_log(lake: Lake) -> None:
    """Store all raw windows of the lake as a former version did."""
    for window in lake.windows("raw_ticker", "upbit"):
        rows, facts = lake.read("raw_ticker", "upbit", window), lake.provenance("raw_ticker", "upbit", window) or {}
        assert rows is not None
        names = ("topic", "partition", "start_offset", "stop_offset", "frames")
        lake.commit("raw_ticker", "upbit", window, rows, {name: facts[name] for name in names})


def test_D1_an_empty_window_that_a_former_version_made_of_the_new_log_is_made_good(local: LocalWorld) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    raw = local.lake.read("raw_ticker", "upbit", FIRST)
    local.begin_anew()
    local.log(SECOND, 8)
    assert raw is not None
    place = {"topic": local.source.topic, "partition": 0, "start_offset": 20, "stop_offset": 20}
    local.lake.commit("raw_ticker", "upbit", SECOND, raw.clear(), {**place, "frames": 0})
    assert "began anew" in failed(local.make(SECOND)[0])["conservation"] and local.rows(SECOND) == 8


def test_D1_a_stored_raw_window_gets_fewer_records_only_by_name(local: LocalWorld, tmp_path: Path) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    raw = local.lake.read("raw_ticker", "upbit", FIRST)
    facts = local.lake.provenance("raw_ticker", "upbit", FIRST) or {}
    assert raw is not None
    with pytest.raises(Smaller, match=r"19 records would replace the 20 that are stored.*--replace-smaller"):
        local.lake.commit("raw_ticker", "upbit", FIRST, raw.head(19), {"start_offset": 0, "stop_offset": 19})
    assert local.lake.provenance("raw_ticker", "upbit", FIRST) == facts
    local.begin_anew()
    local.log(FIRST, 3)
    local.log(SECOND, 3)
    local.raw(FIRST)
    assert local.rows(FIRST) == 20
    local.raw(FIRST, Lake(FolderStore(tmp_path / "lake"), MINUTE, replaces_smaller=True))
    assert local.rows(FIRST) == 3


def test_D1_a_log_that_was_put_back_from_an_older_copy_goes_on_by_time(local: LocalWorld, tmp_path: Path) -> None:
    local.log(FIRST, 20)
    local.broker.close()
    shutil.copytree(tmp_path / "journal", tmp_path / "copy")
    local._open()
    local.log(SECOND, 20)
    for window in (FIRST, SECOND):
        local.make(window)
    local.broker.close()
    shutil.rmtree(tmp_path / "journal")
    (tmp_path / "copy").rename(tmp_path / "journal")
    local._open()
    local.log(THIRD, 6)
    assert "from offset 40 on" in failed(local.make(THIRD)[0])["conservation"]
    assert local.rows(THIRD) == 6
    facts = json.dumps(local.lake.provenance("raw_ticker", "upbit", THIRD))
    assert '"start_offset": 20' in facts and '"stop_offset": 26' in facts


def test_D1_rows_of_a_kept_window_are_made_again_without_the_records_of_the_new_log(local: LocalWorld) -> None:
    local.log(FIRST, 20)
    local.log(SECOND, 20)
    made: list[Callable[[], object]] = [lambda: local.make(FIRST), lambda: local.make(SECOND)]
    for make in made:
        make()
    stored = local.lake.read("ticker", "upbit", SECOND)
    local.begin_anew()
    local.log(THIRD, 60)
    local.make(SECOND)
    again = local.lake.read("ticker", "upbit", SECOND)
    assert stored is not None and again is not None and again.equals(stored)


class Overtaken(Lake):
    """A lake in which something happens between the reading of a raw table and what follows."""

    happens: Callable[[], object] = staticmethod(lambda: None)

    def load(self, table: str, exchange: str | None, window: Window) -> StoredWindow | None:
        held = super().load(table, exchange, window)
        if table == "raw_ticker":
            happens, self.happens = self.happens, lambda: None
            happens()
        return held


@pytest.mark.parametrize("rest", [True, False], ids=["a newer run has made all", "raw is newer"])
def test_D6_a_slow_run_does_not_overwrite_what_a_newer_one_made_of_more(
    local: LocalWorld, tmp_path: Path, rest: bool
) -> None:
    local.log(FIRST, 5)
    local.make(FIRST)
    slow = Overtaken(FolderStore(tmp_path / "lake"), MINUTE)

    def overtake() -> None:
        local.log(FIRST, 5)  # late, after the grace
        local.make(FIRST) if rest else local.raw(FIRST)

    slow_runs: dict[str, Callable[[], object]] = {
        "ticker": lambda: materialise_rows(local.source, FIRST, local.broker, slow),
        "dead": lambda: materialise_dead(UPBIT, [local.source], FIRST, slow),
        "gap": lambda: materialise_gaps(UPBIT, [local.source], FIRST, slow),
    }
    for number, (table, make) in enumerate(slow_runs.items(), 2):
        slow.happens = overtake
        before = local.lake.generation(table, "upbit", FIRST)
        with pytest.raises(
            (Conflict, dg.Failure), match=r"meanwhile; compute again|made of other raw records"
        ) as caught:
            make()
        assert isinstance(caught.value, Conflict) or table == "dead"
        assert local.rows(FIRST) == 5 * number
        assert local.lake.generation(table, "upbit", FIRST) == before + (rest and table != "dead")
        local.make(FIRST)
    fresh = Lake(FolderStore(tmp_path / "fresh"), MINUTE)
    materialise_raw(local.source, FIRST, local.broker, fresh, SETTINGS)
    materialise_rows(local.source, FIRST, local.broker, fresh)
    made, wanted = (lake.read("ticker", "upbit", FIRST) for lake in (local.lake, fresh))
    assert made is not None and wanted is not None and made.equals(wanted), "the next run makes it of all"


def test_D6_a_slow_run_does_not_overwrite_newer_raw(local: LocalWorld, tmp_path: Path) -> None:
    local.log(FIRST, 5)
    local.raw(FIRST)
    slow = Overtaken(FolderStore(tmp_path / "lake"), MINUTE)

    def overtake() -> None:
        local.log(FIRST, 5)
        local.raw(FIRST)
        local.log(FIRST, 2)

    slow.happens = overtake
    with pytest.raises(Conflict, match="generation 2 was committed meanwhile"):
        local.raw(FIRST, slow)
    assert local.rows(FIRST) == 10


def test_D6_a_table_says_which_raw_content_it_is_made_of(local: LocalWorld) -> None:
    local.log(FIRST, 5)
    local.make(FIRST)
    materialise_dead(UPBIT, [local.source], FIRST, local.lake)
    raw, *made = (
        local.lake.provenance(table, "upbit", FIRST) or {} for table in ("raw_ticker", "ticker", "dead", "gap")
    )
    name = raw["content_hash"]
    assert [facts["raw_content_hash"] for facts in made] == [name, {"raw_ticker": name}, {"raw_ticker": name}]


def test_D1_a_table_gets_fewer_rows_of_the_same_raw_content_only_by_other_code(
    local: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)

    def fewer(*arguments: Any) -> Batch:
        whole = batch(*arguments)
        counts = whole.transform.frames
        counts[FrameOutcome.ROWS], counts[FrameOutcome.CONTROL], whole.transform.emitted = 4, 15, 4
        return whole._replace(rows=whole.rows.head(4))

    monkeypatch.setattr(materialise, "batch", fewer)
    with pytest.raises(Smaller, match="4 rows would replace the 19 that are stored; they are kept"):
        materialise_rows(local.source, FIRST, local.broker, local.lake)
    assert local.rows(FIRST, "ticker") == 19
    monkeypatch.setattr(materialise, "code_version", lambda: "mended")
    materialise_rows(local.source, FIRST, local.broker, local.lake)
    assert local.rows(FIRST, "ticker") == 4


def object_of(folder: Path, table: str, window: Window = FIRST) -> Path:
    """Return the file of a window."""
    minute = (window.start - FIRST.start) // MINUTE
    return folder / f"lake/{table}/exchange=upbit/date=2026-11-02/hour=00/minute={minute:02}/part.parquet"


def flip(path: Path) -> None:
    """Turn one bit of a payload, so that polars reads the file as before."""
    data = bytearray(path.read_bytes())
    rows = pl.read_parquet(path)
    for place in range(4, len(data)):
        data[place] ^= 1
        try:
            found = pl.read_parquet(bytes(data))
        except (Exception, pl.exceptions.PanicException):
            found = rows
        if found.schema == rows.schema and found.height == rows.height and not found.equals(rows):
            break
        data[place] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Lose the file's end."""
    path.write_bytes(path.read_bytes()[:-300])


def spoil(path: Path) -> None:
    """Overwrite the file's footer, but for its last bytes."""
    data = path.read_bytes()
    path.write_bytes(data[:-600] + bytes(592) + data[-8:])


ILLS = pytest.mark.parametrize("ill", [flip, cut, spoil])


@ILLS
def test_D7_a_damaged_raw_object_is_made_again_from_the_topic(
    local: LocalWorld, tmp_path: Path, ill: Callable[[Path], None]
) -> None:
    for window in (FIRST, SECOND):
        local.log(window, 20)
        local.make(window)
    for window in (FIRST, SECOND):
        stored = local.lake.load("raw_ticker", "upbit", window)
        ill(object_of(tmp_path, "raw_ticker", window))
        with pytest.raises(
            Damaged, match=r"minute=0\d/part.parquet is damaged .*coin lake backfill --from 2026-11-02T00:"
        ):
            materialise_rows(local.source, window, local.broker, local.lake)
        assert local.rows(window, "ticker") == 19, "what was made of it is kept"
        result = local.raw(window)
        assert result.metadata is not None and result.metadata["changed"] and failed(result) == {}
        mended = local.lake.load("raw_ticker", "upbit", window)
        assert stored is not None and mended is not None and mended.rows.equals(stored.rows)
        assert mended.facts["content_hash"] == stored.facts["content_hash"]
        again = local.make(window)
        assert [made.metadata["changed"] for made in again if made.metadata] == [False] * 3


@ILLS
@pytest.mark.parametrize("is_anew", [False, True], ids=["trimmed", "begun anew"])
def test_D7_a_damaged_raw_object_that_the_topic_no_longer_has_fails_and_nothing_is_replaced(
    local: LocalWorld, tmp_path: Path, ill: Callable[[Path], None], is_anew: bool
) -> None:
    for window in (FIRST, SECOND):
        local.log(window, 20)
        local.make(window)
    if is_anew:
        local.begin_anew()
        local.log(THIRD, 5)
    else:
        assert isinstance(local.broker, LocalBroker)
        local.broker.trim(local.source.topic, 0, 22)
        while local.broker.begin_offset(local.source.topic, 0) < 22:
            local.broker.flush()
    damaged = object_of(tmp_path, "raw_ticker", SECOND)
    ill(damaged)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "lake").rglob("*.parquet"))}
    for make in (local.raw, local.make):
        with pytest.raises(Damaged, match=r"minute=01/part.parquet is damaged .*put it back from a backup") as caught:
            make(SECOND)
        assert "\n" not in str(caught.value)
    with pytest.raises(Damaged):
        materialise_rows(local.source, SECOND, local.broker, local.lake)
    with pytest.raises(Damaged):
        materialise_dead(UPBIT, [local.source], SECOND, local.lake)
    assert {path: path.read_bytes() for path in sorted((tmp_path / "lake").rglob("*.parquet"))} == before


@ILLS
def test_D7_a_damaged_table_is_written_again_when_its_window_is_made_again(
    local: LocalWorld, tmp_path: Path, ill: Callable[[Path], None]
) -> None:
    local.log(FIRST, 20)
    local.make(FIRST)
    stored = local.lake.read("ticker", "upbit", FIRST)
    ill(object_of(tmp_path, "ticker"))
    with pytest.raises(Damaged, match=r"ticker/.* is damaged"):
        local.lake.read("ticker", "upbit", FIRST)
    local.make(FIRST)
    mended = local.lake.read("ticker", "upbit", FIRST)
    assert stored is not None and mended is not None and mended.equals(stored)


def test_D7_a_damaged_end_of_the_window_before_is_not_taken_for_this_ones_begin(
    local: LocalWorld, tmp_path: Path
) -> None:
    local.log(FIRST, 20)
    local.log(SECOND, 5)
    local.make(FIRST)
    path = object_of(tmp_path, "raw_ticker")
    path.write_bytes(path.read_bytes().replace(b'"stop_offset": 20', b'"stop_offset": 10'))
    with pytest.raises(
        Damaged, match=r"minute=00/part.parquet is damaged \(its facts are not those that were stored\)"
    ):
        local.raw(SECOND)
    local.raw(FIRST)
    local.raw(SECOND)
    assert (local.rows(FIRST), local.rows(SECOND)) == (20, 5)
