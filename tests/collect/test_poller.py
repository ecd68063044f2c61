"""Polling over REST, on a transport of httpx: the requests, and their records in the log."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from coin_platform import __version__
from coin_platform.book import Applied
from coin_platform.broker import MemoryBroker
from coin_platform.collect.poll_plan import MINUTE_SECONDS
from coin_platform.collect.poller import Poller
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.traffic import Traffic
from coin_platform.errors import DeliveryError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange, Source
from coin_platform.model import SECOND, BookUpdate, Channel, Kind, Level, Pair
from coin_platform.records import Facts, Header, Transport, unpack_facts
from coin_platform.simulator.recordings import read
from coin_platform.tables.dataframes import batch
from coin_platform.tables.orderbook import ConnectionBooks
from coin_platform.topic_names import raw_topic
from tests.kit.access import quick_access
from tests.kit.clock import MovedClock
from tests.kit.faulty_broker import FaultyBroker
from tests.kit.kraken import BOOKS, CANDLES, Quick, depth, frames, records, values
from tests.kit.waiting import eventually

BTC, ETH, SOL = (Pair(base, "USD") for base in ("BTC", "ETH", "SOL"))
CANDLE_TOPIC = raw_topic("ne", Channel.CANDLE)
DATA = Path(__file__).parent.parent / "data"
PAGE = b"<html>we are improving our service</html>"
REFUSED = b'{"error":["EQuery:Unknown asset pair"]}'

Answer = Callable[[httpx.Request], httpx.Response]


class Brisk(Quick):
    """Kraken without candles on its socket."""

    channels = frozenset(Channel) - {Channel.CANDLE}


def fine(request: httpx.Request) -> httpx.Response:
    """Answer every request well."""
    pair = request.url.params["pair"]
    return httpx.Response(200, content=depth(pair) if "Depth" in request.url.path else CANDLES)


@contextlib.asynccontextmanager
async def polling(
    *pairs: Pair,
    answer: Answer = fine,
    channel: Channel = Channel.CANDLE,
    exchange: Exchange | None = None,
    broker: MemoryBroker | None = None,
    clock: MovedClock | None = None,
) -> AsyncIterator[tuple[Poller, MemoryBroker]]:
    """Poll until the block ends."""
    exchange, broker = exchange or Brisk(), broker or MemoryBroker()
    rest = Rest(exchange, httpx.MockTransport(answer))
    route = Route(exchange, channel, 0, raw_topic("ne", channel), 7, 60 * SECOND)
    access = quick_access(exchange, rest, broker, clock=clock)
    poller = Poller(pairs, Recorder(route, access, Traffic(), Transport.REST), access)
    async with asyncio.TaskGroup() as group:
        group.create_task(poller.run())
        try:
            yield poller, broker
        finally:
            poller.end("stopped")
    await rest.close()


async def test_answers_are_stored_as_they_came_numbered_from_one_with_their_pair_and_bracketed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return fine(request)

    clock = MovedClock()
    async with polling(BTC, ETH, answer=answer, clock=clock) as (poller, broker):
        await eventually(lambda: len(asked) == 1)
        assert poller.state == "live"
        clock.monotonic += 1
        await eventually(lambda: not poller.plan.unconfirmed)
    assert poller.state == "closing"
    stored = records(broker, CANDLE_TOPIC)
    assert [header.kind for header, _ in stored] == [Kind.OPENED, Kind.REST, Kind.REST, Kind.CLOSED]
    assert [(header.number, header.pair, value) for header, value in frames(stored)] == [
        (1, BTC, CANDLES),
        (2, ETH, CANDLES),
    ]
    assert {(header.epoch, header.connection) for header, _ in stored} == {(7, stored[0][0].connection)}
    assert stored[0][0].connection.startswith("candle-0r-")
    opened, closed = unpack_facts(stored[0][1]), unpack_facts(stored[-1][1])
    assert (opened.transport, opened.pairs, opened.code) == ("rest", ["BTC-USD", "ETH-USD"], __version__)
    assert opened.url == "https://api.kraken.com"
    assert (closed.transport, closed.reason) == ("rest", "stopped")
    assert asked == [f"https://api.kraken.com/0/public/OHLC?pair={base}/USD&interval=1" for base in ("BTC", "ETH")]


async def test_its_frames_become_rows_that_say_rest_and_every_frame_is_accounted_for() -> None:
    async with polling(BTC, channel=Channel.ORDERBOOK) as (poller, broker):
        await eventually(lambda: not poller.plan.unconfirmed)
    source = Source(Brisk(), Channel.ORDERBOOK, BOOKS, 1)
    result = batch(source, broker.read(BOOKS, 1, 0, broker.end_offset(BOOKS, 1)))
    assert result.rows.select("pair", "transport", "number").rows() == [("BTC-USD", "rest", 1)]
    assert (result.counts["frames"], result.counts["frames_rows"], result.counts["own_records"]) == (1, 1, 2)


async def test_F5_a_poller_is_complete_once_every_pair_has_been_answered() -> None:
    clock = MovedClock()
    async with polling(BTC, ETH, answer=fine, clock=clock) as (poller, _):
        await eventually(lambda: poller.state == "live")
        assert poller.plan.unconfirmed == {ETH} and not poller.is_complete, "or a take-over leaves a gap of ETH"
        clock.monotonic += 1
        await eventually(lambda: poller.is_complete)
    assert not poller.is_complete


async def test_F4_nothing_is_asked_during_a_ban_and_windows_know_the_connection_meanwhile() -> None:
    clock, times = MovedClock(), list[float]()

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return httpx.Response(429, headers={"Retry-After": "2"}, content=PAGE)
        return fine(request)

    async with polling(BTC, ETH, answer=answer, clock=clock) as (poller, broker):
        await eventually(lambda: poller.last_error)
        error = poller.last_error
        clock.wall += 60 * SECOND  # another window
        await eventually(lambda: values(records(broker, CANDLE_TOPIC), Kind.CHECKPOINT))
        clock.monotonic += 1  # the next pair's turn
        await eventually(lambda: poller.plan.unconfirmed == {BTC})
        assert poller.last_error == ""
    assert error == "HTTP 429"
    assert times[1] - times[0] >= 1.99
    kinds = [header.kind for header, _ in records(broker, CANDLE_TOPIC)]
    assert kinds == [Kind.OPENED, Kind.CHECKPOINT, Kind.REST, Kind.CLOSED]
    [checkpoint] = values(records(broker, CANDLE_TOPIC), Kind.CHECKPOINT)
    facts = unpack_facts(checkpoint)
    assert (facts.transport, facts.pairs, facts.book) == ("rest", ["BTC-USD", "ETH-USD"], None)


@pytest.mark.parametrize("status", [403, 418, 429])
def test_F4_an_end_does_not_wait_for_a_ban(status: int) -> None:
    async def scenario() -> None:
        clock = MovedClock()
        refusal = httpx.Response(status, headers={"Retry-After": "3600"}, content=PAGE)
        async with polling(BTC, answer=lambda request: refusal, clock=clock) as (poller, _):
            await eventually(lambda: poller.last_error)
            clock.monotonic += 2 * MINUTE_SECONDS
            await clock.looks()

    asyncio.run(asyncio.wait_for(scenario(), 60))  # the ban lasts an hour


async def test_B5_a_page_instead_of_an_answer_is_stored_and_counted_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = MovedClock()

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=PAGE) if "BTC" in str(request.url) else fine(request)

    with caplog.at_level(logging.WARNING):
        async with polling(BTC, ETH, answer=answer, clock=clock) as (poller, broker):
            await eventually(lambda: poller.plan.refused)
            clock.monotonic += 1
            await eventually(lambda: not poller.plan.unconfirmed)
            clock.monotonic += MINUTE_SECONDS + 5
            await eventually(lambda: poller.plan.traffic.undecodable == 2)
            undecodable = poller.plan.traffic.undecodable
    assert undecodable == 2
    stored = list(frames(records(broker, CANDLE_TOPIC)))
    assert [(header.number, header.pair, value) for header, value in stored][:3] == [
        (1, BTC, PAGE),
        (2, ETH, CANDLES),
        (3, BTC, PAGE),
    ]
    [line] = [record.getMessage() for record in caplog.records if record.name.endswith("poller")]
    assert line.startswith("kraken candle 0: nothing of BTC-USD over REST, kraken: JSON is malformed")


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (httpx.Response(404, content=PAGE), "HTTP 404"),
        (httpx.Response(400, content=PAGE), "HTTP 400"),
        (httpx.Response(200, content=REFUSED), "EQuery:Unknown asset pair"),
    ],
)
async def test_a_refused_pair_is_named_once_and_the_others_go_on(
    refusal: httpx.Response, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, asked = MovedClock(), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["pair"])
        return refusal if asked[-1] == "BTC/USD" else fine(request)

    with caplog.at_level(logging.WARNING):
        async with polling(BTC, ETH, answer=answer, clock=clock) as (poller, _):
            for count in (1, 2, 3, 4):
                await eventually(lambda count=count: len(asked) == count)  # type: ignore[misc]
                clock.monotonic += 1 if count % 2 else MINUTE_SECONDS + 5
            await eventually(lambda: not poller.plan.unconfirmed)
            assert [failed[:2] for failed in poller.plan.refused.values()] == [(BTC, reason)]
    assert asked[:4] == ["BTC/USD", "ETH/USD", "BTC/USD", "ETH/USD"]
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("poller")]
    [line] = lines
    assert line.removesuffix("; asking again") == f"kraken candle 0: nothing of BTC-USD over REST, {reason}"


async def test_a_broken_network_is_told_once_and_asked_on(caplog: pytest.LogCaptureFixture) -> None:
    clock, calls = MovedClock(), list[float]()

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise httpx.ConnectError("no route to host", request=request)
        return fine(request) if len(calls) == 3 else httpx.Response(503)

    with caplog.at_level(logging.WARNING):
        async with polling(BTC, answer=answer, clock=clock) as (poller, _):
            seen = []
            for count in (1, 2):
                await eventually(lambda count=count: len(calls) == count)  # type: ignore[misc]
                await asyncio.sleep(0)
                seen.append((poller.state, poller.last_error))
                clock.monotonic += MINUTE_SECONDS + 5
            await eventually(lambda: poller.state == "live")
            seen.append((poller.state, poller.last_error))
            clock.monotonic += 2 * MINUTE_SECONDS + 5
            await eventually(lambda: len(calls) == 4)
            seen.append((poller.state, poller.last_error))
    assert seen == [("connecting", "no route to host"), ("connecting", "HTTP 503"), ("live", ""), ("stale", "HTTP 503")]
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("poller")]
    assert lines == [
        "kraken candle 0: no answer over REST, no route to host; asking on",
        "kraken candle 0: no answer over REST, HTTP 503; asking on",
    ]


async def test_pairs_change_while_it_runs_and_the_log_knows() -> None:
    async with polling(BTC, ETH) as (poller, broker):
        await eventually(lambda: poller.plan.unconfirmed == {ETH})
        poller.follow([SOL, BTC])
        await eventually(lambda: not poller.plan.unconfirmed)
    stored = records(broker, CANDLE_TOPIC)
    assert [header.pair for header, _ in frames(stored)] == [BTC, SOL]
    assert [unpack_facts(value).pairs for value in values(stored, Kind.PAIRS)] == [["SOL-USD", "BTC-USD"]]


async def test_an_answer_that_cannot_be_stored_ends_it() -> None:
    broker = FaultyBroker()
    broker.refuse("append", DeliveryError("the disk is full: make room"), lambda *record: record[-1] == CANDLES)
    with pytest.raises(ExceptionGroup) as caught:
        async with polling(BTC, broker=broker):
            await asyncio.Event().wait()
    assert caught.group_contains(DeliveryError, match="make room")
    stored = records(broker, CANDLE_TOPIC)
    assert [header.kind for header, _ in stored] == [Kind.OPENED, Kind.CLOSED]
    assert unpack_facts(stored[-1][1]).reason == "broken off"


@pytest.mark.parametrize("name", [name for name, exchange in EXCHANGES.items() if exchange.has_deltas])
def test_a_polled_book_is_a_row_of_its_own_and_leaves_the_sockets_alone(name: str) -> None:
    exchange, books, polled = EXCHANGES[name], ConnectionBooks(EXCHANGES[name]), 0
    for _, frame in read(exchange, DATA / name / "rest_orderbook.jsonl"):
        for answer in exchange.decode(frame):
            assert isinstance(answer, BookUpdate)
            pair, level = answer.pair, Level(0.5, 1.0)
            socket = BookUpdate(pair=pair, is_snapshot=True, bids=[level], asks=[Level(0.75, 2.0)], last_sequence=7)
            change = BookUpdate(
                pair=pair, is_snapshot=False, bids=[Level(0.5, 3.0)], asks=[], first_sequence=8, last_sequence=8
            )
            books.row("socket", socket)
            for _ in range(2):  # nothing may have happened between two requests
                applied, row, faults = books.row("rest", answer)
                assert (applied, faults) == (Applied.APPLIED, [])
                assert row is not None
                best_bid, best_ask = (
                    max(level.price for level in answer.bids),
                    min(level.price for level in answer.asks),
                )
                assert (row[0], row[1], row[3], row[5]) == (True, answer.last_sequence, best_bid, best_ask)
            applied, row, faults = books.row("socket", change)
            assert (applied, faults) == (Applied.APPLIED, [])
            assert row is not None
            assert (row[1], row[3], row[4], row[5]) == (8, 0.5, 3.0, 0.75)
            for connection in ("socket", "rest"):  # the recordings are of different days
                books.take_own_record(Header(Kind.CLOSED, 0, connection, 2, 0), Facts())
            polled += 1
    assert polled
