"""Define what a simulated exchange is: the exchange's side of one connection, without I/O."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar, NamedTuple

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import SECOND, Channel, Microseconds, Pair, Side
from coin_platform.simulator.market import CACHED_TEXTS, Bar, Listing, Market


class MessageKind(StrEnum):
    """The kinds of messages to a client, as sent.jsonl writes them."""

    DATA = "data"
    CONTROL = "control"
    BAD = "bad"  # malformed on purpose


class Message(NamedTuple):
    """A message to the client."""

    payload: str
    kind: MessageKind = MessageKind.DATA


class RestAnswer(NamedTuple):
    """An answer to a REST request, and its HTTP status."""

    body: str
    status: int = 200


def control(payload: str) -> Message:
    """Return a message without market data."""
    return Message(payload, MessageKind.CONTROL)


class Venue(ABC):
    """The exchange's side of one connection. `time` is always now, UTC, and rises by 1 ms or more from call to call."""

    name: ClassVar[str]
    is_binary: ClassVar[bool] = False

    def __init__(self, market: Market, path: str = "") -> None:
        self.exchange: Exchange = EXCHANGES[self.name]
        self.path = path
        self.refused = ""  # this symbol is refused although it is listed
        self.steps = 0
        self.subscriptions: dict[tuple[Channel, Pair], None] = {}
        self._listings = {self.exchange.symbol(pair): listing for pair, listing in market.listings[self.name].items()}

    @abstractmethod
    def received(self, text: str, time: Microseconds) -> Iterator[Message]:
        """Yield the answers to a message of the client."""

    @abstractmethod
    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Message]:
        """Yield the messages of a channel about one pair now. The first ones follow a subscription."""

    def opened(self, time: Microseconds) -> Iterator[Message]:
        """Yield the greetings to a new client."""
        return iter(())

    def idle(self, time: Microseconds) -> Iterator[Message]:
        """Yield the messages that come about once a second, even if the market stands still."""
        return iter(())

    def notice(self, time: Microseconds) -> Iterator[Message]:
        """Yield the announcement that the connection will be closed. Most exchanges send none."""
        return iter(())

    def step(self, time: Microseconds) -> Iterator[Message]:
        """Yield the messages that the last step of the market gives for the subscribed pairs."""
        self.steps += 1
        if self.steps % 10 == 0:
            yield from self.idle(time)
        for channel, pair in list(self.subscriptions):
            listing = self._listings[self.exchange.symbol(pair)]
            if channel is not Channel.CANDLE or self.steps % 10 == 0 or listing.closed:
                yield from self.data(channel, listing, time, is_first=False)

    @abstractmethod
    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> RestAnswer:
        """Return the answer to a REST request for one of the paths that the real adapter uses."""

    def listing(self, symbol: str) -> Listing | None:
        """Return the listing of a symbol, or None if the exchange does not know the symbol."""
        return None if symbol == self.refused else self._listings.get(symbol)

    def listings(self) -> dict[str, Listing]:
        """Return all listings by the exchange's own symbols."""
        return {symbol: listing for symbol, listing in self._listings.items() if symbol != self.refused}

    def subscribe(self, channel: Channel, listing: Listing, time: Microseconds) -> Iterator[Message]:
        """Begin a pair's channel, and yield the first messages to its subscriber."""
        self.subscriptions[channel, listing.pair] = None
        yield from self.data(channel, listing, time, is_first=True)

    def unsubscribe(self, channel: Channel, listing: Listing) -> None:
        """End a pair's channel."""
        self.subscriptions.pop((channel, listing.pair), None)


def prices(listing: Listing, bar: Bar) -> dict[str, str]:
    """Write a bar's open, high, low and close (as `last`) with the digits of the tick."""
    names = {"open": bar.open, "high": bar.high, "low": bar.low, "last": bar.close}
    return {name: listing.price(ticks) for name, ticks in names.items()}


def quotes(listing: Listing) -> dict[str, str | float]:
    """Return the best bid and ask and their sizes."""
    bid, ask = listing.best()
    sizes = {"bid_size": listing.bids[bid], "ask_size": listing.asks[ask]}
    return {"bid": listing.price(bid), "ask": listing.price(ask), **sizes}


def taker(side: Side, buy: str, sell: str) -> str:
    """Return the exchange's word for the side of the taker."""
    return buy if side is Side.BUY else sell


@lru_cache(CACHED_TEXTS)
def short(value: str | float) -> str:
    """Write a number without the zeros at its end: 64010, 0.875077."""
    text = f"{value:.6f}" if isinstance(value, float) else value
    return text.rstrip("0").rstrip(".") if "." in text else text


def figures(listing: Listing, bar: Bar) -> dict[str, str]:
    """Write a bar's prices, `volume` and `value` (of the volume, in quote currency) without the zeros at their ends."""
    texts: dict[str, str | float] = {**prices(listing, bar), "volume": bar.volume, "value": bar.value}
    return {name: short(value) for name, value in texts.items()}


def rfc3339(time: Microseconds) -> str:
    """Write a time like 2026-08-02T03:35:51.660084Z."""
    moment = datetime.fromtimestamp(time // SECOND, UTC).replace(microsecond=time % SECOND)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def compact(value: object) -> str:
    """Write JSON without blanks, as the exchanges do."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
