"""A feed polls over REST while it has no live socket."""

import asyncio
import logging
from itertools import pairwise

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from coin_platform.collect.poll_plan import OUTAGE_SECONDS
from coin_platform.exchanges.base import Source
from coin_platform.model import Channel, Kind, Pair
from coin_platform.records import unpack_facts
from coin_platform.tables.dataframes import batch
from tests.kit.bench import BTC, ETH, running_feed
from tests.kit.kraken import BOOKS, UPDATES, FakeKraken, Quick, frames
from tests.kit.waiting import eventually


async def test_REST_stands_in_for_a_socket_that_stays_away_until_there_is_one_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        async with running_feed() as bench:
            await eventually(lambda: bench.state == ("live", "ws"))
            await bench.fake.fall()
            await eventually(lambda: len(bench.fake.opened) > 1)
            bench.clock.monotonic += OUTAGE_SECONDS - 5
            await bench.clock.looks()
            assert (bench.feed.poller, bench.fake.asked) == (None, [])
            bench.clock.monotonic += 5
            await eventually(lambda: bench.state == ("live", "rest"))
            assert bench.feed.status.connection.startswith("orderbook-0r-")
            bench.feed.follow([BTC, ETH])
            bench.clock.monotonic += 1
            await eventually(lambda: len(bench.fake.asked) == 2)
            bench.fake.is_down = False  # connecting goes on, so it is noticed
            await eventually(lambda: bench.state == ("live", "ws"))
            asked = list(bench.fake.asked)
            bench.clock.monotonic += 15  # both pairs would be due again
            await bench.fake.push("BTC/USD", UPDATES)
            await bench.clock.looks()
            assert bench.fake.asked == asked
    assert asked == [f"/kraken/0/public/Depth?pair={base}/USD&count=500" for base in ("BTC", "ETH")]
    stored = bench.records()
    connections = list(dict.fromkeys(header.connection for header, _ in stored))
    assert len(connections) == 3
    kinds = {name: [header.kind for header, _ in stored if header.connection == name] for name in connections}
    assert kinds[connections[1]] == [Kind.OPENED, Kind.REST, Kind.PAIRS, Kind.REST, Kind.CLOSED]
    closing = [unpack_facts(value) for header, value in stored if header.kind is Kind.CLOSED]
    assert [(facts.transport, facts.reason) for facts in closing][1:] == [
        ("rest", "a connection is live"),
        ("ws", "stopped"),
    ]
    for name in connections:
        numbers = [header.number for header, _ in frames(stored) if header.connection == name]
        assert numbers == list(range(1, len(numbers) + 1))
    assert "kraken orderbook 0: no live connection for 10 s, polled over REST until there is" in caplog.text
    assert "kraken orderbook 0: polled no longer, a connection is live" in caplog.text
    result = batch(
        Source(Quick(), Channel.ORDERBOOK, BOOKS, 1), bench.broker.read(BOOKS, 1, 0, bench.broker.end_offset(BOOKS, 1))
    )
    assert result.rows.filter(transport="rest").height == 2
    assert result.rows.filter(transport="ws", pair="BTC-USD").height == 2 + len(UPDATES)
    assert (result.counts["faults"], result.counts["missing"], result.dead.height) == (0, 0, 0)


async def test_a_feed_that_never_got_a_socket_is_polled_and_a_stop_ends_it_at_once() -> None:
    async with running_feed() as bench:
        bench.fake.is_down = True
        await eventually(lambda: bench.fake.opened)
        bench.clock.monotonic += OUTAGE_SECONDS
        await eventually(lambda: bench.state == ("live", "rest"))
        state = bench.feed.status
        await eventually(lambda: len(bench.fake.opened) == 3)
    assert bench.feed.poller is None
    error = state.last_error
    opened = bench.fake.opened
    assert error == "HTTP 502"
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(opened))


async def test_F4_a_ban_at_the_upgrade_holds_over_REST_too() -> None:
    loop = asyncio.get_running_loop()
    async with running_feed() as bench:
        before = loop.time()
        bench.fake.refusal = (429, {"Retry-After": "2"})
        await eventually(lambda: "429" in bench.feed.status.last_error)
        bench.clock.monotonic += OUTAGE_SECONDS
        bench.fake.is_down = True
        await eventually(lambda: bench.state == ("connecting", "rest"))
        await eventually(lambda: bench.fake.asked)
        asked = loop.time()
    assert asked - before >= 1.99


async def test_R9_a_refused_upgrade_that_says_twice_how_long_lasts_as_documented_and_ends_nothing() -> None:
    class Twice(FakeKraken):
        def _gate(self, socket: ServerConnection, request: Request) -> Response | None:
            answer = super()._gate(socket, request)
            if answer is not None and answer.status_code == 429:
                answer.headers["Retry-After"] = "7"  # beside the one that is there
            return answer

    async with running_feed(fake=Twice()) as bench:
        bench.fake.refusal = (429, {"Retry-After": "5"})
        await eventually(lambda: "429" in bench.feed.status.last_error)
        state = bench.feed.status.state
        banned = bench.feed.access.rest.banned_seconds
    assert state == "waiting"
    assert Quick.ban_seconds - 5 < banned <= Quick.ban_seconds


async def test_without_pairs_nothing_is_polled() -> None:
    async with running_feed() as bench:
        bench.fake.is_down = True
        await eventually(lambda: bench.fake.opened)
        bench.clock.monotonic += OUTAGE_SECONDS
        await eventually(lambda: bench.state == ("live", "rest"))
        bench.feed.follow([])
        await eventually(lambda: bench.feed.poller is None)
        bench.clock.monotonic += OUTAGE_SECONDS
        await bench.clock.looks()
        assert bench.feed.poller is None
        bench.feed.follow([ETH])
        await bench.clock.looks()
        assert bench.feed.poller is None  # the new pair's socket has its ten seconds
        bench.clock.monotonic += OUTAGE_SECONDS
        await eventually(lambda: bench.state == ("live", "rest"))
        facts = [unpack_facts(value) for header, value in bench.records() if header.kind is Kind.OPENED]
    assert [(" ".join(fact.pairs), fact.transport) for fact in facts] == [("BTC-USD", "rest"), ("ETH-USD", "rest")]


async def test_where_REST_has_no_address_nothing_stands_in() -> None:
    class Deaf(Quick):
        def request_url(self, channel: Channel, pair: Pair) -> str | None:
            return None

    async with running_feed(exchange=Deaf()) as bench:
        bench.fake.is_down = True
        await eventually(lambda: bench.fake.opened)
        bench.clock.monotonic += 2 * OUTAGE_SECONDS
        await bench.clock.looks()
        assert bench.feed.status.transport == "ws"
    assert bench.records() == []


async def test_a_socket_that_only_opens_is_no_reason_to_stop_polling() -> None:
    class Silent(Quick):
        silence_seconds = 3600.0

    async with running_feed(exchange=Silent()) as bench:
        bench.fake.is_mute = True
        await eventually(lambda: bench.fake.sockets)
        bench.clock.monotonic += OUTAGE_SECONDS + 1  # so long that its successor would not wait for it any more
        await eventually(lambda: bench.state == ("live", "rest"))
        await bench.clock.looks()
        assert bench.state == ("live", "rest")
