"""The route of a connection: what it carries, where that comes from, and where it goes to."""

from typing import NamedTuple

from coin_platform.collect.outbound import Outbound
from coin_platform.exchanges.addresses import simulated_url
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Microseconds


class Route(NamedTuple):
    """What a connection carries, where that comes from, and where it goes to."""

    exchange: Exchange
    channel: Channel
    shard: int
    topic: str
    epoch: int
    window: Microseconds
    host: str | None = None  # of the simulated exchanges
    lifetime: tuple[float, float] = (
        83_700.0,
        85_500.0,
    )  # seconds, 23 h 30 ± 15 min: exchanges end us after 24 h
    ping_every: float | None = None  # seconds; None: as the exchange asks for
    outbound: Outbound = Outbound()

    def __str__(self) -> str:
        return f"{self.exchange.name} {self.channel} {self.shard}"

    def here(self, url: str) -> str:
        """Return the address to use for `url`: that of the simulator, if the exchanges are simulated."""
        return simulated_url(url, self.exchange.name, self.host) if self.host else url
