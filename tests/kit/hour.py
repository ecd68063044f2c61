"""Log simulated exchanges as collectors would, in a fraction of the time, on a clock that only the test moves."""

import random
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, urlsplit

from coin_platform.broker import Broker
from coin_platform.collect.access import ExchangeAccess
from coin_platform.collect.actions import Action, Fetch, Send
from coin_platform.collect.pacing import TokenBucket
from coin_platform.collect.recorder import Recorder
from coin_platform.collect.rest import Rest
from coin_platform.collect.route import Route
from coin_platform.collect.session import Session
from coin_platform.collect.traffic import Traffic
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Source
from coin_platform.model import SECOND, Instant, Kind, Microseconds
from coin_platform.records import Transport
from coin_platform.selection import sources, wanted_pairs
from coin_platform.settings import Settings
from coin_platform.simulator import VENUES
from coin_platform.simulator.faults import Faults, Mischief
from coin_platform.simulator.market import Market
from coin_platform.simulator.venue import Message

FAULTS = Faults(drop=0.002, repeat=0.002, swap=0.002, bad=0.002)


class Clock:
    """The time of the simulated world; each look at it takes a millisecond."""

    def __init__(self, time: Microseconds) -> None:
        self.time = time

    def __call__(self) -> Instant:
        self.time += 1000
        return Instant(self.time, self.time / SECOND)


class Line:
    """Connect a simulated exchange to the real session and recorder, without sockets."""

    def __init__(
        self, source: Source, broker: Broker, market: Market, clock: Clock, settings: Settings, faults: Faults
    ) -> None:
        self._exchange, self._channel, self._clock = source.exchange, source.channel, clock
        self._pairs = wanted_pairs(source.exchange, settings)
        self._is_polled = source.channel in source.exchange.polled
        route = Route(
            exchange=source.exchange,
            channel=source.channel,
            shard=0,
            topic=source.topic,
            epoch=1,
            window=settings.window_length,
        )
        transport = Transport.REST if self._is_polled else Transport.SOCKET
        access = ExchangeAccess(source.exchange, broker, Rest(source.exchange), TokenBucket(1.0), clock=clock)
        self._recorder = Recorder(route, access, Traffic(), transport)
        self._session = Session(source.exchange, source.channel, self._pairs)
        self._venue = VENUES[source.exchange.name](market, urlsplit(source.exchange.socket_url(source.channel)).path)
        self._mischief = Mischief(faults, f"{source.exchange.name} {source.channel}")

    def open(self) -> None:
        """Connect and subscribe."""
        moment = self._recorder.open(self._pairs)
        if not self._is_polled:
            self._hear(self._venue.opened(moment.wall))
            self._do(self._session.opened(moment))

    def step(self) -> None:
        """Log the messages of the exchange after a step of the market, and our checkpoints."""
        moment = self._clock()
        if self._is_polled:
            for pair in self._pairs:
                self._do([Fetch(pair, self._exchange.request_url(self._channel, pair) or "")])
            return
        self._hear(self._mischief.step(self._venue.step(moment.wall)))
        self._do(self._session.tick(self._clock()))
        fresh = self._session.take_fresh()
        for checkpoint in self._session.checkpoints(None if self._recorder.turned(self._clock()) else fresh):
            self._recorder.log(Kind.CHECKPOINT, self._pairs, checkpoint)

    def _hear(self, messages: Iterable[Message]) -> None:
        for message in list(messages):
            frame, moment = self._recorder.take(Kind.SOCKET, message.payload.encode())
            self._do(self._session.received(frame, moment))

    def _do(self, actions: Iterable[Action]) -> None:
        for action in list(actions):
            if isinstance(action, Send):
                self._hear(self._venue.received(action.payload, self._clock().wall))
            elif isinstance(action, Fetch):
                parts = urlsplit(action.url)
                answer = self._venue.rest(parts.path, dict(parse_qsl(parts.query)), self._clock().wall)
                frame, moment = self._recorder.take(Kind.REST, answer.body.encode(), action.pair)
                self._do(self._session.received(frame, moment))


class World:
    """Exchanges, a market, and the connections to them."""

    def __init__(
        self,
        names: Sequence[str],
        broker: Broker,
        clock: Clock,
        settings: Settings,
        *,
        seed: int = 7,
        faults: Faults = FAULTS,
    ) -> None:
        self.clock = clock
        self.sources = [source for name in names for source in sources(EXCHANGES[name], settings)]
        self._market = Market(seed, {name: wanted_pairs(EXCHANGES[name], settings) for name in names}, clock.time)
        self._lines = [Line(source, broker, self._market, clock, settings, faults) for source in self.sources]
        self._random = random.Random(seed)
        for line in self._lines:
            line.open()

    def run(self, steps: int, pace: Microseconds) -> None:
        """Let the market move `steps` times, about `pace` apart, and log the messages. A few of them get lost."""
        for _ in range(steps):
            self.clock.time += round(pace * self._random.uniform(0.5, 1.5))
            self._market.step(self.clock.time)
            for line in self._lines:
                line.step()
