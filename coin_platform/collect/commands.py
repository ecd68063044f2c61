"""Obeys the commands that are given to feeds: to replace a connection by a new one, without a gap."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from coin_platform.clock import unless, wall
from coin_platform.cluster import Cluster
from coin_platform.cluster.commands import CommandReader, reconnect_key
from coin_platform.collect.feed import Feed
from coin_platform.errors import ClusterError
from coin_platform.runtime.threads import in_own_thread

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class FeedCommands:
    """Looks for commands once a second, and lets the feeds obey them."""

    def __init__(self, cluster: Cluster, feeds: Callable[[], Iterable[Feed]]) -> None:
        """`feeds` returns the feeds that there are now."""
        self._reader, self._feeds = CommandReader(cluster, wall), feeds

    async def run(self, stop: asyncio.Event, look_seconds: float = LOOK_SECONDS) -> None:
        """Obey commands until `stop`. While the store cannot be read, nothing is commanded."""
        while not stop.is_set():
            try:
                commands = await unless(stop, in_own_thread(self._reader.new, "commands")) or {}
            except ClusterError as error:
                logger.debug("commands: %s", error)  # the cluster's own health says so
                commands = {}
            for feed in self._feeds():
                route = feed.route
                command = commands.get(reconnect_key(route.exchange.name, route.channel, route.shard))
                if command is not None:
                    feed.reconnect(f"asked for by {command.by}")
            await unless(stop, asyncio.sleep(look_seconds))
