"""`coin serve`: the servers that people and programs connect to."""

import asyncio
from functools import partial

import typer

from coin_platform.clock import wall
from coin_platform.model import SECOND
from coin_platform.runtime.logs import set_up
from coin_platform.runtime.stop import until_signal
from coin_platform.settings import load

app = typer.Typer(
    help="Serve the control API at COIN_SERVE_HOST and COIN_SERVE_PORT, until Ctrl-C.",
    invoke_without_command=True,
    epilog="Example: coin serve",
)


@app.callback()
def serve(context: typer.Context) -> None:
    """Serve everything that there is to serve, until Ctrl-C."""
    if context.invoked_subcommand is None:
        api()


@app.command(epilog="Example: COIN_SERVE_PORT=8700 coin serve api")
def api() -> None:
    """Serve the control API: exchanges, markets, gaps, health. Its page /docs lists all addresses."""
    from coin_platform.broker import connect
    from coin_platform.cluster import open_cluster
    from coin_platform.commands.quotes import listed_markets
    from coin_platform.lake import open_lake
    from coin_platform.serve.app import Backends, create_app
    from coin_platform.serve.feed.latest import START_SECONDS, Latest, following
    from coin_platform.serve.feed.tail import Tail, places_of
    from coin_platform.serve.keys import open_keys
    from coin_platform.serve.metrics import ServerMetrics
    from coin_platform.serve.reports import ServerReports, announce
    from coin_platform.serve.server import answer_requests, listen

    settings = load()
    set_up(settings, "serve api")
    keys = open_keys(settings)
    listening = listen(settings.serve_host, settings.serve_port)
    broker, cluster = connect(settings), open_cluster(settings)
    try:
        latest = Latest()
        backends = Backends(broker, open_lake(settings), partial(listed_markets, settings=settings), cluster, latest)
        metrics = ServerMetrics()
        host, port = listening.getsockname()[:2]
        app, reports = create_app(settings, backends, keys, metrics=metrics), ServerReports(metrics, host, port)

        async def work(stop: asyncio.Event) -> None:
            announcing = asyncio.create_task(announce(cluster, f"server-api-{port}", reports.report, stop))
            try:
                await answer_requests(app, listening, stop)
            finally:
                stop.set()
                await announcing

        with following(latest, lambda: Tail(broker, places_of(settings), wall() - START_SECONDS * SECOND)):
            until_signal(work)
    finally:
        cluster.close()
        broker.close()
