"""`coin serve`: the servers that people and programs connect to."""

from functools import partial

import typer

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
    from coin_platform.serve.keys import open_keys
    from coin_platform.serve.server import answer_requests, listen

    settings = load()
    set_up(settings, "serve api")
    keys = open_keys(settings)
    listening = listen(settings.serve_host, settings.serve_port)
    broker, cluster = connect(settings), open_cluster(settings)
    try:
        backends = Backends(broker, open_lake(settings), partial(listed_markets, settings=settings), cluster)
        until_signal(partial(answer_requests, create_app(settings, backends, keys), listening))
    finally:
        cluster.close()
        broker.close()
