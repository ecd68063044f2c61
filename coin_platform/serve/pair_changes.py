"""Shows the active pairs, and changes them: checked with the exchange, stored, and then awaited."""

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import NamedTuple, ParamSpec, TypeVar

from coin_platform.clock import elapsed, wall
from coin_platform.cluster import Cluster
from coin_platform.cluster.commands import RELOAD, give
from coin_platform.cluster.pairs import ALL_CHANNELS, PairSet
from coin_platform.cluster.status import statuses
from coin_platform.errors import BadArgument, ClusterError, NoAnswer, VersionConflict
from coin_platform.exchanges.base import Exchange
from coin_platform.model import InstrumentState, Microseconds, Pair
from coin_platform.serve.access import Caller
from coin_platform.serve.cluster_health import health_of
from coin_platform.serve.markets import MarketLists, refusal_text
from coin_platform.serve.pair_models import ChangedPairs, ChannelPairs, ExchangePairs, PairFacts, Reloaded
from coin_platform.serve.pair_sets import PairResult, PairSets, PairState, Reports, reports_since, results
from coin_platform.serve.parameters import not_available, time_of
from coin_platform.serve.problems import Problem

WAIT_SECONDS = 5.0  # for the collectors to follow a change
_LOOK_SECONDS = 0.2

Parts = ParamSpec("Parts")
Found = TypeVar("Found")


class Target(NamedTuple):
    """What a request is about: the entry of one channel, or `*`, of an exchange."""

    exchange: Exchange
    channel: str


class PairChanges:
    """Changes pairs on behalf of the routes."""

    def __init__(
        self, cluster: Cluster, sets: PairSets, markets: MarketLists, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self.cluster, self.sets, self._markets, self._wait_seconds = cluster, sets, markets, wait_seconds

    async def shown(self, exchange: Exchange) -> ExchangePairs:
        """Return the set of an exchange, and how far its pairs have come. Raises `Problem`."""
        pair_set, reports = await asked(self._read, exchange)
        channels = []
        for channel in self.sets.channels(exchange, PairSet(pairs={}), ALL_CHANNELS):
            found = results(reports, [channel], pair_set.of(channel) or (), ())
            follows = channel if channel in pair_set.own_channels else ALL_CHANNELS
            channels.append(ChannelPairs(channel=channel, follows=follows, pairs=_facts(found)))
        return ExchangePairs(
            exchange=exchange.name,
            collected=self.sets.collects(exchange),
            version=pair_set.version,
            by=pair_set.by,
            time=time_of(pair_set.time) if pair_set.time else None,
            wanted={name: list(map(str, entry)) for name, entry in pair_set.pairs.items()},
            channels=channels,
            cluster=health_of(self.cluster),
        )

    async def reload(self, caller: Caller) -> Reloaded:
        """Have all collectors read the pairs again, and put back what the store has lost. Raises `Problem`."""
        by = f"api {caller.name}"
        stored = await asked(self.sets.store_again, by)
        return Reloaded(version=await asked(give, self.cluster, RELOAD, by, wall()), exchanges=stored)

    async def check_listed(self, exchange: Exchange, wanted: Iterable[Pair]) -> None:
        """Raise `Problem` that names the pairs which the exchange does not trade. Active pairs are not asked about."""
        known = await asked(self.sets.of, exchange)
        new = [pair for pair in wanted if not any(pair in entry for entry in known.pairs.values())]
        if not new:
            return
        try:
            listed = await self._markets.of(exchange)
        except NoAnswer as error:
            raise not_available(
                f"{exchange.name} does not say which pairs it lists: {error}", "try again once the exchange answers"
            ) from error
        not_traded = listed.not_traded(new)
        if not_traded:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "unlisted-pairs",
                refusal_text(exchange.name, not_traded),
                f"leave them out, or set `unchecked`; /api/exchanges/{exchange.name}/markets lists what it trades",
                unlisted=[str(pair) for pair, state in not_traded.items() if state is InstrumentState.DELISTED],
                not_traded={str(pair): state for pair, state in not_traded.items()},
            )

    async def change(
        self,
        target: Target,
        make: Callable[[PairSet], PairSet],
        caller: Caller,
        version: int | None,
        named: Iterable[Pair] = (),
        *,
        is_drop: bool = False,
    ) -> tuple[ChangedPairs, bool]:
        """Store a change, and wait for the collectors. Return it, and whether something is pending.

        If `named` pairs are given, only these and the dropped ones are told of. `is_drop`: the change also reaches the
        channels with pairs of their own. Raises `Problem`.
        """
        exchange, channel = target
        before, after = await asked(self.sets.change, exchange, make, f"api {caller.name}", version)
        time = wall()
        old, new = before.of(channel) or (), after.of(channel) or ()
        wanted = [pair for pair in named if pair in new] or list(new)
        unwanted = [pair for pair in old if pair not in new]
        channels = self.sets.channels(exchange, after, channel)
        found = await self._wait(exchange, time, lambda reports: results(reports, channels, wanted, unwanted))
        is_pending = any(result.state is PairState.PENDING for result in found.values())
        changed = ChangedPairs(
            exchange=exchange.name,
            channel=channel,
            version=after.version,
            results=_facts(found),
            note="" if is_drop else after.unreached(channel),
        )
        return changed, is_pending

    def _read(self, exchange: Exchange) -> tuple[PairSet, Reports]:
        return self.sets.of(exchange), reports_since(statuses(self.cluster, wall()), exchange, 0)

    async def _wait(
        self, exchange: Exchange, time: Microseconds, judge: Callable[[Reports], dict[str, PairResult]]
    ) -> dict[str, PairResult]:
        """Return how far pairs have come, once nothing is pending or the time is over."""
        deadline = elapsed() + self._wait_seconds
        while True:
            found = judge(reports_since(await asked(statuses, self.cluster, wall()), exchange, time))
            if elapsed() >= deadline or all(result.state is not PairState.PENDING for result in found.values()):
                return found
            await asyncio.sleep(_LOOK_SECONDS)


async def asked(call: Callable[Parts, Found], *parts: Parts.args, **options: Parts.kwargs) -> Found:
    """Return what a call that may block returns. Errors of the cluster and of the arguments become a `Problem`."""
    try:
        return await asyncio.to_thread(call, *parts, **options)
    except VersionConflict as error:
        raise Problem(
            HTTPStatus.PRECONDITION_FAILED,
            "version-conflict",
            str(error),
            "read the pairs again, and send the new `ETag` as `If-Match`",
            headers={"ETag": f'"{error.version}"'},
            version=error.version,
        ) from error
    except ClusterError as error:
        raise not_available(
            str(error), "the last good pairs stay in force; try again once the store answers"
        ) from error
    except BadArgument as error:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "wrong-pairs", str(error), "to leave no pair at all, set `explicit`"
        ) from error


def _facts(found: dict[str, PairResult]) -> list[PairFacts]:
    return [PairFacts(pair=pair, state=result.state, reason=result.reason) for pair, result in found.items()]
