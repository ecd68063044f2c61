"""What the worker looks for beside records: new and vanished topics, unknown partitions, requests, memory."""

import logging
import threading

import pytest

from coin_platform.errors import BrokerUnreachable, SettingsError
from coin_platform.model import Channel, Kind
from coin_platform.preprocess.redrive import REQUESTED
from coin_platform.preprocess.worker import PROGRESS_SECONDS, SURVEY_SECONDS, WATCH_SECONDS
from coin_platform.records import Header
from coin_platform.runtime.metrics import MEMORY_BYTES
from coin_platform.topic_names import dead_letter_topic
from tests.kit.raw_log import ConnectionLog
from tests.kit.working import BOOKS, GOOD, faulty_log, silence, worker_of


def test_K4_a_new_partition_is_processed_and_said(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    caplog.set_level(logging.INFO)
    region = worker_of(log)
    region.step(0.0)
    assert "its first records" not in caplog.text
    log.append(GOOD)
    region.drain()
    assert len(log.processed) == 1 and "koreaSocketDataIn-ticker[0]: its first records" in caplog.text


def test_K4_a_partition_that_is_no_exchanges_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    log, broker = faulty_log()
    region = worker_of(log)
    broker.refuse("end_offset", SettingsError("no such partition"), lambda topic, partition: partition == 4)
    region.survey()
    assert not caplog.records
    broker.allow("end_offset")
    region.survey()
    assert not caplog.records
    broker.append(log.source.topic, 4, "", b"{}")
    region.survey()
    region.survey()
    [line] = caplog.messages
    assert line.startswith("koreaSocketDataIn-ticker[4]: has records, but no exchange that this code knows")


def test_K4_a_topic_that_vanishes_stops_only_itself_and_may_come_back(caplog: pytest.LogCaptureFixture) -> None:
    log, broker = faulty_log()
    region, stop = worker_of(log), threading.Event()
    silence(broker, BOOKS)
    log.append(GOOD)
    with pytest.raises(BrokerUnreachable):
        region.drain()
    region.probe(stop)
    assert caplog.messages == [f"{BOOKS}: vanished, the others go on"]
    region.drain()
    region.watch(0.0)
    assert len(log.processed) == 1
    region.survey()
    broker.allow("end_offsets")
    broker.append(BOOKS, 0, Header(Kind.SOCKET, 1, "c", 1, log.time).pack(), b"{half")
    region.drain()
    letters = dead_letter_topic(BOOKS)
    assert broker.end_offset(letters, 0) == 0, "nobody looks at it before the survey"
    region.survey()
    assert caplog.messages[1:] == [f"{BOOKS}: is back"]
    region.drain()
    assert broker.end_offset(letters, 0) == 1


def test_K4_a_topic_that_answers_when_asked_again_has_not_vanished() -> None:
    log, broker = faulty_log()
    region = worker_of(log)
    error = BrokerUnreachable("kafka does not answer")
    broker.refuse("end_offsets", error, lambda places: len(broker.calls["end_offsets"]) == 1)
    region._topics.sort(key=lambda topic: topic != BOOKS)
    region.probe(threading.Event())
    assert len(broker.calls["end_offsets"]) > 1 and not region._vanished


def test_K4_a_broker_that_is_away_as_a_whole_has_not_vanished() -> None:
    log, broker = faulty_log()
    region, stop = worker_of(log), threading.Event()
    silence(broker)
    region.probe(stop)
    broker.allow("end_offsets")
    assert not region._vanished
    stop.set()
    silence(broker, BOOKS)
    region.probe(stop)
    assert not region._vanished


def test_the_watch_looks_after_letters_and_memory() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(b"{half")
    region = worker_of(log)
    region.drain()
    log.broker.commit(REQUESTED, dead_letter_topic(log.source.topic), 0, 1)
    MEMORY_BYTES.set(0)
    region.watch(0.0)
    assert [letter.attempts for letter in log.letters] == [1, 2]
    assert MEMORY_BYTES._value.get() > 1 << 20


def test_each_look_has_its_own_beat(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ConnectionLog("upbit", Channel.TICKER)
    region = worker_of(log)
    log.append(b"{half")
    region.drain()
    log.broker.append(log.source.topic, 4, "", b"{}")
    log.broker.commit(REQUESTED, dead_letter_topic(log.source.topic), 0, 1)
    caplog.clear()
    region.look(WATCH_SECONDS - 0.1)
    assert not caplog.messages
    region.look(WATCH_SECONDS)
    assert [line.split(":")[0] for line in caplog.messages] == ["koreaSocketDataIn-ticker-DLT[0]"]
    region.look(PROGRESS_SECONDS)
    assert caplog.messages[-1] == f"korea: {1 / PROGRESS_SECONDS:.0f} records/s processed, 0 wait"
    region.look(SURVEY_SECONDS)
    assert any("no exchange that this code knows" in line for line in caplog.messages)
