"""`coin serve`: the servers that people and programs connect to."""

import asyncio
import os
import subprocess
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coin_platform.clock import elapsed, unless, wall
from coin_platform.errors import ServerEnded
from coin_platform.model import SECOND
from coin_platform.runtime import guard
from coin_platform.runtime.logs import set_up
from coin_platform.runtime.stop import until_signal
from coin_platform.settings import Settings, load

if TYPE_CHECKING:
    from coin_platform.cluster import Cluster
    from coin_platform.serve.feed.reports import FeedReports

app = typer.Typer(
    help="Serve the control API and the live feed at COIN_SERVE_HOST, until Ctrl-C.",
    invoke_without_command=True,
    epilog="Example: coin serve",
)
_LOOK_SECONDS = 0.5  # between two looks whether the feed's process is alive


@app.callback()
def serve(context: typer.Context) -> None:
    """Serve the control API in this process and the live feed in another one, until Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    settings = load()
    log = settings.path(Path("data/logs/feed.log"))
    feed = guard.start([sys.executable, "-m", "coin_platform", "serve", "feed"], log, dict(os.environ))
    try:
        _serve_api(settings, feed, log)
    finally:
        guard.end(feed)


@app.command(epilog="Example: COIN_SERVE_PORT=8700 coin serve api")
def api() -> None:
    """Serve the control API: exchanges, markets, gaps, health. Its page /docs lists all addresses."""
    _serve_api(load())


@app.command(epilog="Example: COIN_FEED_PORT=8701 coin serve feed")
def feed() -> None:
    """Serve the live feed at COIN_FEED_PORT: WebSockets that tell every processed record."""
    from coin_platform.cluster import open_cluster, open_machine
    from coin_platform.serve.feed.distributor import Distributor, listen
    from coin_platform.serve.feed.door import BOUND_PATHS, PATH, Door, DoorLimits
    from coin_platform.serve.feed.hub import Hub
    from coin_platform.serve.feed.latest import START_SECONDS
    from coin_platform.serve.feed.opening import bound_feeds, opened_feed, services_of
    from coin_platform.serve.feed.reports import FeedReports
    from coin_platform.serve.keys import is_loopback, open_keys
    from coin_platform.serve.reports import announce

    settings = load()
    set_up(settings, "serve feed")
    door = Door(
        open_keys(settings),
        frozenset(settings.serve_hosts),
        DoorLimits(settings.feed_clients, settings.feed_clients_per_address),
        is_local=is_loopback(settings.serve_host),
        paths=[PATH, *(path for service, path in BOUND_PATHS.items() if service in services_of(settings))],
    )
    listening = listen(settings.serve_host, settings.feed_port)
    cluster, machine = open_cluster(settings), open_machine(settings)
    try:
        with opened_feed(settings, wall() - START_SECONDS * SECOND) as (ladder, reader):
            instance = uuid.uuid4().hex[:8]
            bound = bound_feeds(settings, ladder, instance, START_SECONDS)
            distributor = Distributor(Hub(instance), door, reader.read, moves=lambda: reader.moves, bound=bound)
            port = listening.getsockname()[1]
            host = settings.serve_host if is_loopback(settings.serve_host) else settings.serve_hosts[0]
            reports = FeedReports(distributor, ladder, f"ws://{host}:{port}{PATH}", port)

            async def work(stop: asyncio.Event) -> None:
                announcing = [
                    asyncio.create_task(announce(store, f"server-feed-{port}", reports.report, stop))
                    for store in (cluster, machine)
                    if store is not None
                ]
                listing = asyncio.create_task(_list_clients(reports, cluster, stop))
                try:
                    await distributor.run(listening, stop)
                finally:
                    stop.set()
                    await asyncio.gather(*announcing, listing)

            until_signal(work)
    finally:
        cluster.close()


def _serve_api(settings: Settings, feed: "subprocess.Popen[bytes] | None" = None, log: Path | None = None) -> None:
    """Serve the control API until Ctrl-C. Raises `ServerEnded` if the process of the feed ends before."""
    from coin_platform.broker import connect
    from coin_platform.cluster import open_cluster
    from coin_platform.commands.quotes import listed_markets
    from coin_platform.lake import open_lake
    from coin_platform.serve.app import Backends, create_app
    from coin_platform.serve.feed.latest import START_SECONDS, Latest, following
    from coin_platform.serve.feed.source import places_of
    from coin_platform.serve.feed.tail import Tail, opened_later
    from coin_platform.serve.keys import open_keys
    from coin_platform.serve.listening import listen
    from coin_platform.serve.metrics import ServerMetrics
    from coin_platform.serve.premium_history import PremiumHistory, sampling
    from coin_platform.serve.reports import ServerReports, announce
    from coin_platform.serve.server import answer_requests

    set_up(settings, "serve api")
    keys = open_keys(settings)
    listening = listen(settings.serve_host, settings.serve_port)
    broker, cluster = connect(settings), open_cluster(settings)
    try:
        latest = Latest()
        history = PremiumHistory(latest)
        backends = Backends(
            broker, open_lake(settings), partial(listed_markets, settings=settings), cluster, latest, history
        )
        metrics = ServerMetrics()
        host, port = listening.getsockname()[:2]
        app, reports = create_app(settings, backends, keys, metrics=metrics), ServerReports(metrics, host, port)

        async def work(stop: asyncio.Event) -> None:
            announcing = asyncio.create_task(announce(cluster, f"server-api-{port}", reports.report, stop))
            watching = asyncio.create_task(_watch(feed, stop))
            try:
                await answer_requests(app, listening, stop)
            finally:
                stop.set()
                await asyncio.gather(announcing, watching)

        read = opened_later(lambda: Tail(broker, places_of(settings), wall() - START_SECONDS * SECOND))
        with following(latest, read), sampling(history):
            until_signal(work)
    finally:
        cluster.close()
        broker.close()
    if feed is not None and feed.poll() is not None:
        raise ServerEnded(f"the process of the live feed ended by itself; its log is {log}")


async def _watch(process: "subprocess.Popen[bytes] | None", stop: asyncio.Event) -> None:
    """Stop if a process ends."""
    while process is not None and not stop.is_set():
        if process.poll() is not None:
            stop.set()
        await unless(stop, asyncio.sleep(_LOOK_SECONDS))


async def _list_clients(reports: "FeedReports", cluster: "Cluster", stop: asyncio.Event) -> None:
    """List the clients of a distributor for the API, as often as its status is announced."""
    from coin_platform.cluster.status import ANNOUNCE_SECONDS

    while not stop.is_set():
        await asyncio.to_thread(reports.announce_clients, cluster, elapsed(), wall())
        await unless(stop, asyncio.sleep(ANNOUNCE_SECONDS))
