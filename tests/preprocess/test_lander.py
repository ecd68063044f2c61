"""The lander of a region: it lands, finds objects, and removes them an hour after their windows were committed."""

import io
import threading

import polars as pl
import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Window
from coin_platform.preprocess import lander
from coin_platform.preprocess.lander import LANDING_KEEP_SECONDS
from coin_platform.tables.dataframes import batch
from tests.kit.landing import LENGTH, LandingPlace
from tests.kit.recordings import frames
from tests.kit.working import GOOD


def test_objects_go_an_hour_after_their_window_was_committed() -> None:
    place = LandingPlace()
    place.log.recorded("ticker")
    landing = place.lander()
    place.work(landing.landings[0], 0.0)
    landing.tidy(0.0)
    landing.tidy(LANDING_KEEP_SECONDS * 2)  # not committed yet
    assert list(place.store.list("landing/"))
    place.commit(len(place.log.records()))
    landing.step(0.0)  # nothing waits
    landing.tidy(LANDING_KEEP_SECONDS * 2)
    landing.tidy(LANDING_KEEP_SECONDS * 3 - 1)
    restarted = place.lander()
    restarted.tidy(LANDING_KEEP_SECONDS * 3)
    restarted.tidy(LANDING_KEEP_SECONDS * 4 - 1)  # it knows of the commit since it started
    assert list(place.store.list("landing/"))
    landing.tidy(LANDING_KEEP_SECONDS * 3)
    assert not list(place.store.list("landing/"))
    assert place.scan().height == len(batch(place.log.source, place.log.records()).rows)
    restarted.tidy(LANDING_KEEP_SECONDS * 4)


def test_an_object_of_two_windows_stays_until_both_are_committed() -> None:
    place = LandingPlace()
    place.log.append(GOOD)
    place.log.time += LENGTH
    place.log.append(GOOD)
    landing = place.lander()
    place.work(landing.landings[0], 0.0)
    source, [first, last] = place.log.source, place.log.records()
    for moment, record in ((0.0, last), (3 * LANDING_KEEP_SECONDS, first)):
        start = record.time // LENGTH * LENGTH
        place.lake.commit("ticker", "upbit", Window(start, start + LENGTH), batch(source, [record]).rows, {})
        landing.tidy(moment)
        landing.tidy(moment + LANDING_KEEP_SECONDS - 1)
        assert list(place.store.list("landing/"))
    landing.tidy(4 * LANDING_KEEP_SECONDS)
    assert not list(place.store.list("landing/"))


def test_a_look_opens_no_more_objects_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lander, "SURVEY_OBJECTS", 1)
    place = LandingPlace()
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
    place = LandingPlace()
    landing = place.lander()
    landing.tidy(0.0)  # the look after a start
    monkeypatch.setattr(place.lake.landing, "keys", None)
    monkeypatch.setattr(place.lake.landing, "times", None)
    monkeypatch.setattr(landing.landings[0], "_size", 1)
    place.log.recorded("ticker")
    landing.step(1.0)
    place.commit(len(place.log.records()))
    landing.tidy(2.0)
    assert list(place.store.list("landing/"))
    monkeypatch.setattr(lander, "SURVEY_SECONDS", 2 * LANDING_KEEP_SECONDS)
    landing.tidy(2.0 + LANDING_KEEP_SECONDS)
    assert not list(place.store.list("landing/"))
    landing.tidy(3.0 + LANDING_KEEP_SECONDS)
    assert not landing._objects and not landing._committed


def test_records_that_were_trimmed_before_they_were_landed_cost_no_other_records() -> None:
    place = LandingPlace()
    landing = place.lander()
    for moment in range(0, 400, 100):  # a later look than the first lands what waits
        place.log.recorded("ticker")
        place.log.broker.trim(*place.log.place, place.end - 1 if moment else 0)
        landing.step(float(moment))
    landing.step(1000.0)
    landing.step(2000.0)
    assert landing.landings[0].position == place.end


def test_an_object_of_another_process_is_found_within_an_hour() -> None:
    place = LandingPlace()
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
    place = LandingPlace()
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
    landing.tidy(lander.SURVEY_SECONDS + LANDING_KEEP_SECONDS)
    assert good not in set(place.store.list("landing/"))
    stop.set()
    landing.run(stop)


def test_an_object_that_someone_else_removed_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    place = LandingPlace()
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

    place = LandingPlace()
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
    monkeypatch.setattr(lander, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(lander, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(lander, "TIDY_SECONDS", 0.0)
    place = LandingPlace()
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
