"""The landing objects of one partition: when they are made, what they hold, how readers see them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coin_platform.errors import BrokerUnreachable, Conflict, LakeError
from coin_platform.model import Channel, Kind, Window
from coin_platform.preprocess import lander
from coin_platform.preprocess.lander import LONGEST_WAIT_SECONDS
from coin_platform.records import Header
from coin_platform.tables.dataframes import batch
from tests.kit.landing import LENGTH, LandingPlace
from tests.kit.working import GOOD


def test_an_object_is_made_of_twenty_records_but_not_too_often() -> None:
    place = LandingPlace()
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


def test_an_object_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lander, "MOST_BYTES", 2000)
    place = LandingPlace()
    place.log.append(*[GOOD] * 5)
    landing = place.landing()
    place.work(landing)
    assert landing.position == -(-2000 // len(GOOD)) < 5


def test_rows_can_be_read_before_their_window_is_committed() -> None:
    place = LandingPlace()
    place.log.recorded("ticker")
    place.work(place.landing(), 0.0)
    expected = batch(place.log.source, place.log.records()).rows.sort("offset")
    assert place.scan().drop("exchange").sort("offset").equals(expected)
    assert list(place.store.list("landing/")) == ["landing/ticker/exchange=upbit/koreaSocketDataIn-ticker-0-0.parquet"]
    place.work(place.landing(), 1.0)
    assert place.landing().position == len(place.log.records())


def test_committed_windows_and_landed_rows_are_read_once() -> None:
    place = LandingPlace()
    place.log.append(GOOD, GOOD, GOOD)
    landing = place.landing()
    place.work(landing, 0.0)
    place.commit(3)
    place.log.time += LENGTH
    place.log.append(GOOD, GOOD)
    place.work(landing, 1.0)
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("exchange", "channel", "stem"),
    [("kraken", Channel.ORDERBOOK, "book_sequence_2"), ("okx", Channel.CANDLE, "candle")],
)
def test_books_and_candles_land_as_they_are_tabled(exchange: str, channel: Channel, stem: str) -> None:
    place = LandingPlace(exchange, channel)
    place.log.recorded(stem)
    landing = place.landing()
    half = len(place.log.records()) // 2
    landing.work(0.0, half)
    place.work(landing, 1.0)
    assert len(list(place.store.list("landing/"))) == 2
    expected = batch(place.log.source, place.log.records()).rows.sort("offset", "index")
    assert expected.height and place.scan().drop("exchange").sort("offset", "index").equals(expected)
    place.commit(len(place.log.records()))
    assert place.scan().drop("exchange").sort("offset", "index").equals(expected)


def test_an_object_of_two_windows_gives_only_the_rows_of_the_one_that_is_not_committed() -> None:
    place = LandingPlace()
    place.log.append(GOOD, GOOD)
    place.log.time += LENGTH
    place.log.append(GOOD)
    place.work(place.landing(), 0.0)
    assert len(list(place.store.list("landing/"))) == 1
    place.commit(2)
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2]
    source, [*_, last] = place.log.source, place.log.records()
    window = Window(last.time // LENGTH * LENGTH, last.time // LENGTH * LENGTH + LENGTH)
    none = batch(source, []).rows
    place.lake.commit("ticker", "upbit", window, none, {})
    assert place.scan()["offset"].sort().to_list() == [0, 1], "the window's own rows count, not the landed ones"
    place.lake.commit("ticker", "upbit", window, batch(source, [last]).rows, {"made": "again"})
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2]


def test_a_stretch_gives_the_same_rows_before_and_after_its_windows_are_committed() -> None:
    place = LandingPlace()
    start = place.log.time // LENGTH * LENGTH
    for number, hours in enumerate((0, 1, 3), 1):  # all received in the first hour, logged when the journal was sent
        place.log.time = start + hours * LENGTH + 1
        header = Header(Kind.SOCKET, 1, "c", number, start + number)
        place.log.broker.append(place.log.source.topic, 0, header.pack(), GOOD)
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
    for expected, stretch in stretches.items():
        assert offsets(**stretch) == list(expected)
    for record in place.log.records():
        window = Window(record.time // LENGTH * LENGTH, record.time // LENGTH * LENGTH + LENGTH)
        place.lake.commit("ticker", "upbit", window, batch(place.log.source, [record]).rows, {})
        for expected, stretch in stretches.items():
            assert offsets(**stretch) == list(expected)


def test_a_lake_that_is_away_costs_nothing_but_time(caplog: pytest.LogCaptureFixture) -> None:
    place = LandingPlace("kraken", Channel.ORDERBOOK)
    place.log.recorded("book_sequence_2")
    landing = place.landing()
    place.store.is_away = True
    for _ in range(2):
        with pytest.raises(LakeError):
            place.work(landing, 0.0)
    assert landing.position == 0
    place.store.is_away = False
    place.work(landing, 1.0)
    assert place.scan().height == batch(place.log.source, place.log.records()).rows.height


def test_a_lake_and_a_broker_that_are_away_at_once_cost_no_rows_either(monkeypatch: pytest.MonkeyPatch) -> None:
    place = LandingPlace()
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
    assert place.scan().height == batch(place.log.source, place.log.records()).rows.height


def test_a_retry_overwrites_its_own_object(monkeypatch: pytest.MonkeyPatch) -> None:
    place = LandingPlace()
    place.log.append(GOOD)
    place.work(place.landing(), 0.0)
    place.log.broker.commit("Landing_Ticker_group_id_Korea", place.log.source.topic, 0, 0)  # killed before that
    place.log.append(GOOD)
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
    place = LandingPlace()
    place.log.append(b"{half")
    landing = place.landing()
    place.work(landing, 0.0)
    place.work(landing, 1.0)
    assert not list(place.store.list("landing/")) and landing.position == 1


def test_K4_a_topic_that_was_trimmed_or_made_anew_lands_from_its_begin(caplog: pytest.LogCaptureFixture) -> None:
    place = LandingPlace()
    place.log.append(*[GOOD] * 5)
    landing = place.landing()
    place.log.broker.trim(place.log.source.topic, 0, 2)
    place.work(landing)
    place.work(landing)
    assert place.scan()["offset"].sort().to_list() == [2, 3, 4]
    place.log.broker._logs.pop(landing.place)
    place.log.append(GOOD)
    assert not landing.is_due(0.0, place.end)
    place.work(landing)
    assert place.scan()["offset"].sort().to_list() == [0, 2, 3, 4]
    assert caplog.messages == ["koreaSocketDataIn-ticker[0]: landing goes on at offset 0, not 5"]
