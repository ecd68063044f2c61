"""The live worker: the JSON contract, dead letters, restarts, stuck partitions, and equality with the tables."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.demo.processes import free_port
from coin_platform.errors import BrokerUnreachable, DecodeError, DeliveryError, PartitionBusy
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.lake import Lake, MemoryStore
from coin_platform.model import SECOND, BookUpdate, Channel, Kind, Pair, Subscribed
from coin_platform.preprocess import worker
from coin_platform.preprocess.lookback import TAIL_RECORDS
from coin_platform.preprocess.partition import MOST_BYTES, MOST_RECORDS, Partition, commit
from coin_platform.preprocess.redrive import TRIED, redrive, request
from coin_platform.preprocess.worker import Worker, preprocess
from coin_platform.records import Checkpoint, Facts, Header, Record
from coin_platform.selection import sources
from coin_platform.settings import Settings
from coin_platform.tables import dead_letters, processed
from coin_platform.tables.dataframes import batch
from coin_platform.tables.dead_letters import LetterReader
from coin_platform.tables.processed import encode
from coin_platform.tables.transform import Transform
from coin_platform.topic_names import dead_letter_topic, group, processed_topic
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.log import TIME
from tests.kit.recordings import files, frames

SETTINGS = Settings()


def source(exchange: str, channel: Channel) -> Source:
    return next(found for found in sources(EXCHANGES[exchange], SETTINGS) if found.channel is channel)


class Log:
    """A broker whose clock moves, and one exchange's raw partitions in it."""

    def __init__(self, exchange: str, channel: Channel) -> None:
        self.time = TIME
        self.broker = MemoryBroker(clock=lambda: self.time)
        self.source = source(exchange, channel)
        self.region = self.source.exchange.region
        self.number = 0

    def append(self, *payloads: bytes, kind: Kind = Kind.SOCKET, pair: Pair | None = None) -> None:
        for payload in payloads:
            self.number += kind.is_frame
            self.time += 1000
            header = Header(kind, 1, "c", self.number, self.time - 500, pair)
            self.broker.append(self.source.topic, self.source.partition, header.pack(), payload)

    def recorded(self, stem: str) -> list[bytes]:
        found = frames(self.source.exchange.name, stem)
        for frame in found:
            self.append(frame.payload, kind=frame.kind, pair=frame.pair)
        return [frame.payload for frame in found]

    def raw(self) -> list[Record]:
        end = self.broker.end_offset(self.source.topic, self.source.partition)
        return list(self.broker.read(self.source.topic, self.source.partition, 0, end))

    def lane(self) -> Partition:
        return Partition(self.source, self.broker, SETTINGS, clock=lambda: self.time)

    def values(self, topic: str) -> list[bytes]:
        end = self.broker.end_offset(topic, self.source.partition)
        return [record.value for record in self.broker.read(topic, self.source.partition, 0, end)]

    @property
    def processed(self) -> list[dict[str, Any]]:
        return [json.loads(value) for value in self.values(processed_topic(self.region, self.source.channel))]

    @property
    def letters(self) -> list[dead_letters.DeadLetter]:
        return [dead_letters.unpack(value) for value in self.values(dead_letter_topic(self.source.topic))]

    def run(self) -> Partition:
        """Process all that waits, as a worker that was just started does."""
        lane = self.lane()
        while self.work(lane):
            lane.settle()
            commit([lane], self.broker)
        return lane

    @property
    def end(self) -> int:
        return self.broker.end_offset(self.source.topic, self.source.partition)

    def work(self, lane: Partition) -> int:
        return lane.work(self.end)


def contract(exchange: str, channel: Channel, stem: str) -> dict[str, Any]:
    log = Log(exchange, channel)
    log.recorded(stem)
    log.run()
    return log.processed[0]


OURS = ["quote", "received_time", "transport", "offset", "index"]


def test_the_contract_of_ticker_records() -> None:
    record = contract("okx", Channel.TICKER, "ticker")
    data = {
        "opening_price": "64324",
        "trade_price": "64028.6",
        "max_price": "64496.9",
        "min_price": "63237.6",
        "prev_closing_price": "64324",
        "acc_trade_volume_24h": "5874.19398956",
        "signed_change_price": "-295.4",
        "signed_change_rate": "-0.004592",
    }
    assert list(record) == ["region", "market", "coin_symbol", "timestamp", "data", *OURS]
    assert (record["region"], record["market"], record["coin_symbol"]) == ("Asia", "OKX", "BTC")
    assert isinstance(record["timestamp"], float) and record["timestamp"] == 1786538789464.0
    assert list(record["data"][0]) == list(data)
    assert record["data"] == [data]


def test_the_contract_of_order_book_records() -> None:
    record = contract("upbit", Channel.ORDERBOOK, "orderbook")
    names = ["highest_bid", "lowest_ask", "spread", "total_bid_volume", "total_ask_volume", "timestamp"]
    assert list(record) == ["region", "market", "coin_symbol", *names, "sequence", "proof", *OURS]
    assert (record["region"], record["market"], record["coin_symbol"], record["quote"]) == (
        *("Korea", "Upbit", "BTC", "KRW"),
    )
    assert all(isinstance(record[name], float) for name in names[:-1])
    assert record["spread"] == record["lowest_ask"] - record["highest_bid"]
    assert record["timestamp"].endswith("+00:00") and record["timestamp"][10] == " "
    assert len(record["timestamp"]) == len("2024-10-23 10:25:00.050791+00:00")
    assert record["sequence"] is None


def test_trades_and_candles_have_records_of_their_own() -> None:
    trade = contract("kraken", Channel.TRADE, "trade")
    assert {"id", "price", "size", "side", "timestamp"} <= trade.keys() and trade["side"] in ("buy", "sell")
    candle = contract("okx", Channel.CANDLE, "candle")
    assert {"open_time", "open", "high", "low", "close", "volume", "quote_volume", "is_closed"} <= candle.keys()
    assert candle["market"] == "OKX"


@pytest.mark.parametrize(("exchange", "path"), files(), ids=lambda value: getattr(value, "stem", value))
def test_S6_live_records_are_the_rows_of_the_tables(exchange: str, path: Any) -> None:
    stem = path.stem
    channel = next((kind for kind in Channel if kind.value in stem), Channel.ORDERBOOK)
    log = Log(exchange, channel)
    log.recorded(stem)
    log.run()
    transform = Transform(log.source, 0, SETTINGS.window_length)
    wanted = [encode(log.source.exchange, channel, entry) for raw in log.raw() for entry in transform.entries(raw)]
    assert log.values(processed_topic(log.region, channel)) == wanted
    table = batch(log.source, log.raw())
    assert len(log.letters) == table.dead.height
    if channel is not Channel.CANDLE:  # of which a table keeps a minute's last update only
        places = sorted((record["offset"], record["index"]) for record in log.processed)
        assert places == sorted(table.rows.select("offset", "index").iter_rows())


def test_S7_a_dead_letter_names_its_origin_and_stops_nothing() -> None:
    log = Log("upbit", Channel.TICKER)
    good = frames("upbit", "ticker")[0].payload
    log.append(good, b"{half", good)
    log.run()
    assert [record["offset"] for record in log.processed] == [0, 2]
    [letter] = log.letters
    assert (letter.topic, letter.partition, letter.offset) == ("koreaSocketDataIn-ticker", 0, 1)
    assert (letter.exchange, letter.channel, letter.error) == ("upbit", "ticker", "DecodeError")
    assert letter.payload == b"{half" and letter.header == log.raw()[1].header
    assert "DecodeError" in letter.traceback and letter.code and letter.time == log.time


def test_S7_a_fault_of_ours_costs_one_frame_not_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log("upbit", Channel.TICKER)
    good = frames("upbit", "ticker")[0].payload
    log.append(good, b"[]", good)
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
    log = Log("upbit", Channel.TICKER)
    good = frames("upbit", "ticker")[0].payload
    log.append(good, poison, good)
    lane, begun = log.lane(), time.process_time()
    while log.work(lane):
        pass
    assert time.process_time() - begun < 1.0
    assert [record["offset"] for record in log.processed] == [0, 2]
    assert [(letter.offset, letter.payload == poison) for letter in log.letters] == [(1, True)]


def test_S7_redriven_letters_pass_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log("upbit", Channel.TICKER)
    good = frames("upbit", "ticker")[0].payload
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(good, b"{half")
        log.run()
    assert (log.processed, len(log.letters)) == ([], 2)
    assert redrive(log.source, log.broker) == (0, 0)  # nobody asked
    assert request(log.source, log.broker) == (1, 1)
    assert [(record["offset"], record["redriven"]) for record in log.processed] == [(0, True)]
    assert [letter.attempts for letter in log.letters] == [1, 1, 2]
    assert redrive(log.source, log.broker) == (0, 0)
    log.append(good)
    log.run()  # a new worker is not misled by records that were redriven
    assert [record["offset"] for record in log.processed] == [0, 2]
    assert request(log.source, log.broker) == (0, 1)  # only what is still dead


def test_D25_lost_positions_double_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log("upbit", Channel.TICKER)
    good = frames("upbit", "ticker")[0].payload
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(good, b"{half")
        log.run()
    assert request(log.source, log.broker) == (1, 1)
    log.append(good)
    log.run()
    before = log.processed
    log.broker._positions.clear()
    log.run()
    request(log.source, log.broker)
    assert log.processed == before


def test_S7_a_running_worker_is_asked_to_redrive(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log("upbit", Channel.TICKER)
    log.broker = broker = FaultyBroker(clock=lambda: log.time)
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


def test_a_worker_killed_between_storing_and_committing_writes_nothing_twice() -> None:
    log = Log("kraken", Channel.ORDERBOOK)
    log.append(b"{half")
    log.recorded("book_sequence_2")
    lane = log.lane()
    log.work(lane)
    before = (log.processed, log.letters)
    assert before[0] and before[1]
    log.run()  # the first one did not commit
    places = [(record["offset"], record["index"]) for record in log.processed]
    assert len(set(places)) == len(places)
    assert log.processed[: len(before[0])] == before[0] and len(log.letters) == 1


def test_books_survive_a_restart() -> None:
    whole = Log("kraken", Channel.ORDERBOOK)
    whole.recorded("book_sequence_2")
    whole.run()
    log = Log("kraken", Channel.ORDERBOOK)
    for at, frame in enumerate(frames("kraken", "book_sequence_2")):
        log.append(frame.payload)
        if at % 200 == 60:
            log.run()
    log.run()
    assert log.processed == whole.processed


def test_books_are_rebuilt_from_an_old_checkpoint() -> None:
    kind, found = EXCHANGES["kraken"], frames("kraken", "book_sequence_2")
    book = kind.book()
    for update in (event for frame in found[:100] for event in kind.decode(frame)):
        if isinstance(update, Subscribed):
            book.depth = update.depth or book.depth
        if isinstance(update, BookUpdate):
            kind.apply(book, update)
            pair = update.pair
    checkpoint = Facts(book=Checkpoint.of(book.snapshot(pair))).pack()

    def processed(*, restart: bool) -> list[dict[str, Any]]:
        log = Log("kraken", Channel.ORDERBOOK)
        log.append(checkpoint, kind=Kind.CHECKPOINT)
        log.append(*[frame.payload for frame in found[100:150]])
        log.time += 400 * SECOND  # further back than the first two looks
        log.append(*[frame.payload for frame in found[150:160]])
        lane = log.run()
        log.append(*[frame.payload for frame in found[160:200]])
        log.work(log.lane() if restart else lane)
        return log.processed

    assert processed(restart=True) == processed(restart=False)
    assert processed(restart=True)[-1]["offset"] == 100


def test_records_trimmed_before_they_were_processed_are_named(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("upbit", Channel.TICKER)
    good = frames("upbit", "ticker")[0].payload
    log.append(good)
    log.run()
    log.append(good, good, good)
    log.broker.trim(log.source.topic, log.source.partition, 3)
    log.run()
    assert [record["offset"] for record in log.processed] == [0, 3]
    assert "offsets 1 to 3 were trimmed before they were processed" in caplog.text


def test_a_first_worker_begins_where_the_topic_does(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(*[frames("upbit", "ticker")[0].payload] * 3)
    log.broker.trim(log.source.topic, log.source.partition, 2)
    log.run()
    assert [record["offset"] for record in log.processed] == [2] and not caplog.text


def test_a_record_without_a_header_of_ours_is_a_dead_letter() -> None:
    log = Log("upbit", Channel.TICKER)
    log.broker.append(log.source.topic, log.source.partition, "somebody's", b"{}")
    log.run()
    assert [(letter.header, letter.offset) for letter in log.letters] == [("somebody's", 0)]
    assert "header" in log.letters[0].reason


def test_a_region_is_preprocessed_until_it_is_to_stop(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"batch_interval": 0.0, "metrics_port": free_port(0)})
    log, lake = Log("upbit", Channel.TICKER), Lake(MemoryStore(), SETTINGS.window_length)
    log.recorded("ticker")

    async def work() -> str:
        stop = asyncio.Event()
        exchanges = [log.source.exchange]
        working = asyncio.create_task(preprocess(log.region, exchanges, settings, log.broker, lake, stop))
        while not log.processed:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{settings.metrics_port}/metrics")
        stop.set()
        await working
        return answer.text

    text = asyncio.run(work())
    for name in ("coin_processed_records_total", "coin_lag_records", "coin_latency_seconds_bucket"):
        assert f'{name}{{channel="ticker",exchange="upbit"' in text


def test_D12_a_port_that_is_taken_costs_the_metrics_and_not_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    log, lake = Log("upbit", Channel.TICKER), Lake(MemoryStore(), SETTINGS.window_length)
    log.recorded("ticker")

    async def work(settings: Settings) -> None:
        stop = asyncio.Event()
        working = asyncio.create_task(preprocess(log.region, [log.source.exchange], settings, log.broker, lake, stop))
        while not log.processed:
            await asyncio.sleep(0.01)
        stop.set()
        await working

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asyncio.run(work(SETTINGS.model_copy(update={"batch_interval": 0.0, "metrics_port": port})))
    [line] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"no metrics: COIN_METRICS_PORT={port} cannot be listened on: ")


def test_a_region_without_metrics_needs_no_port() -> None:
    log = Log("upbit", Channel.TICKER)

    async def work() -> None:
        stop, lake = asyncio.Event(), Lake(MemoryStore(), SETTINGS.window_length)
        stop.set()
        await preprocess(log.region, [log.source.exchange], SETTINGS, log.broker, lake, stop)

    log.append(b"{half")
    asyncio.run(work())
    assert len(log.letters) == 1


@pytest.mark.parametrize("is_back", [True, False])
def test_a_start_waits_for_a_broker_that_does_not_answer(
    is_back: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.01)
    log, lake = Log("upbit", Channel.TICKER), Lake(MemoryStore(), SETTINGS.window_length)
    log.append(b"{half")
    claim, answers = log.broker.claim, threading.Event()

    def away(topic: str, partition: int) -> None:
        if not answers.is_set():
            raise BrokerUnreachable("nobody answers")
        claim(topic, partition)

    monkeypatch.setattr(log.broker, "claim", away)

    async def work() -> None:
        stop = asyncio.Event()
        working = asyncio.create_task(preprocess(log.region, [log.source.exchange], SETTINGS, log.broker, lake, stop))
        while caplog.messages.count("korea: start waits: nobody answers") < 2:
            await asyncio.sleep(0.005)
        if is_back:
            answers.set()
            while not log.letters:
                await asyncio.sleep(0.005)
        stop.set()
        await working

    asyncio.run(work())
    assert len(log.letters) == is_back


def test_a_batch_is_due_by_count_or_by_time() -> None:
    log = Log("upbit", Channel.TICKER)
    lane = log.lane()
    assert not lane.is_due(0.0, log.end)
    log.append(b"{}")
    assert [lane.is_due(moment, log.end) for moment in (1.0, 1.2, 1.25)] == [False, False, True]
    log.append(*[b"{}"] * 19)
    fresh = log.lane()
    assert fresh.is_due(5.0, log.end) and log.work(fresh) == 20 and not fresh.is_due(9.0, log.end)
    books = Log("upbit", Channel.ORDERBOOK)
    books.append(*[b"{}"] * 49)
    lane = books.lane()
    assert not lane.is_due(0.0, books.end)
    books.append(b"{}")
    assert lane.is_due(0.0, books.end)


FOREIGN = [
    b"?",
    b"[]",
    b'{"offset":3,"index":0}',
    b'{"offset":3,"index":"x"}',
    b'{"offset":-3,"index":0}',
    b'{"offset":1e30,"index":0}',
    b'{"offset":null}',
    b"\xff",
    b"",
]


def test_D25_foreign_records_in_the_topics_of_a_worker_mislead_it_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("upbit", Channel.TICKER)
    good = frames("upbit", "ticker")[0].payload
    out, letters = processed_topic(log.region, Channel.TICKER), dead_letter_topic(log.source.topic)

    def disturb() -> None:
        for value in FOREIGN:
            for topic in (out, letters):
                log.broker.append(topic, 0, "\\xff", value)
        stolen = log.broker.read(letters, 0, 0, 1)
        for letter in stolen:  # one of ours that somebody else has copied
            log.broker.append(letters, 0, "", letter.value)

    log.append(good, b"{half", good, good)
    log.run()
    disturb()
    log.append(good, b"{more")
    log.run()  # a new worker looks for where the last one stopped
    disturb()
    places = [origin for record in log.broker.read(out, 0, 0, 1 << 30) if (origin := processed.origin(record))]
    assert [place.offset for place in places] == [0, 2, 3, 4]
    assert request(log.source, log.broker) == (0, 2 + 18)
    assert f"{letters}[0]: offset 1: not a dead letter; records skipped: 18" in caplog.text
    log.run()
    assert [
        (letter.offset, letter.attempts) for letter in LetterReader(log.broker.read(letters, 0, 0, 1 << 30), "")
    ] == [
        *((1, 1), (1, 1), (5, 1), (1, 1), (1, 2), (5, 2)),
    ]


@pytest.mark.parametrize("name", ["offset", "partition", "log_time", "time", "attempts"])
@pytest.mark.parametrize("value", [-1, 1 << 63, 10**30])
def test_D25_a_letter_with_a_number_that_no_column_holds_is_none(name: str, value: int) -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(b"{half")
    log.run()
    [letter] = log.letters
    body = json.loads(letter.pack()) | {name: value}
    log.broker.append(dead_letter_topic(log.source.topic), 0, letter.header, json.dumps(body).encode())
    assert request(log.source, log.broker) == (0, 2)
    log.run()


def test_a_round_is_bounded_and_the_next_one_goes_on() -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(*[b"{}"] * (MOST_RECORDS + 5))
    lane = log.lane()
    assert [log.work(lane) for _ in range(3)] == [MOST_RECORDS, 5, 0]


def test_a_worker_processes_all_partitions_until_it_is_stopped() -> None:
    settings, stop = SETTINGS.model_copy(update={"batch_interval": 0.0}), threading.Event()
    log = Log("upbit", Channel.TICKER)
    books = Log("bithumb", Channel.ORDERBOOK)
    books.broker = log.broker
    working = Worker(log.region, [EXCHANGES["upbit"], EXCHANGES["bithumb"]], settings, log.broker)
    thread = threading.Thread(target=working.run, args=(stop,))
    thread.start()
    try:
        log.recorded("ticker")
        books.recorded("orderbook")
        ready = threading.Event()
        while log.broker.committed(working.partitions[0].group, log.source.topic, 0) != len(log.raw()):
            assert not ready.wait(0.01)
        log.append(b"{half")  # what waits at the end is processed too
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert log.processed and books.processed and len(log.letters) == 1
    assert log.broker.committed(group(log.region, Channel.TICKER), log.source.topic, 0) == len(log.raw())


def test_what_cannot_be_stored_is_not_committed() -> None:
    log = Log("upbit", Channel.TICKER)
    log.broker = broker = FaultyBroker(clock=lambda: log.time)
    log.recorded("ticker")
    working = Worker(log.region, [EXCHANGES["upbit"]], SETTINGS, broker)
    broker.refuse("flush", DeliveryError("the disk is full"))
    with pytest.raises(DeliveryError, match="the disk is full"):
        working.drain()
    assert log.broker.committed(group(log.region, Channel.TICKER), log.source.topic, 0) is None


def test_what_is_no_dead_letter_is_said_to_be_none() -> None:
    with pytest.raises(DecodeError, match="not a dead letter"):
        dead_letters.unpack(b"{}")


def test_a_round_is_bounded_in_bytes_too_but_for_a_single_frame() -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(b"x" * MOST_BYTES, *[b"x" * (MOST_BYTES // 2)] * 3)
    lane = log.lane()
    assert [log.work(lane) for _ in range(4)] == [1, 2, 1, 0]


def test_S7_what_is_redriven_after_a_crash_is_not_redriven_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(Exception):
        pass

    def crash() -> None:
        broker.refuse("commit", Crash(), lambda group, *_: group == TRIED)

    log = Log("upbit", Channel.TICKER)
    log.broker = broker = FaultyBroker(clock=lambda: log.time)
    good = frames("upbit", "ticker")[0].payload
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(good, b"{half", good)
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
    log = Log("upbit", Channel.TICKER)
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


def test_S7_a_frame_that_newer_code_can_read_is_not_both_a_letter_and_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log("upbit", Channel.TICKER)
    with monkeypatch.context() as broken:
        broken.setattr(EXCHANGES["upbit"], "decode", lambda frame: (_ for _ in ()).throw(DecodeError("old code")))
        log.append(frames("upbit", "ticker")[0].payload)
        log.work(log.lane())  # killed before it commits
    log.run()
    assert (len(log.letters), log.processed) == (1, [])
    assert request(log.source, log.broker) == (1, 0)
    assert [record["offset"] for record in log.processed] == [0]


def test_a_worker_finds_where_it_stopped_behind_any_number_of_redriven_records() -> None:
    log = Log("upbit", Channel.TICKER)
    log.append(*[frames("upbit", "ticker")[0].payload] * 2)
    log.work(log.lane())  # killed before it commits
    for _ in range(TAIL_RECORDS + 1):
        log.broker.append(processed_topic(log.region, Channel.TICKER), 0, "", b'{"offset":0,"index":0,"redriven":true}')
    log.run()
    assert [record["offset"] for record in log.processed if "redriven" not in record] == [0, 1]


def test_a_trade_told_long_before_a_restart_is_told_once_in_its_window() -> None:
    log = Log("kraken", Channel.TRADE)
    payload = next(frame.payload for frame in frames("kraken", "trade") if b'"data"' in frame.payload)
    log.append(payload, *[b'{"channel":"heartbeat"}'] * (TAIL_RECORDS + 100))
    log.run()
    told = len(log.processed)
    assert told
    log.append(payload)
    log.run()
    assert len(log.processed) == told


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_frame_of_another_exchange_is_a_dead_letter(exchange: str) -> None:
    same = {"upbit", "bithumb"}  # they write the same messages
    others = [name for name in EXCHANGES if name != exchange and {name, exchange} != same]
    log = Log(exchange, Channel.TICKER)
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
    log = Log(exchange, Channel.TICKER)
    log.append(payload)
    log.run()
    [letter] = log.letters
    assert "strange" in letter.reason and letter.exchange == exchange
