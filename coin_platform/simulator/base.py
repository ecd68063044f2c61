"""What a simulated exchange is: one connection's side of the protocol, without I/O."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Microseconds, Pair
from coin_platform.simulator.market import Listing, Market


class Out(NamedTuple):
    """A message to the client: market data, or control."""

    payload: str
    is_data: bool = True


class Venue(ABC):
    """One connection to a simulated exchange. `time` is always now, UTC."""

    name: ClassVar[str]
    is_binary: ClassVar[bool] = False

    def __init__(self, market: Market) -> None:
        self.exchange: Exchange = EXCHANGES[self.name]
        self._listings = market.listings[self.name]
        self._steps = 0
        self.subscriptions: dict[tuple[Channel, Pair], None] = {}

    @abstractmethod
    def received(self, text: str, time: Microseconds) -> Iterator[Out]:
        """Answer a message of the client."""

    @abstractmethod
    def data(self, channel: Channel, listing: Listing, time: Microseconds, *, is_first: bool) -> Iterator[Out]:
        """Say what a channel says of one pair now; `is_first` after a subscription."""

    def idle(self, time: Microseconds) -> Iterator[Out]:
        """Send what comes about once a second, whatever the market does."""
        return iter(())

    def step(self, time: Microseconds) -> Iterator[Out]:
        """Send what the last step of the market gives the subscribed pairs."""
        self._steps += 1
        if self._steps % 10 == 0:
            yield from self.idle(time)
        for channel, pair in list(self.subscriptions):
            yield from self.data(channel, self._listings[pair], time, is_first=False)

    def rest(self, path: str, time: Microseconds) -> bytes | None:
        """Answer a REST request; None for a path that is not simulated."""
        return None

    def listing(self, symbol: str) -> Listing | None:
        """Return a pair's listing by the exchange's own symbol."""
        return next((item for pair, item in self._listings.items() if self.exchange.symbol(pair) == symbol), None)

    def subscribe(self, channel: Channel, listing: Listing, time: Microseconds) -> Iterator[Out]:
        """Begin a pair's channel with what a subscriber hears first."""
        self.subscriptions[channel, listing.pair] = None
        yield from self.data(channel, listing, time, is_first=True)
