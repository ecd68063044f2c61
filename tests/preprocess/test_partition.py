"""One raw partition: when a batch is due, how large it is, and which records become dead letters."""

import time
from typing import Any

import pytest

from coin_platform.exchanges import EXCHANGES
from coin_platform.model import Channel
from coin_platform.preprocess.partition import MOST_BYTES, MOST_RECORDS
from coin_platform.records import Record
from coin_platform.tables.transform import Transform
from tests.kit.raw_log import ConnectionLog
from tests.kit.recordings import frames
from tests.kit.working import GOOD


def test_a_batch_is_due_by_count_or_by_time() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    partition = log.partition()
    assert not partition.is_due(0.0, log.end)
    log.append(b"{}")
    assert [partition.is_due(moment, log.end) for moment in (1.0, 1.2, 1.25)] == [False, False, True]
    log.append(*[b"{}"] * 19)
    fresh = log.partition()
    assert fresh.is_due(5.0, log.end) and log.work(fresh) == 20 and not fresh.is_due(9.0, log.end)
    books = ConnectionLog("upbit", Channel.ORDERBOOK)
    books.append(*[b"{}"] * 49)
    partition = books.partition()
    assert not partition.is_due(0.0, books.end)
    books.append(b"{}")
    assert partition.is_due(0.0, books.end)


def test_a_round_is_bounded_and_the_next_one_goes_on() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(*[b"{}"] * (MOST_RECORDS + 5))
    partition = log.partition()
    assert [log.work(partition) for _ in range(3)] == [MOST_RECORDS, 5, 0]


def test_a_round_is_bounded_in_bytes_too_but_for_a_single_frame() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(b"x" * MOST_BYTES, *[b"x" * (MOST_BYTES // 2)] * 3)
    partition = log.partition()
    assert [log.work(partition) for _ in range(4)] == [1, 2, 1, 0]


def test_S7_a_dead_letter_names_its_origin_and_stops_nothing() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(GOOD, b"{half", GOOD)
    log.run()
    assert [record["offset"] for record in log.processed] == [0, 2]
    [letter] = log.letters
    assert (letter.topic, letter.partition, letter.offset) == ("koreaSocketDataIn-ticker", 0, 1)
    assert (letter.exchange, letter.channel, letter.error) == ("upbit", "ticker", "DecodeError")
    assert letter.payload == b"{half" and letter.header == log.records()[1].header
    assert "DecodeError" in letter.traceback and letter.code and letter.time == log.time


def test_S7_a_fault_of_ours_costs_one_frame_not_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(GOOD, b"[]", GOOD)
    real = Transform.entries

    def entries(self: Transform, record: Record) -> Any:
        if record.value == b"[]":
            raise ZeroDivisionError("what nobody thought of")
        return real(self, record)

    monkeypatch.setattr(Transform, "entries", entries)
    log.run()
    assert [record["offset"] for record in log.processed] == [0, 2]
    assert [letter.reason for letter in log.letters] == ["ZeroDivisionError: what nobody thought of"]


@pytest.mark.parametrize(
    "poison",
    [b"[" * 200_000, b"\x00" * (16 << 20), b'{"a":' * 100_000, b'{"type":"ticker","code":"' + b"9" * (8 << 20) + b'"}'],
    ids=["deep", "zeros", "deep objects", "long text"],
)
def test_S7_a_poison_frame_delays_its_partition_by_less_than_a_second(poison: bytes) -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.append(GOOD, poison, GOOD)
    partition, begun = log.partition(), time.process_time()
    while log.work(partition):
        pass
    assert time.process_time() - begun < 1.0
    assert [record["offset"] for record in log.processed] == [0, 2]
    assert [(letter.offset, letter.payload == poison) for letter in log.letters] == [(1, True)]


def test_a_record_without_a_header_of_ours_is_a_dead_letter() -> None:
    log = ConnectionLog("upbit", Channel.TICKER)
    log.broker.append(log.source.topic, log.source.partition, "somebody's", b"{}")
    log.run()
    assert [(letter.header, letter.offset) for letter in log.letters] == [("somebody's", 0)]
    assert "header" in log.letters[0].reason


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_frame_of_another_exchange_is_a_dead_letter(exchange: str) -> None:
    same = {"upbit", "bithumb"}  # they write the same messages
    others = [name for name in EXCHANGES if name != exchange and {name, exchange} != same]
    log = ConnectionLog(exchange, Channel.TICKER)
    log.append(*(frames(name, "ticker")[0].payload for name in others))
    log.run()
    assert log.processed == []
    assert [letter.offset for letter in log.letters] == list(range(len(others)))
    assert all(letter.reason.startswith(f"{exchange}: ") for letter in log.letters)


@pytest.mark.parametrize(
    ("exchange", "payload"),
    [
        ("kraken", b'{"channel":"strange","data":[]}'),
        ("gateio", b'{"time":1,"channel":"spot.strange","event":"update","result":{}}'),
        ("okx", b'{"event":"strange"}'),
        ("bybit", b'{"topic":"strange.BTCUSDT","type":"snapshot","ts":1,"data":{}}'),
        ("upbit", b'{"type":"strange","code":"KRW-BTC"}'),
    ],
)
def test_an_unknown_channel_is_a_dead_letter_that_names_it(exchange: str, payload: bytes) -> None:
    log = ConnectionLog(exchange, Channel.TICKER)
    log.append(payload)
    log.run()
    [letter] = log.letters
    assert "strange" in letter.reason and letter.exchange == exchange
