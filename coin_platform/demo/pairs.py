"""Change the active pairs of a demo while it runs, and check that the collectors followed and the tables show it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial

import polars as pl

from coin_platform.clock import wall
from coin_platform.cluster import open_cluster
from coin_platform.cluster.change import change_pairs
from coin_platform.cluster.pairs import ALL_CHANNELS, PairSet
from coin_platform.cluster.status import Status, statuses
from coin_platform.exchanges import EXCHANGES
from coin_platform.lake import Lake
from coin_platform.model import Pair
from coin_platform.settings import Settings

MORE_PAIRS = 1  # coins that the simulated exchanges list, and that nobody collects at first
ADDED = {"upbit": Pair("C01", "KRW"), "okx": Pair("C01", "USDT")}
DROPPED = {"kraken": Pair("SOL", "USD")}


def change(settings: Settings) -> None:
    """Add a pair on two exchanges, and drop one on a third, as `coin pairs add|drop` do."""

    def changed(name: str, edit: Callable[[PairSet], PairSet]) -> None:
        change_pairs(cluster, EXCHANGES[name], settings, edit, "the demo", wall())

    with closing(open_cluster(settings)) as cluster:
        for name, pair in ADDED.items():
            changed(name, partial(_with, pair))
        for name, pair in DROPPED.items():
            changed(name, partial(_without, pair))


def is_followed(settings: Settings) -> bool:
    """Return whether all feeds have confirmed the added pairs, and none has the dropped one."""
    with closing(open_cluster(settings)) as cluster:
        found = statuses(cluster, wall())
    for name, pair in ADDED.items():
        states = list(_states(found, name, pair))
        if len(states) < len(settings.channels) or not all(state in ("confirmed", "stale") for state in states):
            return False
    return not any(list(_states(found, name, pair)) for name, pair in DROPPED.items())


def failures(lake: Lake, followed: datetime) -> list[str]:
    """Return a line for each added pair without a ticker, and for a dropped one with a ticker after `followed`."""

    def tickers(name: str, pair: Pair, start: datetime | None = None) -> int:
        rows = lake.scan("ticker", exchanges=[name]).filter(pl.col("pair") == str(pair))
        if start is not None:
            rows = rows.filter(pl.col("received_time") > start)
        return int(rows.select(pl.len()).collect().item())

    missing = [
        f"{name}: no ticker of {pair}, which was added" for name, pair in ADDED.items() if not tickers(name, pair)
    ]
    late = [
        f"{name}: {count} tickers of {pair} after it was dropped"
        for name, pair in DROPPED.items()
        if (count := tickers(name, pair, followed))
    ]
    return missing + late


def _with(pair: Pair, pair_set: PairSet) -> PairSet:
    return pair_set.added(ALL_CHANNELS, [pair])


def _without(pair: Pair, pair_set: PairSet) -> PairSet:
    return pair_set.dropped(ALL_CHANNELS, [pair])


def _states(found: list[Status], exchange: str, pair: Pair) -> Iterator[str]:
    for status in found:
        if status.name.startswith(f"feed/{exchange}/") and status.state != "lost" and str(pair) in status.pairs:
            yield status.pairs[str(pair)].state
