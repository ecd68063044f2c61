"""Dead letters are tried again, once for each request, through crashes and foreign records."""

import json

import pytest

from coin_platform.errors import BrokerUnreachable, DecodeError, PartitionBusy
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.preprocess.redrive import TRIED, redrive, request
from coin_platform.tables import dead_letters
from coin_platform.topic_names import dead_letter_topic, processed_topic
from tests.kit.raw_log import ConnectionLog
from tests.kit.working import GOOD, faulty_log


def test_S7_redriven_letters_pass_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(GOOD, b"{half")
        log.run()
    assert (log.processed, len(log.letters)) == ([], 2)
    assert redrive(log.source, log.broker) == (0, 0)  # nobody asked
    assert request(log.source, log.broker) == (1, 1)
    assert [(record["offset"], record["redriven"]) for record in log.processed] == [(0, True)]
    assert [letter.attempts for letter in log.letters] == [1, 1, 2]
    assert redrive(log.source, log.broker) == (0, 0)
    log.append(GOOD)
    log.run()  # a new worker is not misled by records that were redriven
    assert [record["offset"] for record in log.processed] == [0, 2]
    assert request(log.source, log.broker) == (0, 1)  # only what is still dead


def test_D25_lost_positions_double_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(GOOD, b"{half")
        log.run()
    assert request(log.source, log.broker) == (1, 1)
    log.append(GOOD)
    log.run()
    before = log.processed
    log.broker._positions.clear()
    log.run()
    request(log.source, log.broker)
    assert log.processed == before


def test_S7_a_running_worker_is_asked_to_redrive(monkeypatch: pytest.MonkeyPatch) -> None:
    log, broker = faulty_log()
    busy = PartitionBusy("a worker writes it")
    log.append(b"{half")
    log.run()
    broker.refuse("append", busy)

    def work(seconds: float) -> None:  # what the worker does meanwhile
        broker.allow("append")
        redrive(log.source, log.broker)
        broker.refuse("append", busy)

    monkeypatch.setattr("coin_platform.preprocess.redrive.time.sleep", work)
    assert request(log.source, log.broker) == (0, 1)
    monkeypatch.setattr("coin_platform.preprocess.redrive.time.sleep", lambda seconds: None)
    monkeypatch.setattr("coin_platform.preprocess.redrive.PATIENCE_SECONDS", 0.0)
    with pytest.raises(PartitionBusy):
        request(log.source, log.broker)


def test_S7_what_is_redriven_after_a_crash_is_not_redriven_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(Exception):
        pass

    def crash() -> None:
        broker.refuse("commit", Crash(), lambda group, *_: group == TRIED)

    log, broker = faulty_log()
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(GOOD, b"{half", GOOD)
        log.run()
    crash()
    with pytest.raises(Crash):
        request(log.source, broker)
    broker.allow("commit")
    places = [0, 2]
    assert [record["offset"] for record in log.processed] == places
    assert redrive(log.source, broker) == (2, 1)  # what the next worker does
    assert [record["offset"] for record in log.processed] == places
    assert [(letter.offset, letter.attempts) for letter in log.letters] == [(0, 1), (1, 1), (2, 1), (1, 2)]
    crash()
    with pytest.raises(Crash):
        request(log.source, broker)
    broker.allow("commit")
    assert request(log.source, broker) == (0, 1), "one letter, told twice"
    assert [record["offset"] for record in log.processed] == places


def test_S7_a_letter_of_somebody_else_is_named_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(b"{half")
    log.run()
    log.broker.append(dead_letter_topic(log.source.topic), 0, "", b"no letter")
    log.broker.append(processed_topic(log.region, Channel.TICKER), 0, "", b"no record")
    assert request(log.source, log.broker) == (0, 2)
    assert "koreaSocketDataIn-ticker-DLT[0]: offset 1: not a dead letter" in caplog.text
    log.append(b"{half")
    log.run()
    assert [
        (letter.offset, letter.attempts) for letter in map(_letter, log.values(f"{log.source.topic}-DLT")) if letter
    ] == [
        *((0, 1), (0, 2), (1, 1)),
    ]


def _letter(value: bytes) -> dead_letters.DeadLetter | None:
    return None if value == b"no letter" else dead_letters.unpack(value)


@pytest.mark.parametrize("name", ["offset", "partition", "log_time", "time", "attempts"])
@pytest.mark.parametrize("value", [-1, 1 << 63, 10**30])
def test_D25_a_letter_with_a_number_that_no_column_holds_is_none(name: str, value: int) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(b"{half")
    log.run()
    [letter] = log.letters
    body = json.loads(letter.pack()) | {name: value}
    log.broker.append(dead_letter_topic(log.source.topic), 0, letter.header, json.dumps(body).encode())
    assert request(log.source, log.broker) == (0, 2)
    log.run()


def test_what_is_no_dead_letter_is_said_to_be_none() -> None:
    with pytest.raises(DecodeError, match="not a dead letter"):
        dead_letters.unpack(b"{}")


def test_letters_are_tried_only_when_the_results_of_an_earlier_process_are_stored() -> None:
    log, broker = faulty_log()
    log.append(b"{half")
    log.run()
    broker.is_behind = True
    with pytest.raises(BrokerUnreachable, match="results of an earlier process still wait for kafka"):
        request(log.source, broker)
    assert broker.committed(TRIED, dead_letter_topic(log.source.topic), 0) is None
    broker.is_behind = False
    assert request(log.source, broker) == (0, 1)
