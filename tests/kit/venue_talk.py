"""Talk to one simulated exchange without sockets, and compare its messages with the market and with recordings."""

import json
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from coin_platform.book import Applied
from coin_platform.exchanges import EXCHANGES
from coin_platform.model import SECOND, BookUpdate, Channel, Event, Frame, Kind, Level, Pair, Side, Subscribed
from coin_platform.simulator import VENUES
from coin_platform.simulator.faults import Faults, Mischief
from coin_platform.simulator.market import Listing, Market
from coin_platform.simulator.venue import Message, RestAnswer, Venue
from tests.kit.recordings import frames

Json: TypeAlias = Any

TIME = 1_795_478_400_000_000  # µs; a midnight, UTC
STEP = SECOND // 10  # of the market, in µs
PAIR_CHANNELS: tuple[Channel, ...] = tuple(
    channel for channel in Channel if channel is not Channel.INSTRUMENT
)  # about one pair each
SIZE_DIGITS = {"bithumb": 4}  # to which sizes in books are cut; 6 elsewhere


def pair_of(name: str, base: str = "BTC") -> Pair:
    """Return a pair that an exchange lists."""
    return Pair(base, EXCHANGES[name].quote)


class Talk:
    """One client of one simulated exchange: its requests, and the answers to them."""

    def __init__(self, name: str, channel: Channel = Channel.ORDERBOOK, seed: int = 7, **faults: Any) -> None:
        self.name, self.channel, self.exchange, self.pair = name, channel, EXCHANGES[name], pair_of(name)
        self.time = TIME
        self.market = Market(seed, {name: (self.pair, pair_of(name, "ETH"))}, TIME)
        self.venue: Venue = VENUES[name](self.market, urlsplit(self.exchange.socket_url(channel)).path)
        self.mischief = Mischief(Faults(**faults), "seed")
        self.venue.refused = self.mischief.faults.refuse
        self.book = self.exchange.book()

    @property
    def listing(self) -> Listing:
        """The market's own view of the pair."""
        return self.market.listings[self.name][self.pair]

    def subscribe(self, *pairs: Pair, id: int = 1) -> list[Message]:
        """Subscribe as the real adapter does, and return the answers."""
        requests = self.exchange.subscribe(self.channel, pairs or (self.pair,), id=id, time=self.time)
        return [message for request in requests for message in self.venue.received(request.payload, self.time)]

    def unsubscribe(self) -> list[Message]:
        """Unsubscribe as the real adapter does, and return the answers."""
        requests = self.exchange.unsubscribe(self.channel, (self.pair,), id=9, time=self.time)
        return [message for request in requests for message in self.venue.received(request.payload, self.time)]

    def ping(self) -> list[Message]:
        """Return the answer to a ping. Where the real adapter sends no ping, subscribe or unsubscribe."""
        if self.exchange.ping is not None:
            return list(self.venue.received(self.exchange.ping, self.time))
        return self.unsubscribe() or self.subscribe()

    def request(self, request: Json) -> list[Json]:
        """Return the answers to a request, as JSON."""
        return raw(list(self.venue.received(json.dumps(request), self.time)))

    def step(self) -> list[Message]:
        """Let 100 ms pass, and return the messages of this step."""
        self.time += STEP
        self.market.step(self.time)
        return list(self.mischief.step(self.venue.step(self.time)))

    def steps(self, count: int) -> list[Message]:
        """Let `count` times 100 ms pass, and return the messages of these steps."""
        return [message for _ in range(count) for message in self.step()]

    def decode(self, message: Message) -> list[Event]:
        """Return the events of a message, as the real adapter reads it."""
        return self.decode_as(message.payload, Kind.SOCKET)

    def events(self, messages: list[Message]) -> list[Event]:
        """Return the events of messages, as the real adapter reads them."""
        return [event for message in messages for event in self.decode(message)]

    def decode_as(self, payload: str, kind: Kind) -> list[Event]:
        """Return the events of a message or of a REST answer, as the real adapter reads it."""
        frame = Frame(
            exchange=self.name,
            channel=self.channel,
            connection="c",
            number=1,
            received_time=self.time,
            payload=payload.encode(),
            kind=kind,
            pair=self.pair if kind is Kind.REST else None,
        )
        return self.exchange.decode(frame)

    def take(self, messages: list[Message]) -> None:
        """Apply messages to the book as the real session does."""
        for event in self.events(messages):
            if isinstance(event, Subscribed) and event.depth:
                self.book.depth = event.depth
            if isinstance(event, BookUpdate) and self.exchange.apply(self.book, event) is Applied.WAITING:
                self.fetch()

    def fetch(self) -> None:
        """Apply the whole book of REST, if no whole book comes over the socket."""
        if self.exchange.is_bridged:
            for event in self.rest_events(self.channel, self.pair):
                assert isinstance(event, BookUpdate)
                self.exchange.apply(self.book, event)

    def rest(self, channel: Channel, pair: Pair | None = None) -> RestAnswer:
        """Return the answer to the real adapter's REST request."""
        parts = urlsplit(self.exchange.request_url(channel, pair or self.pair) or "")
        return self.venue.rest(parts.path, dict(parse_qsl(parts.query)), self.time)

    def rest_events(self, channel: Channel, pair: Pair) -> list[Event]:
        """Return the events of the answer to the real adapter's REST request."""
        return self.decode_as(self.rest(channel, pair).body, Kind.REST)


def raw(messages: list[Message]) -> list[Json]:
    """Return messages as JSON."""
    return [json.loads(message.payload) for message in messages]


def form(value: Json) -> Json:
    """Return the names and types of a message without its values. Of a list return the form of its first entry."""
    if isinstance(value, dict):
        return {name: form(part) for name, part in value.items()}
    return [form(part) for part in value[:1]] if isinstance(value, list) else type(value)


def recorded(name: str, stem: str, index: int) -> Json:
    """Return a recorded message as JSON."""
    return json.loads(frames(name, stem)[index].payload)


def levels(listing: Listing, side: Side, count: int, digits: int = 6) -> list[Level]:
    """Return the best levels of a side of the market's book. Sizes are cut to so many digits."""
    cut = digits - 6 or None
    return [Level(listing.number(ticks), float(f"{size:.6f}"[:cut])) for ticks, size in listing.levels(side, count)]


def plain(decoded: list[Level]) -> list[Level]:
    """Return levels without their texts."""
    return [Level(level.price, level.size) for level in decoded]
