"""The deployment whose store this machine reads and writes itself: `coin pairs` and `coin status` without a server."""

import asyncio
import getpass
import socket
from collections.abc import Callable, Sequence

from coin_platform.clock import wall
from coin_platform.cluster import Cluster, Health
from coin_platform.cluster.change import change_pairs, read_pairs
from coin_platform.cluster.pairs import PairSet, editable
from coin_platform.cluster.status import Status, statuses
from coin_platform.commands.deployment_contract import check_active
from coin_platform.commands.quotes import listed_markets
from coin_platform.errors import NoAnswer, UnknownName
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Instrument, Pair
from coin_platform.selection import exchanges_of
from coin_platform.serve.markets import MarketList, refusal_text
from coin_platform.settings import Settings


class StoredDeployment:
    """The deployment whose store this machine reads and writes itself."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster, self._settings = cluster, settings

    def exchanges(self) -> list[Exchange]:
        """Return the exchanges of COIN_EXCHANGES."""
        return exchanges_of(None, self._settings)

    def markets(self, exchange: Exchange) -> list[Instrument]:
        """Ask the exchange."""
        return asyncio.run(listed_markets(exchange, self._settings))

    def pairs(self, exchange: Exchange) -> PairSet:
        """Return the stored set or, with version 0, that of the settings."""
        return editable(exchange, read_pairs(self._cluster, exchange.name), self._settings)

    def add(self, exchange: Exchange, channel: str, pairs: Sequence[Pair], *, is_unchecked: bool) -> list[str]:
        """Store the set with these pairs."""
        if not is_unchecked:
            self._refuse_not_traded(exchange, pairs)
        note = self._change(exchange, lambda pair_set: pair_set.added(channel, pairs)).unreached(channel)
        return [note] if note else []

    def drop(self, exchange: Exchange, channel: str, pairs: Sequence[Pair], *, is_explicit: bool) -> list[str]:
        """Store the set without these pairs."""

        def dropped(pair_set: PairSet) -> PairSet:
            check_active(exchange, pair_set, pairs)
            return pair_set.dropped(channel, pairs, is_explicit)

        self._change(exchange, dropped)
        return []

    def reload(self) -> list[Exchange]:
        """Store every stored set anew: collectors read it again, and the store gets back what it has lost."""
        stored = [exchange for exchange in EXCHANGES.values() if read_pairs(self._cluster, exchange.name) is not None]
        for exchange in stored:
            self._change(exchange, lambda pair_set: pair_set)
        return stored

    def statuses(self) -> list[Status]:
        """Read the announced statuses."""
        return statuses(self._cluster, wall())

    @property
    def health(self) -> Health:
        """The state of the store as its last calls saw it."""
        return self._cluster.health

    def close(self) -> None:
        """Close the store."""
        self._cluster.close()

    def _change(self, exchange: Exchange, edit: Callable[[PairSet], PairSet]) -> PairSet:
        return change_pairs(self._cluster, exchange, self._settings, edit, _who(), wall())

    def _refuse_not_traded(self, exchange: Exchange, pairs: Sequence[Pair]) -> None:
        try:
            listed = self.markets(exchange)
        except NoAnswer as error:
            raise NoAnswer(
                f"{exchange.name} does not say which pairs it lists: {error}; or write --unchecked"
            ) from error
        not_traded = MarketList.of(listed, wall()).not_traded(pairs)
        if not_traded:
            raise UnknownName(f"{refusal_text(exchange.name, not_traded)}; see `coin pairs list {exchange.name}`")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
