"""A toy exchange for tests of the session, and a session whose time is only a number."""

from collections.abc import Iterator, Sequence

from coin_platform.collect.actions import Action
from coin_platform.collect.session import Session
from coin_platform.exchanges.base import Exchange, Request
from coin_platform.exchanges.parsing import chunks
from coin_platform.model import (
    SECOND,
    BookUpdate,
    Channel,
    Event,
    Frame,
    Instant,
    Kind,
    Level,
    Microseconds,
    Pair,
    Proof,
    Refusal,
    Refused,
    Region,
    Ticker,
)

A, B, C = Pair("A", "USD"), Pair("B", "USD"), Pair("C", "USD")
START = 1_800_000_000 * SECOND


class Toy(Exchange):
    """An exchange with requests of two pairs in plain words. Its frames hold the events that a test puts into them."""

    name = "toy"
    title = "Toy"
    region = Region.NE
    partition = 9
    quote = "USD"
    channels = frozenset(Channel)
    proof = Proof.SEQUENCE
    ws_url = "wss://toy"
    rest_url = "https://toy"
    has_deltas = True
    numbers = True

    def __init__(self) -> None:
        self.said: list[list[Event]] = []

    def symbol(self, pair: Pair) -> str:
        return str(pair)

    def pair(self, symbol: str) -> Pair:
        return Pair.parse(symbol)

    def subscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("+", pairs, id)

    def unsubscribe(self, channel: Channel, pairs: Sequence[Pair], *, id: int, time: Microseconds) -> Iterator[Request]:
        return self._ask("-", pairs, id)

    def _ask(self, sign: str, pairs: Sequence[Pair], id: int) -> Iterator[Request]:
        for number, some in enumerate(chunks(pairs, 2), id):
            yield Request(sign + " ".join(pair.base for pair in some), some, number if self.numbers else None)

    def read(self, frame: Frame) -> Iterator[Event]:
        yield from self.said[int(frame.payload)]

    def read_rest(self, frame: Frame) -> Iterator[Event]:
        return self.read(frame)

    def request_url(self, channel: Channel, pair: Pair) -> str | None:
        return f"{self.rest_url}/{pair.base}"

    def frame(self, *events: Event, rest: Pair | None = None) -> Frame:
        """Return a frame that holds these events."""
        self.said.append(list(events))
        return raw(str(len(self.said) - 1), rest=rest)


class Strict(Toy):
    """An exchange that refuses a whole request for one bad pair."""

    refuses_whole_request = True


class Bridged(Toy):
    """An exchange whose snapshots come over REST."""

    is_bridged = True


class Whole(Toy):
    """An exchange whose every message is the whole book."""

    has_deltas = False


def raw(payload: str, *, rest: Pair | None = None, name: str = "toy") -> Frame:
    """Return a frame with this payload."""
    return Frame(
        exchange=name,
        channel=Channel.ORDERBOOK,
        connection="c",
        number=1,
        received_time=START,
        payload=payload.encode(),
        kind=Kind.SOCKET if rest is None else Kind.REST,
        pair=rest,
    )


def at(seconds: float) -> Instant:
    """Return the instant so many seconds after the start."""
    return Instant(START + int(seconds * SECOND), 1000 + seconds)


class Talk:
    """An open session, and its first actions."""

    def __init__(self, exchange: Toy, *pairs: Pair, channel: Channel = Channel.ORDERBOOK) -> None:
        self.exchange, self.session = exchange, Session(exchange, channel, pairs, chance=lambda: 1.0)
        self.first = self.session.opened(at(0))

    def hear(self, *events: Event, after: float = 0.0, rest: Pair | None = None) -> list[Action]:
        """Return the actions of the session for a frame with these events."""
        return self.session.received(self.exchange.frame(*events, rest=rest), at(after))

    def tick(self, after: float) -> list[Action]:
        """Return the actions that are due so many seconds after the start."""
        return self.session.tick(at(after))


def final(pair: Pair | None = None, request: int | None = None, reason: str = "unknown") -> Refused:
    return Refused(pair=pair, request=request, reason=reason, refusal=Refusal.FINAL)


def later(pair: Pair | None = None, request: int | None = None, reason: str = "busy", ban: float = 0.0) -> Refused:
    return Refused(pair=pair, request=request, reason=reason, refusal=Refusal.TEMPORARY, ban_seconds=ban)


def snapshot(pair: Pair, last: int) -> BookUpdate:
    return BookUpdate(pair=pair, is_snapshot=True, bids=[Level(9.0, 1.0)], asks=[Level(10.0, 1.0)], last_sequence=last)


def update(pair: Pair, first: int) -> BookUpdate:
    bids = [Level(9.0, float(first))]
    return BookUpdate(pair=pair, is_snapshot=False, bids=bids, asks=[], first_sequence=first, last_sequence=first)


def ticker(pair: Pair) -> Ticker:
    return Ticker(pair=pair, last="1")
