"""Follow the active pairs of the cluster: a thread of its own looks, so a store that hangs holds up no frame."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable

from coin_platform.cluster import Cluster
from coin_platform.cluster.pairs import PREFIX, PairSet, decode, key_of
from coin_platform.errors import ClusterError

logger = logging.getLogger(__name__)

PairSets = dict[str, PairSet]  # by the name of the exchange; one without a set follows the settings


class ActivePairs:
    """The active pairs of some exchanges, as the cluster has them."""

    def __init__(self, cluster: Cluster, exchanges: Iterable[str]) -> None:
        """Follow these exchanges."""
        self._cluster, self._exchanges = cluster, tuple(exchanges)
        self._changes = cluster.changes()
        self._is_closed = threading.Event()

    def read(self) -> PairSets:
        """Return the sets that are in force now. It blocks, for about 2 s if the store does not answer."""
        sets = {}
        try:
            entries = self._cluster.entries(PREFIX)
            for name in self._exchanges:
                if (entry := entries.get(key_of(name))) is not None:
                    sets[name] = decode(key_of(name), entry)
        except ClusterError as error:  # what is in force is good, so this is never the rule
            logger.error("the active pairs stay as they are: %s", error)
        return sets

    async def run(self, stop: asyncio.Event, known: PairSets, apply: Callable[[PairSets], None]) -> None:
        """Call `apply`, in this loop, with the sets that differ from those that are `known`, until `stop`."""
        loop = asyncio.get_running_loop()

        def follow() -> None:
            before = dict(known)
            while not self._is_closed.is_set():
                sets = self.read()
                changed = {name: pair_set for name, pair_set in sets.items() if before.get(name) != pair_set}
                before |= changed
                if changed:
                    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                        loop.call_soon_threadsafe(apply, changed)
                self._changes.wait(self._cluster.look_seconds)
            self._changes.wait(0)  # closes what it holds open

        thread = threading.Thread(target=follow, name="active pairs", daemon=True)
        thread.start()
        try:
            await stop.wait()
        finally:
            self._is_closed.set()
            self._changes.close()
