"""One socket, against a server on loopback that speaks Kraken from its recordings."""

import asyncio
import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from coin_platform import __version__
from coin_platform.broker import MemoryBroker
from coin_platform.collect import websocket
from coin_platform.collect.actions import Failed
from coin_platform.collect.feed import Feed
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.session import Session
from coin_platform.exchanges.base import Limits
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Channel,
    Event,
    Frame,
    Kind,
    Level,
    Notice,
    Pair,
    Refusal,
)
from coin_platform.records import frame, unpack, unpack_facts
from tests.kit.access import quick_access
from tests.kit.bench import BTC, ETH, MINUTE, XRP, live_feed, running_feed
from tests.kit.clock import MovedClock
from tests.kit.kraken import (
    BOOKS,
    HEARTBEAT,
    SNAPSHOT,
    UPDATES,
    Quick,
    Refusing,
    depth,
    frames,
    records,
    values,
)
from tests.kit.waiting import eventually

BAD = UPDATES[0].replace('"checksum":', '"checksum":1')


async def test_frames_are_stored_as_they_came_numbered_from_one_and_bracketed() -> None:
    async with live_feed() as bench:
        await bench.fake.push("BTC/USD", UPDATES)
        await bench.stored(UPDATES[-1])
    stored = bench.records()
    assert [value for _, value in frames(stored)] == bench.fake.sent[0]
    assert [header.number for header, _ in frames(stored)] == list(range(1, len(bench.fake.sent[0]) + 1))
    assert (stored[0][0].kind, stored[-1][0].kind) == (Kind.OPENED, Kind.CLOSED)
    assert {(header.epoch, header.connection) for header, _ in stored} == {(7, stored[0][0].connection)}
    opened, closed = unpack_facts(stored[0][1]), unpack_facts(stored[-1][1])
    assert (opened.url, opened.pairs, opened.code) == ("wss://ws.kraken.com/v2", ["BTC-USD"], __version__)
    assert closed.reason == "stopped"


async def test_a_frame_is_in_the_log_before_anything_looks_inside_it() -> None:
    broker = MemoryBroker()
    newest: list[bool] = []

    class Watching(Quick):
        def decode(self, frame: Frame) -> list[Event]:
            newest.append(records(broker)[-1][1] == frame.payload)
            return super().decode(frame)

    async with live_feed(exchange=Watching(), broker=broker) as bench:
        await bench.fake.push("BTC/USD", UPDATES)
        await bench.stored(UPDATES[-1])
    assert newest == [True] * (2 + len(UPDATES))  # the answer, the snapshot, the updates


async def test_a_stop_loses_nothing_that_was_sent_before_the_server_closed() -> None:
    async with live_feed() as bench:
        bench.fake.sockets[0].transport.pause_reading()  # our closing frame is on its way for a while
        bench.stop.set()
        for number in range(200):
            await bench.fake.say(json.dumps({"channel": "heartbeat", "n": number}))
            await asyncio.sleep(0.001)
        bench.fake.sockets[0].transport.resume_reading()
    stored = [value for _, value in frames(bench.records())]
    assert len(stored) == 202
    assert stored == bench.fake.sent[0]
    assert bench.records()[-1][0].kind is Kind.CLOSED


async def test_a_server_that_does_not_answer_the_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert websocket.CLOSE_SECONDS == 2
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 1.5)

    async with live_feed() as bench:
        server = bench.fake.sockets[0]
        server.transport.pause_reading()
        bench.stop.set()
        await eventually(lambda: bench.feed.status.state == "closing")
        state = bench.feed.status.state
        await eventually(lambda: not bench.feed.connections)
        server.transport.abort()
    assert state == "closing"
    assert bench.records()[-1][0].kind is Kind.CLOSED


async def test_an_exchange_that_cannot_be_reached_is_tried_again() -> None:
    stop, rest = asyncio.Event(), Rest(Quick())
    nobody = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    host = f"127.0.0.1:{nobody.sockets[0].getsockname()[1]}"
    nobody.close()
    await nobody.wait_closed()
    route = Route(Quick(), Channel.ORDERBOOK, 0, BOOKS, 7, MINUTE, host)
    feed = Feed(route, [BTC], quick_access(route.exchange, rest))
    running = asyncio.create_task(feed.run(stop))
    await eventually(lambda: feed.status.reconnects == 1)
    status = feed.status
    stop.set()
    await running
    await rest.close()
    error = status.last_error
    state = feed.status.state
    assert "Connect call failed" in error
    assert state == "waiting"


async def test_a_stop_while_connecting_does_not_wait_for_the_exchange() -> None:
    stop, rest = asyncio.Event(), Rest(Quick())
    writers: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    host = f"127.0.0.1:{mute.sockets[0].getsockname()[1]}"
    route = Route(Quick(), Channel.ORDERBOOK, 0, BOOKS, 7, MINUTE, host)
    feed = Feed(route, [BTC], quick_access(route.exchange, rest))
    running = asyncio.create_task(feed.run(stop))
    await eventually(lambda: writers)
    assert feed.status.state == "connecting"
    stop.set()
    async with asyncio.timeout(0.8 * websocket.OPEN_SECONDS):
        await running
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    mute.close()
    await rest.close()


async def test_F3_a_connection_that_stays_open_and_silent_is_replaced() -> None:
    class Impatient(Quick):
        silence_seconds = 100.0

    async with live_feed(exchange=Impatient()) as bench:
        bench.clock.monotonic += 80
        await eventually(lambda: bench.feed.connections[0].state == "stale")
        bench.clock.monotonic += 30
        await eventually(lambda: len(bench.fake.sent) == 2)
        await bench.live()
        reconnects = bench.feed.status.reconnects
    assert reconnects == 1
    assert unpack_facts(bench.values(Kind.CLOSED)[0]).reason == "silent for 100 s"


async def test_F3_heartbeats_keep_a_connection() -> None:
    class Impatient(Quick):
        silence_seconds = 40.0

    async with live_feed(exchange=Impatient()) as bench:
        for _ in range(10):  # twice the silence that would end it
            bench.clock.monotonic += 8
            await bench.fake.say(HEARTBEAT)
            await bench.clock.looks()
        assert len(bench.fake.opened) == 1


async def test_F4_B2_a_server_that_closes_at_once_is_not_hammered() -> None:
    async with running_feed() as bench:
        bench.fake.closes_at_once = True
        await eventually(lambda: len(bench.fake.opened) == 3)
        opened = bench.fake.opened
        error = bench.feed.status.last_error
    assert opened[1] - opened[0] >= 0.5
    assert opened[2] - opened[1] >= 1.0
    assert "1000" in error


async def test_F4_a_ban_at_the_upgrade_is_obeyed_to_the_second(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_feed() as bench:
            bench.fake.refusal = (429, {"Retry-After": "2"})
            await bench.live()
            opened = bench.fake.opened
    assert opened[1] - opened[0] >= 1.99
    assert "kraken orderbook 0: ended, HTTP 429; again in" in caplog.text


async def test_a_server_that_goes_away_is_come_back_to() -> None:
    async with live_feed() as bench:
        await bench.fake.sockets[0].close(1013, "restarting")
        await eventually(lambda: len(bench.fake.sent) == 2)
        await bench.live()
        reconnects = bench.feed.status.reconnects
    assert reconnects == 1
    assert "1013" in unpack_facts(bench.values(Kind.CLOSED)[0]).reason
    assert [header.number for header, _ in frames(bench.records())] == [1, 2, 1, 2]


def kinds(broker: MemoryBroker) -> Iterator[tuple[int, Kind]]:
    """Yield the number of the connection, from 0, and the kind of each record."""
    names: list[str] = []
    for header, _ in records(broker):
        if header.connection not in names:
            names.append(header.connection)
        yield names.index(header.connection), header.kind


async def test_F5_a_planned_rotation_has_data_from_the_successor_before_the_old_one_closes() -> None:
    async with running_feed(BTC, ETH, lifetime=(0.3, 0.3)) as bench:
        await eventually(lambda: Kind.CLOSED in [kind for _, kind in kinds(bench.broker)])
    seen = list(kinds(bench.broker))
    before = seen[: seen.index((0, Kind.CLOSED))]
    assert before.count((1, Kind.SOCKET)) == 4  # two answers, two snapshots
    assert unpack_facts(bench.values(Kind.CLOSED)[0]).reason == "replaced"


async def test_F5_an_announced_end_is_answered_with_a_successor() -> None:
    class Announcing(Quick):
        def read(self, frame: Frame) -> Iterator[Event]:
            if b"maintenance" in frame.payload:
                return iter((Notice(reason="maintenance"),))
            return super().read(frame)

    async with live_feed(exchange=Announcing()) as bench:
        await bench.fake.say('{"channel":"status","note":"maintenance"}')
        await bench.fake.say('{"channel":"status","note":"maintenance"}')
        await eventually(lambda: Kind.CLOSED in [kind for _, kind in kinds(bench.broker)])
    seen = list(kinds(bench.broker))
    assert (1, Kind.SOCKET) in seen[: seen.index((0, Kind.CLOSED))]
    assert (2, Kind.OPENED) not in seen  # two notices, one successor


async def test_F6_a_jump_of_the_wall_clock_reconnects_nothing() -> None:
    clock = MovedClock()

    async with live_feed(clock=clock) as bench:
        for hours in (1, -1):
            clock.wall = hours * 3600 * SECOND
            await bench.fake.say(HEARTBEAT)
            await clock.looks()
        assert (len(bench.fake.opened), bench.feed.status.state) == (1, "live")


async def test_an_unknown_pair_is_named_with_its_remedy_and_the_others_are_live(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nope = Pair("NOPE", "USD")

    with caplog.at_level(logging.ERROR):
        async with running_feed(BTC, nope, ETH, exchange=Refusing(Refusal.FINAL)) as bench:
            bench.fake.unknown.add("NOPE/USD")
            await bench.live()
            await bench.fake.push("ETH/USD", UPDATES[:1])
            await bench.stored(UPDATES[0].replace("BTC/USD", "ETH/USD"))
            status = bench.feed.status
            refused = status.refused
            troubled = status.invalid | status.unconfirmed
            state = status.state
    assert refused == {nope: Failed(nope, "Currency pair not supported NOPE/USD", Refusal.FINAL)}
    assert (troubled, state) == (frozenset(), "live")
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line == (
        "kraken orderbook 0: NOPE-USD is refused for good, Currency pair not supported NOPE/USD; "
        "take it out of COIN_PAIRS"
    )


async def test_F2_a_bad_update_resyncs_its_pair_alone(caplog: pytest.LogCaptureFixture) -> None:
    clock = MovedClock()

    with caplog.at_level(logging.INFO):
        async with live_feed(BTC, ETH, clock=clock) as bench:
            clock.monotonic += 11  # the subscription's own snapshot is long past
            for _ in range(100):
                await bench.fake.push("BTC/USD", [BAD])
            await eventually(lambda: bench.fake.methods("unsubscribe"))
            await eventually(lambda: bench.feed.connections[-1].session.invalid == frozenset())
            invalid = bench.feed.status.invalid
            unconfirmed = bench.feed.status.unconfirmed
            lost = bench.feed.status.lost
    assert bench.fake.methods("unsubscribe") == [["BTC/USD"]]
    assert bench.fake.methods("subscribe") == [["BTC/USD", "ETH/USD"], ["BTC/USD"]]
    assert (invalid, unconfirmed, lost, len(bench.fake.opened)) == (frozenset(), frozenset(), 1, 1)
    assert "book of BTC-USD lost" in caplog.text
    assert "book of BTC-USD is right again" in caplog.text
    assert "ETH-USD lost" not in caplog.text


async def test_every_checkpoint_is_the_book_that_the_frames_before_it_make() -> None:
    clock = MovedClock()

    async with live_feed(BTC, ETH, clock=clock) as bench:
        for number, update in enumerate(UPDATES):
            await bench.fake.push("BTC/USD", [update])
            await bench.fake.push("ETH/USD", [update])
            if number == len(UPDATES) // 2:
                await bench.stored(update.replace("BTC/USD", "ETH/USD"))
                clock.wall += MINUTE
                await eventually(lambda: len(bench.values(Kind.CHECKPOINT)) == 4)
    stored = bench.records()
    session, checkpoints = Session(Quick(), Channel.ORDERBOOK, [BTC, ETH]), []
    last = 0
    for header, value in stored:
        if header.kind is Kind.SOCKET:
            moment = clock()
            session.received(frame("kraken", Channel.ORDERBOOK, header, value), moment)
            last = header.number
        elif header.kind is Kind.CHECKPOINT:
            book = unpack_facts(value).book
            assert book is not None
            pair = Pair.parse(book.pair)
            assert (header.number, [book]) == (last, list(session.checkpoints(frozenset({pair}))))
            checkpoints.append((pair, last))
    assert [pair for pair, _ in checkpoints] == [BTC, ETH, BTC, ETH]  # after their snapshots, and before the boundary
    assert checkpoints[2][1] == checkpoints[3][1] > checkpoints[1][1]


async def test_F7_each_of_the_books_at_a_boundary_is_logged_in_a_turn_of_the_loop_of_its_own() -> None:
    clock, broker, turns, seen = MovedClock(), MemoryBroker(), 0, list[tuple[Kind, int]]()
    append = broker.append

    def noting(topic: str, partition: int, header: str, value: bytes) -> None:
        seen.append((unpack(header).kind, turns))
        append(topic, partition, header, value)

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    broker.append = noting  # type: ignore[method-assign]
    async with live_feed(BTC, ETH, XRP, clock=clock, broker=broker):
        await eventually(lambda: len(values(records(broker), Kind.CHECKPOINT)) == 3)  # after the snapshots
        turning = asyncio.create_task(turn())
        clock.wall += MINUTE
        await eventually(lambda: len(values(records(broker), Kind.CHECKPOINT)) == 6)
        turning.cancel()
    logged = [at for kind, at in seen if kind is Kind.CHECKPOINT][3:]  # without those after the snapshots
    assert len(set(logged)) == 3


async def test_where_books_are_always_whole_a_checkpoint_only_says_what_the_connection_is() -> None:
    class Whole(Quick):
        has_deltas = False

    clock = MovedClock()

    async with live_feed(BTC, ETH, exchange=Whole(), clock=clock) as bench:
        clock.wall += MINUTE
        await eventually(lambda: bench.values(Kind.CHECKPOINT))
    [value] = bench.values(Kind.CHECKPOINT)
    facts = unpack_facts(value)
    assert (facts.pairs, facts.book, facts.code) == (["BTC-USD", "ETH-USD"], None, __version__)


async def test_a_book_above_a_mebibyte_is_logged_at_most_once_an_hour() -> None:
    levels = [Level(float(price), 0.123456789012) for price in range(1, 60_001)]

    class Deep(Quick):
        silence_seconds = mute_seconds = 1e6

        def read(self, frame: Frame) -> Iterator[Event]:
            if frame.payload == SNAPSHOT.encode():
                yield BookUpdate(pair=BTC, is_snapshot=True, bids=levels, asks=[Level(1e6, 1.0)])

    clock = MovedClock()

    async with live_feed(exchange=Deep(), clock=clock) as bench:
        await eventually(lambda: bench.values(Kind.CHECKPOINT))
        counts = [len(bench.values(Kind.CHECKPOINT))]
        for wall, monotonic in ((60, 60), (3600, 3600)):
            clock.wall += wall * SECOND
            clock.monotonic += monotonic
            await clock.looks()
            counts.append(len(bench.values(Kind.CHECKPOINT)))
    assert counts == [1, 1, 2]


async def test_pairs_change_without_reconnecting_and_the_log_knows() -> None:
    async with live_feed(BTC, ETH) as bench:
        bench.feed.follow([ETH, XRP, XRP])
        await bench.stored(SNAPSHOT.replace("BTC/USD", "XRP/USD"))
    assert bench.fake.methods("subscribe") == [["BTC/USD", "ETH/USD"], ["XRP/USD"]]
    assert bench.fake.methods("unsubscribe") == [["BTC/USD"]]
    assert [unpack_facts(value).pairs for value in bench.values(Kind.PAIRS)] == [["ETH-USD", "XRP-USD"]]
    assert len(bench.fake.opened) == 1


async def test_a_feed_without_pairs_has_no_connection_until_it_gets_one() -> None:
    async with live_feed(BTC) as bench:
        bench.feed.follow([])
        await eventually(lambda: not bench.feed.connections)
        idle = bench.feed.status.state
        bench.feed.follow([ETH])
        await eventually(lambda: bench.feed.connections and bench.feed.connections[-1].ready.is_set())
        assert (idle, bench.feed.status.state, len(bench.fake.opened)) == ("idle", "live", 2)


class Bridged(Quick):
    """Kraken whose snapshots come over REST."""

    is_bridged = True


async def test_a_fetched_book_is_a_numbered_frame_with_its_pair_and_then_a_checkpoint() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, content=depth("BTC/USD"))

    async with running_feed(exchange=Bridged(), transport=httpx.MockTransport(answer)) as bench:
        bench.fake.sends_snapshots = False
        await eventually(lambda: bench.fake.methods("subscribe"))
        await bench.fake.push("BTC/USD", UPDATES[:3])
        await eventually(lambda: bench.values(Kind.CHECKPOINT))
    stored = bench.records()
    assert asked == ["/kraken/0/public/Depth"]
    [(header, value)] = [(header, value) for header, value in stored if header.kind is Kind.REST]
    assert (header.pair, value) == (BTC, depth("BTC/USD"))
    assert [header.number for header, _ in frames(stored)] == [1, 2, 3, 4, 5]
    following = stored[[kind.kind for kind, _ in stored].index(Kind.REST) + 1][0]
    assert (following.kind, following.number) == (Kind.CHECKPOINT, header.number)


async def test_a_book_that_could_not_be_fetched_is_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([httpx.Response(500), httpx.Response(200, content=b'{"error":["EGeneral:Busy"]}')])
    clock = MovedClock()

    class Patient(Bridged):
        silence_seconds = mute_seconds = 1000.0

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers, httpx.Response(200, content=depth("BTC/USD")))

    with caplog.at_level(logging.INFO):
        async with running_feed(exchange=Patient(), transport=httpx.MockTransport(answer), clock=clock) as bench:
            bench.fake.sends_snapshots = False
            await eventually(lambda: bench.fake.methods("subscribe"))
            await bench.fake.push("BTC/USD", UPDATES[:1])
            await eventually(lambda: "not fetched" in caplog.text)
            clock.monotonic += 11
            await bench.fake.push("BTC/USD", UPDATES[1:2])
            await eventually(lambda: "EGeneral:Busy" in caplog.text)
            clock.monotonic += 11
            await eventually(lambda: bench.values(Kind.CHECKPOINT))
    assert "book of BTC-USD not fetched" in caplog.text
    assert "500" in caplog.text
    assert "book of BTC-USD is right again" in caplog.text


async def test_messages_that_the_limits_keep_back_are_bounded() -> None:
    class Slow(Quick):
        limits = Limits(messages_per_second=0.01, connects_per_minute=60_000)

    async with live_feed(BTC, exchange=Slow()) as bench:
        for number in range(1000):
            bench.feed.follow([ETH] if number % 2 else [BTC])
        await eventually(lambda: not bench.feed.connections)
        assert bench.feed.status.last_error == "1000 messages wait to be sent"


async def test_what_the_exchange_wants_to_hear_is_said() -> None:
    class Pinged(Quick):
        ping = '{"method":"ping"}'
        ping_every = 0.1

    async with running_feed(exchange=Pinged()) as bench:
        await eventually(lambda: [heard for heard in bench.fake.heard if heard == {"method": "ping"}][1:])
        assert len(bench.fake.opened) == 1


async def test_how_often_it_is_said_can_be_set() -> None:
    class Pinged(Quick):
        ping = '{"method":"ping"}'
        ping_every = 3600.0

    async with running_feed(exchange=Pinged(), ping_every=0.1) as bench:
        await eventually(lambda: [heard for heard in bench.fake.heard if heard == {"method": "ping"}][1:])
        assert len(bench.fake.opened) == 1
