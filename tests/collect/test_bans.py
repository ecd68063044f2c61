"""A rate limit holds for requests, connects and messages, in whatever form an exchange states it."""

import asyncio
import json
from collections.abc import Iterator

import httpx

from coin_platform.collect.poller import Poller
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.traffic import Traffic
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Event, Frame, Pair, Refused
from coin_platform.records import Transport
from tests.kit.access import quick_access
from tests.kit.bench import BTC, ETH, live_feed
from tests.kit.clock import MovedClock
from tests.kit.kraken import Quick
from tests.kit.recordings import say
from tests.kit.refusals import LIMITS
from tests.kit.waiting import eventually

BAN_SECONDS = 1.0


class Banning(Quick):
    """Kraken that states a ban on its socket, with its seconds."""

    def read(self, frame: Frame) -> Iterator[Event]:
        if frame.payload.startswith(b'{"ban"'):
            yield Refused(reason="Exceeded msg rate", ban_seconds=json.loads(frame.payload)["ban"])
        else:
            yield from super().read(frame)


async def test_R9_a_ban_told_on_a_socket_stops_messages_connects_and_requests_but_no_pings() -> None:
    loop = asyncio.get_running_loop()
    async with live_feed(BTC, channel=Channel.TRADE, exchange=Banning(), ping_every=0.1) as bench:
        await eventually(lambda: bench.fake.asked)  # for the past of the first connection
        banned = loop.time()
        await bench.fake.say(json.dumps({"ban": BAN_SECONDS}))
        await eventually(lambda: bench.feed.access.rest.banned_seconds)
        bench.feed.follow([BTC, ETH])
        asked, heard = len(bench.fake.asked), len(bench.fake.heard)
        await eventually(lambda: "subscribe" in [message["method"] for message in bench.fake.heard[heard:]])
        subscribed, asked = loop.time(), len(bench.fake.asked) - asked
        methods = [message["method"] for message in bench.fake.heard[heard:]]
        assert methods[: methods.index("subscribe")].count("ping") >= 2
        await bench.fake.say(json.dumps({"ban": BAN_SECONDS}))
        await eventually(lambda: bench.feed.access.rest.banned_seconds)
        await bench.fake.sockets[0].close(1013)
        await eventually(lambda: len(bench.fake.opened) == 2)
        subscribed = subscribed - banned
        connected = loop.time() - subscribed
    assert subscribed >= BAN_SECONDS - 0.01
    assert connected >= BAN_SECONDS - 0.01
    assert asked == 0


class Hasty:
    """The limits of an exchange that paces nothing, so that only its bans hold."""

    limits = Quick.limits


class Watched(Rest):
    """A REST client that remembers its bans, in seconds."""

    bans: list[float]

    def forbid(self, seconds: float, reason: str = "") -> None:
        self.bans.append(seconds)
        super().forbid(seconds, reason)


async def refused(name: str) -> None:
    """Check that a poller obeys the rate limit of an exchange, stated in a body under HTTP 200."""
    exchange = EXCHANGES[name]
    hasty: Exchange = type(name, (Hasty, type(exchange)), {})()
    pairs = [Pair("BTC", exchange.quote), Pair("ETH", exchange.quote)]
    refusal = LIMITS[name][0].encode()
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=refusal)

    rest, clock = Watched(hasty, httpx.MockTransport(answer)), MovedClock()
    rest.bans = []
    route = Route(hasty, Channel.CANDLE, 0, "candles", 7, 60 * SECOND)
    access = quick_access(hasty, rest, clock=clock)
    poller = Poller(pairs, Recorder(route, access, Traffic(), Transport.REST), access)
    running = asyncio.create_task(poller.run())
    await eventually(lambda: rest.bans)
    clock.monotonic += 30  # the other pair is due
    await clock.looks()
    assert poller.state != "live", name
    poller.end("stopped")
    await running
    await rest.close()
    [event] = say(name, Channel.CANDLE, refusal, pairs[0])
    assert isinstance(event, Refused)
    assert (rest.bans, len(asked), event.ban_seconds >= 1) == ([event.ban_seconds], 1, True), name


async def test_R9_after_a_rate_limit_under_HTTP_200_the_next_pair_is_not_asked_for_while_it_lasts() -> None:
    await asyncio.gather(*map(refused, EXCHANGES))
