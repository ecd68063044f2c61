"""Change the active pairs of an exchange, also while others change them."""

from collections.abc import Callable

from coin_platform.cluster.contract import Cluster
from coin_platform.cluster.pairs import PairSet, decode, editable, key_of
from coin_platform.errors import VersionConflict
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Microseconds
from coin_platform.settings import Settings

ATTEMPTS = 20  # each of which another change came before


def read_pairs(cluster: Cluster, exchange: str) -> PairSet | None:
    """Return the stored set of an exchange that is in force, or `None` if the settings decide."""
    key = key_of(exchange)
    entry = cluster.get(key)
    return None if entry is None else decode(key, entry)


def change_pairs(
    cluster: Cluster,
    exchange: Exchange,
    settings: Settings,
    edit: Callable[[PairSet], PairSet],
    by: str,
    time: Microseconds,
) -> PairSet:
    """Store what `edit` makes of the set in force, and return it with its new version.

    If another change comes first, `edit` is called again with the newer set. Raises `ClusterError` if the store cannot
    be written, and what `edit` raises.
    """
    for attempt in range(ATTEMPTS):
        before = editable(exchange, read_pairs(cluster, exchange.name), settings)
        edited = edit(before)
        try:
            version = cluster.put(key_of(exchange.name), edited.encode(by, time), before.version)
        except VersionConflict:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return PairSet(pairs=edited.pairs, is_explicit=edited.is_explicit, by=by, time=time, version=version)
    raise AssertionError
