"""A feed of trades or candles asks over REST for what it missed before a connection."""

import asyncio
import logging
from collections.abc import Iterator, Sequence

import httpx
import pytest

from coin_platform.broker import MemoryBroker
from coin_platform.collect import pacing
from coin_platform.collect.collector import Collector
from coin_platform.end_reasons import End
from coin_platform.exchanges.base import Limits, Source
from coin_platform.model import Channel, Event, Frame, Kind, Pair, Refusal, Refused, Region
from coin_platform.records import Header, unpack_facts
from coin_platform.settings import Mode, Settings
from coin_platform.tables.dataframes import batch
from coin_platform.topic_names import raw_topic
from tests.kit.bench import BTC, ETH, XRP, Bench, live_feed, running_feed
from tests.kit.kraken import CANDLES, TRADE, TRADES, Quick, fake_kraken, records
from tests.kit.waiting import eventually

TOPIC = raw_topic("ne", Channel.TRADE)


def answers(stored: Sequence[tuple[Header, bytes]]) -> list[tuple[Header, bytes]]:
    """Return the REST answers among records."""
    return [(header, value) for header, value in stored if header.kind is Kind.REST]


async def filled(bench: Bench, count: int) -> None:
    """Wait until this many answers are stored."""
    await eventually(lambda: len(answers(bench.records())) == count)


@pytest.mark.parametrize(("channel", "page"), [(Channel.TRADE, TRADES), (Channel.CANDLE, CANDLES)])
async def test_after_an_unplanned_end_each_pair_is_asked_for_once_and_the_answers_are_frames(
    channel: Channel, page: bytes
) -> None:
    async with running_feed(BTC, ETH, channel=channel) as bench:
        await filled(bench, 2)  # what was before the first connection, nobody here can know
        await bench.fake.sockets[0].close(1013, "restarting")
        await eventually(lambda: len(bench.fake.opened) == 2 and bench.fake.sockets)
        await filled(bench, 4)
        await bench.clock.looks()
        stored = bench.records()
        asked = bench.fake.asked
    assert len(asked) == 4 and ["BTC" in url for url in asked] == [True, False, True, False]
    stored_answers = answers(stored)
    assert [(header.pair, value) for header, value in stored_answers] == [(BTC, page), (ETH, page)] * 2
    for name in {header.connection for header, _ in stored}:
        numbers = [header.number for header, _ in stored if header.connection == name and header.kind.is_frame]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len({header.connection for header, _ in stored_answers}) == 2


async def test_an_answer_comes_after_the_first_data_so_that_nothing_is_between_them() -> None:
    async with running_feed(BTC, ETH, channel=Channel.TRADE) as bench:
        await filled(bench, 2)
        stored = bench.records()
    first = {pair: TRADE.replace("BTC/USD", f"{pair.base}/USD").encode() for pair in (BTC, ETH)}
    payloads = [value for _, value in stored]
    for header, _ in answers(stored):
        assert header.pair is not None
        at = next(index for index, (other, _) in enumerate(stored) if other == header)
        assert payloads.index(first[header.pair]) < at


async def test_a_connection_that_is_handed_over_to_asks_for_nothing() -> None:
    async with running_feed(channel=Channel.TRADE, lifetime=(0.5, 0.5)) as bench:
        await eventually(lambda: len(bench.values(Kind.CLOSED)) == 2)
        ended = [unpack_facts(value).reason for value in bench.values(Kind.CLOSED)]
        asked = bench.fake.asked
    assert (len(asked), ended) == (1, [End.REPLACED, End.REPLACED])


@pytest.mark.parametrize("channel", [Channel.TICKER, Channel.ORDERBOOK])
async def test_what_has_no_past_over_REST_is_not_asked_for(channel: Channel) -> None:
    async with live_feed(channel=channel) as bench:
        await bench.fake.sockets[0].close(1013)
        await eventually(lambda: len(bench.fake.opened) == 2)
        await bench.live()
        await bench.clock.looks()
        assert bench.fake.asked == []


class Refusing(Quick):
    """Kraken that refuses over REST under HTTP 200: `busy 1.5` bans for 1.5 s, `final` is for good."""

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        word, _, seconds = frame.payload.partition(b" ")
        if word in (b"busy", b"final"):
            kind = Refusal.FINAL if word == b"final" else Refusal.TEMPORARY
            yield Refused(reason=word.decode(), pair=frame.pair, refusal=kind, ban_seconds=float(seconds or 0))
        else:
            yield from super().read_rest(frame)


async def test_R9_a_pair_refused_for_the_moment_is_asked_for_until_it_is_answered_and_the_next_has_its_turn(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "LONGEST_DELAY_SECONDS", 0.02)

    with caplog.at_level(logging.WARNING):
        async with running_feed(BTC, ETH, channel=Channel.TRADE, exchange=Refusing()) as bench:
            bench.fake.answers += [
                (500, b"<html>"),
                (200, TRADES),
                (500, b"<html>"),
                *[(200, b"busy")] * 5,
                (200, TRADES),
            ]
            await filled(bench, 7)
            await bench.clock.looks(5)
            asked = bench.fake.asked
            stored_answers = answers(bench.records())
    assert [url.partition("pair=")[2][:3] for url in asked] == ["BTC", "ETH", *["BTC"] * 7]
    assert [value for _, value in stored_answers] == [TRADES, *[b"busy"] * 5, TRADES]
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [  # each reason once
        "kraken trade 0: no past of BTC-USD over REST, HTTP 500; asking again",
        "kraken trade 0: no past of BTC-USD over REST, busy; asking again",
    ]


async def test_R9_after_a_ban_that_a_body_tells_the_past_is_fetched_and_nothing_is_asked_before() -> None:
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(asyncio.get_running_loop().time())
        return httpx.Response(200, content=b"busy 1.5" if len(times) == 1 else TRADES)

    transport = httpx.MockTransport(answer)
    async with running_feed(BTC, ETH, channel=Channel.TRADE, exchange=Refusing(), transport=transport) as bench:
        await filled(bench, 3)
    assert len(times) == 3
    assert times[1] - times[0] >= 1.49


async def test_R9_a_pair_that_is_wanted_no_more_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LONGEST_DELAY_SECONDS", 0.02)
    benches: list[Bench] = []
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["pair"])
        if asked == ["BTC/USD"]:
            benches[0].feed.follow([ETH])
            return httpx.Response(500)
        return httpx.Response(200, content=TRADES)

    transport = httpx.MockTransport(answer)
    async with running_feed(BTC, ETH, channel=Channel.TRADE, exchange=Refusing(), transport=transport) as bench:
        benches.append(bench)
        await filled(bench, 1)
        await bench.clock.looks(5)
    assert asked == ["BTC/USD", "ETH/USD"]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(404, b"", "HTTP 404"), (200, b"<html>", "kraken: JSON is malformed"), (200, b"final", "final")],
)
async def test_what_would_fail_again_is_not_asked_for_again(
    caplog: pytest.LogCaptureFixture, status: int, body: bytes, reason: str
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_feed(channel=Channel.TRADE, exchange=Refusing()) as bench:
            bench.fake.answers.append((status, body))
            await eventually(lambda: "given up" in caplog.text)
            await bench.clock.looks()
            assert len(bench.fake.asked) == 1
    assert reason in caplog.text


async def test_a_pair_without_an_address_is_left_out_and_a_dead_host_is_named(caplog: pytest.LogCaptureFixture) -> None:
    class Partial(Quick):
        def request_url(self, channel: Channel, pair: Pair) -> str | None:
            return None if pair == BTC else super().request_url(channel, pair)

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    with caplog.at_level(logging.WARNING):
        transport = httpx.MockTransport(refuse)
        async with running_feed(BTC, ETH, channel=Channel.TRADE, exchange=Partial(), transport=transport):
            await eventually(lambda: "asking again" in caplog.text)
    assert {record.getMessage().partition(";")[0] for record in caplog.records} == {
        "kraken trade 0: no past of ETH-USD over REST, ConnectTimeout"
    }


async def test_one_request_of_a_feed_is_under_way_and_F4_the_budget_holds() -> None:
    under_way, most, times = 0, 0, list[float]()

    class Slow(Quick):
        limits = Limits(messages_per_second=1000, connects_per_minute=60_000, requests_per_second=5)

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way, most = under_way + 1, max(most, under_way + 1)
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.02)
        under_way -= 1
        return httpx.Response(200, content=TRADES)

    transport = httpx.MockTransport(answer)
    pairs = [Pair(f"A{number}", "USD") for number in range(8)]
    async with running_feed(*pairs, channel=Channel.TRADE, exchange=Slow(), transport=transport) as bench:
        await filled(bench, 8)
    assert (most, len(times)) == (1, 8)
    assert times[-1] - times[0] >= (8 - 2) / 5 - 0.05  # a burst of two, then five a second


async def test_F4_a_ban_delays_the_second_attempt_until_its_end() -> None:
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            return httpx.Response(429, headers={"Retry-After": "2"})
        return httpx.Response(200, content=TRADES)

    async with running_feed(channel=Channel.TRADE, transport=httpx.MockTransport(answer)) as bench:
        await filled(bench, 1)
    assert times[1] - times[0] >= 1.99


async def test_B14_pages_that_repeat_are_out_of_order_or_empty_end_and_give_each_trade_once() -> None:
    rows = [
        ["83930.30000", "0.00005100", 1790359840.9, "s", "l", "", 109118758],
        ["83928.00000", "0.00044682", 1790359841.1, "b", "m", "", 109118759],
        ["83935.40000", "0.00551352", 1790359841.1, "b", "m", "", 109118760],
    ]

    def page(*numbers: int) -> bytes:
        """Return a page with the trades of these numbers, and a cursor that leads to the same page."""
        listed = ",".join(str(rows[number]).replace("'", '"') for number in numbers)
        return f'{{"error":[],"result":{{"BTC/USD":[{listed}],"last":"0"}}}}'.encode()

    pages = [page(), page(0, 1, 2), page(2, 1, 0, 0), page(1, 2)]

    async with running_feed(channel=Channel.TRADE) as bench:
        bench.fake.answers = [(200, body) for body in pages]
        for count in range(1, 5):
            await filled(bench, count)
            for socket in bench.fake.sockets if count < 4 else []:
                await socket.close(1013)
        await bench.clock.looks()
        asked = len(bench.fake.asked)
    assert asked == len(pages)  # one page for each connection, whatever the cursor says
    stored = bench.broker.read(TOPIC, 1, 0, bench.broker.end_offset(TOPIC, 1))
    result = batch(Source(Quick(), Channel.TRADE, TOPIC, 1), stored)
    streamed = "109116693"  # each new connection was told it again
    assert sorted(result.rows["id"]) == [streamed, *(str(row[-1]) for row in rows)]
    assert result.dead.height == 0


async def test_a_collector_that_starts_asks_once_for_what_it_may_have_missed() -> None:
    broker, stop = MemoryBroker(), asyncio.Event()
    async with fake_kraken() as fake:
        settings = Settings(
            exchanges_mode=Mode.SIMULATED,
            simulator_port=fake.port,
            channels=(Channel.TICKER, Channel.TRADE),
            pairs=(BTC, XRP),
        )
        collector = Collector(Region.NE, settings, broker, exchanges=[Quick()])
        running = asyncio.create_task(collector.run(stop))
        await eventually(lambda: len(fake.asked) == 2)
        await eventually(lambda: len(answers(records(broker, TOPIC))) == 2)
        stop.set()
        await running
    asked = fake.asked
    _ = broker
    assert asked == [f"/kraken/0/public/Trades?pair={base}/USD&count=1000" for base in ("BTC", "XRP")]
