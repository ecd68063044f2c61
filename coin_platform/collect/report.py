"""Announce the status of a collector once a second, and serve it as metrics."""

import asyncio
from collections.abc import Callable

import psutil

from coin_platform.clock import unless
from coin_platform.cluster import Cluster
from coin_platform.cluster.announcer import Announcer
from coin_platform.cluster.metrics import StatusMetrics
from coin_platform.cluster.status import ANNOUNCE_SECONDS, Status
from coin_platform.model import Region
from coin_platform.runtime.metrics import MEMORY_BYTES, metrics_served
from coin_platform.settings import Settings

COLLECTOR_PORTS = 10  # from the first worker's port of metrics to the first collector's


def metrics_port(settings: Settings, region: Region) -> int:
    """Return the port of a collector's metrics: each region has its own, above those of the workers. 0: none."""
    return settings.metrics_port and settings.metrics_port + COLLECTOR_PORTS + list(Region).index(region)


async def report(
    region: Region,
    settings: Settings,
    cluster: Cluster | None,
    reports: Callable[[], list[Status]],
    stop: asyncio.Event,
) -> None:
    """Announce what `reports` returns, until `stop`. Then take it out of the status."""
    announcer = None if cluster is None else Announcer(cluster, f"collector-{region}")
    port = metrics_port(settings, region)
    if announcer is None and not port:
        return
    latest: list[Status] = []
    with metrics_served(port, StatusMetrics(lambda: latest)):
        while not stop.is_set():
            latest = reports()
            MEMORY_BYTES.set(psutil.Process().memory_info().rss)
            if announcer is not None:
                announcer.offer(latest)
            await unless(stop, asyncio.sleep(ANNOUNCE_SECONDS))
    if announcer is not None:
        await asyncio.to_thread(announcer.close)
