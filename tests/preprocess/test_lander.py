"""Landing objects: when they are made, what they hold, how readers see them, when they go."""

import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from coin_platform.errors import Conflict, LakeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Window
from coin_platform.preprocess import lander
from coin_platform.preprocess.lander import KEPT, LONGEST, Lander, Landing
from coin_platform.preprocess.transform import batch
from tests.preprocess.test_worker import SETTINGS, Log
from tests.recordings import frames

LENGTH = SETTINGS.window_length


class Away(MemoryStore):
    """A store that can refuse."""

    is_away = False

    def put(self, key: str, data: bytes, if_match: str | None) -> str:
        if self.is_away:
            raise LakeError("the lake is away")
        return super().put(key, data, if_match)


class Place:
    """One raw partition, a lake, and the landing between them."""

    def __init__(self, exchange: str = "upbit", channel: Channel = Channel.TICKER) -> None:
        self.log = Log(exchange, channel)
        self.store = Away()
        self.lake = Lake(self.store, LENGTH)

    def landing(self) -> Landing:
        return Landing(self.log.source, self.log.broker, self.lake, SETTINGS)

    @property
    def end(self) -> int:
        return self.log.end

    def work(self, landing: Landing, moment: float = 0.0) -> None:
        landing.work(moment, self.end)

    def lander(self) -> Lander:
        return Lander(self.log.region, [self.log.source.exchange], SETTINGS, self.log.broker, self.lake)

    def scan(self) -> pl.DataFrame:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        return self.lake.scan(self.log.source.channel.value, start=start, end=start + timedelta(days=400)).collect()

    def commit(self, count: int) -> None:
        """Commit the window of the first records, as the asset does."""
        records = self.log.raw()[:count]
        start = records[0].time // LENGTH * LENGTH
        source = self.log.source
        rows = batch(source, records).rows
        self.lake.commit(source.channel.value, source.exchange.name, Window(start, start + LENGTH), rows, {})


def test_an_object_is_made_of_twenty_records_but_not_too_often() -> None:
    place = Place()
    landing = place.landing()
    assert not landing.is_due(0.0, place.end)
    place.log.append(*[b"{}"] * 19)
    assert [
        landing.is_due(1.0, place.end),
        landing.is_due(LONGEST, place.end),
        landing.is_due(1.0 + LONGEST, place.end),
    ] == [False, False, True]
    place.log.append(b"{}")
    assert landing.is_due(2.0, place.end)
    place.work(landing, 2.0)
    place.log.append(*[b"{}"] * 50)
    assert [landing.is_due(moment, place.end) for moment in (2.1, 11.9, 12.0)] == [False, False, True]


def test_rows_can_be_read_before_their_window_is_committed() -> None:
    place = Place()
    place.log.recorded("ticker")
    place.work(place.landing(), 0.0)
    wanted = batch(place.log.source, place.log.raw()).rows.sort("offset")
    assert place.scan().drop("exchange").sort("offset").equals(wanted)
    assert list(place.store.list("landing/")) == ["landing/ticker/exchange=upbit/koreaSocketDataIn-ticker-0-0.parquet"]
    place.work(place.landing(), 1.0)
    assert place.landing().position == len(place.log.raw())


def test_committed_windows_and_landed_rows_are_read_once() -> None:
    place = Place()
    good = frames("upbit", "ticker")[0].payload
    place.log.append(good, good, good)
    landing = place.landing()
    place.work(landing, 0.0)
    place.commit(3)
    place.log.time += LENGTH
    place.log.append(good, good)
    place.work(landing, 1.0)
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2, 3, 4]


def test_books_and_candles_land_as_they_are_tabled() -> None:
    books = Place("kraken", Channel.ORDERBOOK)
    books.log.recorded("book_sequence_2")
    books.work(books.landing(), 0.0)
    wanted = batch(books.log.source, books.log.raw()).rows.sort("offset")
    assert books.scan().drop("exchange").sort("offset").equals(wanted)


def test_a_lake_that_is_away_costs_nothing_but_time(caplog: pytest.LogCaptureFixture) -> None:
    place = Place("kraken", Channel.ORDERBOOK)
    place.log.recorded("book_sequence_2")
    landing = place.landing()
    place.store.is_away = True
    for _ in range(2):
        with pytest.raises(LakeError):
            place.work(landing, 0.0)
    assert landing.position == 0
    place.store.is_away = False
    place.work(landing, 1.0)
    assert place.scan().height == batch(place.log.source, place.log.raw()).rows.height


def test_a_retry_overwrites_its_own_object(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    good = frames("upbit", "ticker")[0].payload
    place.log.append(good)
    place.work(place.landing(), 0.0)
    place.log.broker.commit("Landing_Ticker_group_id_Korea", place.log.source.topic, 0, 0)  # killed before that
    place.log.append(good)
    refusals = iter([Conflict("another writer was first")])
    real = place.store.put

    def put(key: str, data: bytes, if_match: str | None) -> str:
        for refusal in refusals:
            raise refusal
        return real(key, data, if_match)

    monkeypatch.setattr(place.store, "put", put)
    place.work(place.landing(), 0.0)
    assert len(list(place.store.list("landing/"))) == 1
    assert place.scan()["offset"].sort().to_list() == [0, 1]


def test_frames_without_rows_make_no_object() -> None:
    place = Place()
    place.log.append(b"{half")
    landing = place.landing()
    place.work(landing, 0.0)
    place.work(landing, 1.0)
    assert not list(place.store.list("landing/")) and landing.position == 1


def test_objects_go_an_hour_after_their_window_was_committed() -> None:
    place = Place()
    place.log.recorded("ticker")
    landing = place.lander()
    place.work(landing.landings[0], 0.0)
    landing.tidy(0.0)
    landing.tidy(KEPT * 2)  # not committed yet
    assert list(place.store.list("landing/"))
    place.commit(len(place.log.raw()))
    landing.step(0.0)  # nothing waits
    landing.tidy(KEPT * 2)
    landing.tidy(KEPT * 3 - 1)
    assert list(place.store.list("landing/"))
    landing.tidy(KEPT * 3)
    assert not list(place.store.list("landing/"))
    assert place.scan().height == len(batch(place.log.source, place.log.raw()).rows)


def test_an_object_that_someone_else_removed_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    landing = place.lander()
    gone = "landing/ticker/exchange=upbit/koreaSocketDataIn-ticker-0-7.parquet"
    monkeypatch.setattr(place.lake.landing, "keys", lambda table: {"upbit": [gone], "bithumb": ["theirs"]})
    landing.tidy(0.0)


def test_a_lander_lands_tidies_and_outlives_a_lake_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lander, "BEAT", 0.001)
    monkeypatch.setattr(lander, "PAUSE", 0.001)
    monkeypatch.setattr(lander, "TIDY", 0.0)
    place = Place()
    place.log.recorded("ticker")
    place.store.is_away = True
    working, stop = place.lander(), threading.Event()
    monkeypatch.setattr(working.landings[0], "_size", 1)
    thread = threading.Thread(target=working.run, args=(stop,))
    thread.start()
    try:
        waiting = threading.Event()
        while "landing waits, the lake is away" not in caplog.text:
            assert not waiting.wait(0.005)
        place.store.is_away = False
        while not working._times:
            assert not waiting.wait(0.005)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive() and place.scan().height
    assert EXCHANGES["upbit"] is place.log.source.exchange
