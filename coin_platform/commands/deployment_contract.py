"""What `coin pairs` and `coin status` can ask of a deployment, however they reach it: the contract."""

from collections.abc import Sequence
from typing import Protocol

from coin_platform.cluster import Health
from coin_platform.cluster.pairs import PairSet
from coin_platform.cluster.status import Status
from coin_platform.errors import UnknownName
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Instrument, Pair


class DeploymentAccess(Protocol):
    """A deployment as the commands see it. All methods may raise `ClusterError` or `ApiError`."""

    def exchanges(self) -> list[Exchange]:
        """Return the exchanges that are collected."""

    def markets(self, exchange: Exchange) -> list[Instrument]:
        """Return what an exchange lists. Raises `NoAnswer` if it does not say."""

    def pairs(self, exchange: Exchange) -> PairSet:
        """Return the set in force. Its version is 0 where the settings decide."""

    def add(self, exchange: Exchange, channel: str, pairs: Sequence[Pair], *, is_unchecked: bool) -> list[str]:
        """Add pairs, and return what a person should know besides.

        Raises `UnknownName` for pairs that the exchange does not trade, and `NoAnswer` if it does not say, unless
        `is_unchecked`. Raises `BadArgument` for a wrong channel.
        """

    def drop(self, exchange: Exchange, channel: str, pairs: Sequence[Pair], *, is_explicit: bool) -> list[str]:
        """Drop pairs, and return what a person should know besides.

        Raises `UnknownName` for a pair that is not active, and `BadArgument` for a wrong channel, or if no pair is left
        and that is not `is_explicit`.
        """

    def reload(self) -> list[Exchange]:
        """Have all collectors read the pairs again. Return the exchanges that have stored pairs."""

    def statuses(self) -> list[Status]:
        """Return what every component says of itself."""

    @property
    def health(self) -> Health:
        """Whether the store could be trusted when it was asked last."""

    def close(self) -> None:
        """Give back what is held open."""


def check_active(exchange: Exchange, pair_set: PairSet, pairs: Sequence[Pair]) -> None:
    """Raise `UnknownName` for a pair that no entry of a set has."""
    active = {pair for entry in pair_set.pairs.values() for pair in entry}
    for pair in pairs:
        if pair not in active:
            names = ", ".join(map(str, sorted(active))) or "none"
            raise UnknownName(f"{exchange.name}: {pair} is not active; active are {names}")
