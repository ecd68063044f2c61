"""Rows that the worker has made land without being read or made again."""

import pytest

from coin_platform.errors import LakeError
from coin_platform.model import Channel
from coin_platform.preprocess import handoff, lander
from coin_platform.tables.dataframes import batch
from tests.kit.landing import LandingPlace
from tests.kit.recordings import frames


@pytest.mark.parametrize(
    ("exchange", "channel", "stem"),
    [("upbit", Channel.TICKER, "ticker"), ("kraken", Channel.ORDERBOOK, "book_sequence_2")],
)
def test_rows_that_a_worker_has_made_land_without_being_read_or_made_again(
    exchange: str, channel: Channel, stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = LandingPlace(exchange, channel)
    partition, landing = place.partition_and_landing()
    place.log.recorded(stem)
    monkeypatch.setattr(landing, "_read", None)
    for stop in (1, place.end // 2, place.end):
        partition.work(stop)
        landing.gather()  # few are not worth a table yet
        landing.work(0.0, place.end)
        assert landing.position == partition.position == place.landing().position
    expected = batch(place.log.source, place.log.records()).rows.sort("offset", "index")
    assert expected.height and place.scan().drop("exchange").sort("offset", "index").equals(expected)


def test_what_a_worker_made_before_where_landing_stands_does_not_land_again() -> None:
    place = LandingPlace()
    partition, landing = place.partition_and_landing()
    place.log.append(*[frames("upbit", "ticker")[0].payload] * 6)
    landing.work(0.0, 4)  # read, for no partition has been there
    partition.work(2)
    landing.gather(0)
    partition.work(6)
    landing.work(1.0, 6)
    assert landing.position == 6
    assert place.scan()["offset"].sort().to_list() == [0, 1, 2, 3, 4, 5]


def test_rows_that_nobody_took_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "MOST_ROWS", 4)
    place = LandingPlace()
    partition, landing = place.partition_and_landing()
    place.log.append(*[frames("upbit", "ticker")[0].payload] * 9)
    for stop in (3, 6, 9):  # the second is too much, with the first
        partition.work(stop)
    landing.work(0.0, 9)
    assert landing.position == 9
    assert place.scan()["offset"].sort().to_list() == list(range(9))


def test_a_worker_that_begins_anew_hands_over_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    place = LandingPlace()
    partition, landing = place.partition_and_landing()
    place.log.append(*[frames("upbit", "ticker")[0].payload] * 6)
    partition.work(4)
    partition.open()  # nothing was committed
    assert partition.position == 0
    partition.work(2)
    landing.work(0.0, 6)
    partition.work(6)
    monkeypatch.setattr(landing, "_read", None)
    landing.work(1.0, 6)
    assert place.scan()["offset"].sort().to_list() == list(range(6))


def test_rows_handed_over_while_the_lake_is_away_are_read_again_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lander, "MOST_RECORDS", 3)
    place = LandingPlace("kraken", Channel.ORDERBOOK)
    partition, landing = place.partition_and_landing()
    place.log.recorded("book_sequence_2")
    for stop in range(1, place.end + 1):
        partition.work(stop)
        landing.gather(0)
    assert landing._reached == 3
    place.store.is_away = True
    with pytest.raises(LakeError):
        landing.work(0.0, place.end)
    place.store.is_away = False
    while landing.position < place.end:
        landing.work(1.0, place.end)
    expected = batch(place.log.source, place.log.records()).rows.sort("offset", "index")
    assert place.scan().drop("exchange").sort("offset", "index").equals(expected)
