"""What a simulated exchange is: one connection's side of the protocol, without I/O."""

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
from coin_platform.simulator.market import KNOWN, Bar, Listing, Market


class Kind(StrEnum):
    """What a message to the client is."""

    DATA = "data"
    CONTROL = "control"
    BAD = "bad"  # malformed on purpose


class Out(NamedTuple):
    """A message to the client."""

    payload: str
    kind: Kind = Kind.DATA


class Answer(NamedTuple):
    """An answer to a REST request."""

    body: str
    status: int = 200


def control(payload: str) -> Out:
    """Return a message without market data."""
    return Out(payload, Kind.CONTROL)


class Venue(ABC):
    """One connection to a simulated exchange. `time` is always now, UTC, and rises by 1 ms or more."""

    name: ClassVar[str]
    is_binary: ClassVar[bool] = False

    def __init__(self, market: Market, path: str = "") -> None:
        self.exchange: Exchange = EXCHANGES[self.name]
        self.path = path
        self.refused = ""  # a symbol that is not known, though it is listed
        self.steps = 0
        self.subscriptions: dict[tuple[Channel, Pair], None] = {}
        self._listings = {self.exchange.symbol(pair): item for pair, item in market.listings[self.name].items()}

    @abstractmethod
    def received(self, text: str, time: Microseconds) -> Iterator[Out]:
        """Answer a message of the client."""

    @abstractmethod
    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Out]:
        """Say what a channel says of one pair now; `is_first` after a subscription."""

    def opened(self, time: Microseconds) -> Iterator[Out]:
        """Greet a new client."""
        return iter(())

    def idle(self, time: Microseconds) -> Iterator[Out]:
        """Send what comes about once a second, whatever the market does."""
        return iter(())

    def notice(self, time: Microseconds) -> Iterator[Out]:
        """Announce that the connection will be closed, where the exchange does so."""
        return iter(())

    def step(self, time: Microseconds) -> Iterator[Out]:
        """Send what the last step of the market gives the subscribed pairs."""
        self.steps += 1
        if self.steps % 10 == 0:
            yield from self.idle(time)
        for channel, pair in list(self.subscriptions):
            listing = self._listings[self.exchange.symbol(pair)]
            if channel is not Channel.CANDLE or self.steps % 10 == 0 or listing.closed:
                yield from self.data(channel, listing, time, is_first=False)

    @abstractmethod
    def rest(self, path: str, query: dict[str, str], time: Microseconds) -> Answer:
        """Answer a REST request to one of the paths that the real adapter uses."""

    def listing(self, symbol: str) -> Listing | None:
        """Return a pair's listing by the exchange's own symbol."""
        return None if symbol == self.refused else self._listings.get(symbol)

    def listings(self) -> dict[str, Listing]:
        """Return all listings by the exchange's own symbol."""
        return {symbol: item for symbol, item in self._listings.items() if symbol != self.refused}

    def subscribe(self, channel: Channel, listing: Listing, time: Microseconds) -> Iterator[Out]:
        """Begin a pair's channel with what a subscriber hears first."""
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
    """Choose between an exchange's words for a taker who buys and one who sells."""
    return buy if side is Side.BUY else sell


@lru_cache(KNOWN)
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
