"""Landing objects: when they are made, what they hold, how readers see them, when they go."""

import io
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from coin_platform.errors import BrokerUnreachable, Conflict, LakeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import Channel, Kind, Window
from coin_platform.preprocess import handoff, lander
from coin_platform.preprocess.handoff import Handoff
from coin_platform.preprocess.lander import KEPT_SECONDS, LONGEST_WAIT_SECONDS, Lander, PartitionLanding
from coin_platform.preprocess.partition import Partition
from coin_platform.records import Header
from coin_platform.tables.dataframes import batch
from tests.kit.recordings import frames
from tests.preprocess.test_worker import SETTINGS, Log

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

    def landing(self) -> PartitionLanding:
        return PartitionLanding(self.log.source, self.log.broker, self.lake, SETTINGS)

    def pair(self) -> tuple[Partition, PartitionLanding]:
        """Return a lane, and a landing that takes over its rows."""
        lane, landing = self.log.lane(), self.landing()
        lane.handoff = landing.handoff = Handoff()
        return lane, landing

    @property
    def end(self) -> int:
        return self.log.end

    def work(self, landing: PartitionLanding, moment: float = 0.0) -> None:
        landing.work(moment, self.end)

    def lander(self) -> Lander:
        return Lander(self.log.region, [self.log.source.exchange], SETTINGS, self.log.broker, self.lake)

    def scan(self) -> pl.DataFrame:
        start = datetime(2020, 1, 1, tzinfo=UTC)
        return self.lake.scan(self.log.source.channel.value, start=start, end=start + timedelta(days=4000)).collect()

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
        landing.is_due(LONGEST_WAIT_SECONDS, place.end),
        landing.is_due(1.0 + LONGEST_WAIT_SECONDS, place.end),
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


@pytest.mark.parametrize(
    ("exchange", "channel", "stem"),
    [("kraken", Channel.ORDERBOOK, "book_sequence_2"), ("okx", Channel.CANDLE, "candle")],
)
def test_books_and_candles_land_as_they_are_tabled(exchange: str, channel: Channel, stem: str) -> None:
    place = Place(exchange, channel)
    place.log.recorded(stem)
    landing = place.landing()
    half = len(place.log.raw()) // 2
    landing.work(0.0, half)
    place.work(landing, 1.0)
    assert len(list(place.store.list("landing/"))) == 2
    wanted = batch(place.log.source, place.log.raw()).rows.sort("offset", "index")
    assert wanted.height and place.scan().drop("exchange").sort("offset", "index").equals(wanted)
    place.commit(len(place.log.raw()))
    assert place.scan().drop("exchange").sort("offset", "index").equals(wanted)


def test_an_object_of_two_windows_gives_only_the_rows_of_the_one_that_is_not_committed() -> None:
    place = Place()
    good = frames("upbit", "ticker")[0].payload
    place.log.append(good, good)
    place.log.time += LENGTH
    place.log.append(good)
    place.work(place.landing(), 0.0)
    assert len(list(place.store.list("landing/"))) == 1
    place.commit(2)
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2]
    source, [*_, last] = place.log.source, place.log.raw()
    window = Window(last.time // LENGTH * LENGTH, last.time // LENGTH * LENGTH + LENGTH)
    none = batch(source, []).rows
    place.lake.commit("ticker", "upbit", window, none, {})
    assert place.scan()["offset"].sort().to_list() == [0, 1], "the window's own rows count, not the landed ones"
    place.lake.commit("ticker", "upbit", window, batch(source, [last]).rows, {"made": "again"})
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2]


def test_a_stretch_gives_the_same_rows_before_and_after_its_windows_are_committed() -> None:
    place = Place()
    good = frames("upbit", "ticker")[0].payload
    start = place.log.time // LENGTH * LENGTH
    for number, hours in enumerate((0, 1, 3), 1):  # all received in the first hour, logged when the journal was sent
        place.log.time = start + hours * LENGTH + 1
        header = Header(Kind.SOCKET, 1, "c", number, start + number)
        place.log.broker.append(place.log.source.topic, 0, header.pack(), good)
    place.work(place.landing(), 0.0)
    first = datetime.fromtimestamp(start / 1e6, UTC)
    hour = timedelta(hours=1)

    def offsets(**stretch: Any) -> list[int]:
        return place.lake.scan("ticker", **stretch).select("offset").collect()["offset"].sort().to_list()

    stretches: dict[tuple[int, ...], dict[str, Any]] = {
        (0, 1): {"start": first, "end": first + hour, "late": hour},
        (0, 1, 2): {"start": first, "end": first + hour, "late": 3 * hour},
        (): {"start": first + hour, "end": first + 4 * hour},
    }
    for wanted, stretch in stretches.items():
        assert offsets(**stretch) == list(wanted)
    for record in place.log.raw():
        window = Window(record.time // LENGTH * LENGTH, record.time // LENGTH * LENGTH + LENGTH)
        place.lake.commit("ticker", "upbit", window, batch(place.log.source, [record]).rows, {})
        for wanted, stretch in stretches.items():
            assert offsets(**stretch) == list(wanted)


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


def test_a_lake_and_a_broker_that_are_away_at_once_cost_no_rows_either(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    place.log.recorded("ticker")
    landing = place.landing()
    place.store.is_away = True

    def away(*_: object) -> int:
        raise BrokerUnreachable("nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(place.log.broker, "begin_offset", away)
        with pytest.raises((LakeError, BrokerUnreachable)):
            place.work(landing, 0.0)
    place.store.is_away = False
    place.work(landing, 1.0)
    assert place.scan().height == batch(place.log.source, place.log.raw()).rows.height


@pytest.mark.parametrize(
    ("exchange", "channel", "stem"),
    [("upbit", Channel.TICKER, "ticker"), ("kraken", Channel.ORDERBOOK, "book_sequence_2")],
)
def test_rows_that_a_lane_has_made_land_without_being_read_or_made_again(
    exchange: str, channel: Channel, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(exchange, channel)
    lane, landing = place.pair()
    place.log.recorded(stem)
    monkeypatch.setattr(landing, "_read", None)
    for stop in (1, place.end // 2, place.end):
        lane.work(stop)
        landing.gather()  # few are not worth a table yet
        landing.work(0.0, place.end)
        assert landing.position == lane.position == place.landing().position
    wanted = batch(place.log.source, place.log.raw()).rows.sort("offset", "index")
    assert wanted.height and place.scan().drop("exchange").sort("offset", "index").equals(wanted)


def test_what_a_lane_made_before_where_landing_stands_does_not_land_again() -> None:
    place = Place()
    lane, landing = place.pair()
    place.log.append(*[frames("upbit", "ticker")[0].payload] * 6)
    landing.work(0.0, 4)  # read, for no lane has been there
    lane.work(2)
    landing.gather(0)
    lane.work(6)
    landing.work(1.0, 6)
    assert landing.position == 6
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2, 3, 4, 5]


def test_rows_that_nobody_took_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "MOST_ROWS", 4)
    place = Place()
    lane, landing = place.pair()
    place.log.append(*[frames("upbit", "ticker")[0].payload] * 9)
    for stop in (3, 6, 9):  # the second is too much, with the first
        lane.work(stop)
    landing.work(0.0, 9)
    assert landing.position == 9
    assert place.scan()["offset"].sort().to_list() == list(range(9))


def test_a_lane_that_begins_anew_hands_over_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    lane, landing = place.pair()
    place.log.append(*[frames("upbit", "ticker")[0].payload] * 6)
    lane.work(4)
    lane.open()  # nothing was committed
    assert lane.position == 0
    lane.work(2)
    landing.work(0.0, 6)
    lane.work(6)
    monkeypatch.setattr(landing, "_read", None)
    landing.work(1.0, 6)
    assert place.scan()["offset"].sort().to_list() == list(range(6))


def test_rows_handed_over_while_the_lake_is_away_are_read_again_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lander, "MOST_RECORDS", 3)
    place = Place("kraken", Channel.ORDERBOOK)
    lane, landing = place.pair()
    place.log.recorded("book_sequence_2")
    for stop in range(1, place.end + 1):
        lane.work(stop)
        landing.gather(0)
    assert landing._reached == 3
    place.store.is_away = True
    with pytest.raises(LakeError):
        landing.work(0.0, place.end)
    place.store.is_away = False
    while landing.position < place.end:
        landing.work(1.0, place.end)
    wanted = batch(place.log.source, place.log.raw()).rows.sort("offset", "index")
    assert place.scan().drop("exchange").sort("offset", "index").equals(wanted)


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
    landing.tidy(KEPT_SECONDS * 2)  # not committed yet
    assert list(place.store.list("landing/"))
    place.commit(len(place.log.raw()))
    landing.step(0.0)  # nothing waits
    landing.tidy(KEPT_SECONDS * 2)
    landing.tidy(KEPT_SECONDS * 3 - 1)
    restarted = place.lander()
    restarted.tidy(KEPT_SECONDS * 3)
    restarted.tidy(KEPT_SECONDS * 4 - 1)  # it knows of the commit since it started
    assert list(place.store.list("landing/"))
    landing.tidy(KEPT_SECONDS * 3)
    assert not list(place.store.list("landing/"))
    assert place.scan().height == len(batch(place.log.source, place.log.raw()).rows)
    restarted.tidy(KEPT_SECONDS * 4)


def test_an_object_of_two_windows_stays_until_both_are_committed() -> None:
    place = Place()
    good = frames("upbit", "ticker")[0].payload
    place.log.append(good)
    place.log.time += LENGTH
    place.log.append(good)
    landing = place.lander()
    place.work(landing.landings[0], 0.0)
    source, [first, last] = place.log.source, place.log.raw()
    for moment, record in ((0.0, last), (3 * KEPT_SECONDS, first)):
        start = record.time // LENGTH * LENGTH
        place.lake.commit("ticker", "upbit", Window(start, start + LENGTH), batch(source, [record]).rows, {})
        landing.tidy(moment)
        landing.tidy(moment + KEPT_SECONDS - 1)
        assert list(place.store.list("landing/"))
    landing.tidy(4 * KEPT_SECONDS)
    assert not list(place.store.list("landing/"))


def test_a_look_opens_no_more_objects_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lander, "LOOKS_AT_ONCE", 1)
    place = Place()
    landing = place.lander()
    for _ in range(3):
        place.log.append(frames("upbit", "ticker")[0].payload)
        place.work(landing.landings[0], 0.0)
    place.commit(3)
    known = []
    for moment in range(4):
        landing.tidy(float(moment))
        known.append(sum(map(len, landing._objects.values())))
    assert known == [1, 2, 3, 3]


def test_a_lander_knows_its_own_objects_without_listing_or_opening_any(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    landing = place.lander()
    landing.tidy(0.0)  # the look after a start
    monkeypatch.setattr(place.lake.landing, "keys", None)
    monkeypatch.setattr(place.lake.landing, "times", None)
    monkeypatch.setattr(landing.landings[0], "_size", 1)
    place.log.recorded("ticker")
    landing.step(1.0)
    place.commit(len(place.log.raw()))
    landing.tidy(2.0)
    assert list(place.store.list("landing/"))
    monkeypatch.setattr(lander, "SURVEY_SECONDS", 2 * KEPT_SECONDS)
    landing.tidy(2.0 + KEPT_SECONDS)
    assert not list(place.store.list("landing/"))
    landing.tidy(3.0 + KEPT_SECONDS)
    assert not landing._objects and not landing._committed


def test_an_object_of_another_process_is_found_within_an_hour() -> None:
    place = Place()
    landing = place.lander()
    landing.tidy(0.0)
    place.log.append(frames("upbit", "ticker")[0].payload)
    place.work(place.landing(), 0.0)
    landing.tidy(lander.SURVEY_SECONDS - 1)
    assert not landing._objects
    landing.tidy(lander.SURVEY_SECONDS)
    assert len(landing._objects) == 1


def test_D25_damaged_and_foreign_landing_objects_are_named_once_in_a_look_and_the_lander_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Place()
    place.log.append(frames("upbit", "ticker")[0].payload)
    place.work(place.landing())
    [good] = place.store.list("landing/")
    folder = good.rpartition("-")[0]
    file = io.BytesIO()
    pl.DataFrame({"x": [1]}).write_parquet(file)
    bodies = {1: b"", 2: b"no parquet", 3: file.getvalue(), 10**30: b"?"}
    for offset, body in bodies.items():
        place.store.put(f"{folder}-{offset}.parquet", body, None)
    place.store.put(f"{folder}-.parquet", b"?", None)
    landing, stop = place.lander(), threading.Event()
    landing.tidy(0.0)
    for offset in (1, 2, 3):
        assert caplog.text.count(f"{folder}-{offset}.parquet is damaged") == 1
    assert [array.tolist() for array in landing._objects.values()] == [[0]], "the good one will be removed one day"
    place.commit(1)
    landing.tidy(lander.SURVEY_SECONDS)
    landing.tidy(lander.SURVEY_SECONDS + KEPT_SECONDS)
    assert good not in set(place.store.list("landing/"))
    stop.set()
    landing.run(stop)


def test_an_object_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lander, "MOST_BYTES", 2000)
    place = Place()
    good = frames("upbit", "ticker")[0].payload
    place.log.append(*[good] * 5)
    landing = place.landing()
    place.work(landing)
    assert landing.position == -(-2000 // len(good)) < 5


def test_K4_a_topic_that_was_trimmed_or_made_anew_lands_from_its_begin(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    good = frames("upbit", "ticker")[0].payload
    place.log.append(*[good] * 5)
    landing = place.landing()
    place.log.broker.trim(place.log.source.topic, 0, 2)
    place.work(landing)
    place.work(landing)
    assert place.scan()["offset"].sort().to_list() == [2, 3, 4]
    place.log.broker._logs.pop(landing.place)
    place.log.append(good)
    assert not landing.is_due(0.0, place.end)
    place.work(landing)
    assert place.scan()["offset"].sort().to_list() == [0, 2, 3, 4]
    assert caplog.messages == ["koreaSocketDataIn-ticker[0]: landing goes on at offset 0, not 5"]


def test_an_object_that_someone_else_removed_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    landing = place.lander()
    gone = "landing/ticker/exchange=upbit/koreaSocketDataIn-ticker-0-7.parquet"
    monkeypatch.setattr(place.lake.landing, "keys", lambda table: {"upbit": [gone], "bithumb": ["theirs"]})
    landing.tidy(0.0)


def test_a_lander_looks_for_what_can_go_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(threading.Event):
        count = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.count += 1
            return self.count > 2

    place = Place()
    working, looks = place.lander(), list[float]()
    monkeypatch.setattr(working, "tidy", looks.append)
    working.run(Twice())
    assert looks == []
    monkeypatch.setattr(lander, "TIDY_SECONDS", 0.0)
    working.run(Twice())
    assert len(looks) == 2


def test_a_lander_lands_tidies_and_outlives_a_lake_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lander, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(lander, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(lander, "TIDY_SECONDS", 0.0)
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
        while not working._objects:
            assert not waiting.wait(0.005)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive() and place.scan().height
    assert EXCHANGES["upbit"] is place.log.source.exchange
