"""The control API as one ASGI application."""

from functools import partial
from typing import NamedTuple

from fastapi import FastAPI
from starlette.types import ASGIApp

from coin_platform import __version__
from coin_platform.broker import Broker
from coin_platform.cluster import Cluster, open_machine
from coin_platform.cluster.status import statuses
from coin_platform.lake import Lake
from coin_platform.runtime.own_names import OwnNames
from coin_platform.serve import problems
from coin_platform.serve.access import ApiAccess
from coin_platform.serve.component_routes import component_routes
from coin_platform.serve.docs_routes import docs_routes
from coin_platform.serve.exchange_routes import exchange_routes
from coin_platform.serve.feed.latest import Latest
from coin_platform.serve.feed_info_routes import feed_info_routes
from coin_platform.serve.feed_routes import feed_routes
from coin_platform.serve.gap_reader import GapReader
from coin_platform.serve.gap_routes import gap_routes
from coin_platform.serve.guards import SecurityHeaders, SizeLimit
from coin_platform.serve.health_routes import health_routes
from coin_platform.serve.keys import Keys, is_loopback
from coin_platform.serve.latest_routes import latest_routes
from coin_platform.serve.markets import Fetch, MarketLists
from coin_platform.serve.metrics import Measured, ServerMetrics
from coin_platform.serve.monitor_routes import monitor_routes
from coin_platform.serve.pair_changes import WAIT_SECONDS, PairChanges
from coin_platform.serve.pair_routes import pair_routes
from coin_platform.serve.pair_sets import PairSets
from coin_platform.serve.premium_history import PremiumHistory
from coin_platform.serve.rates import RateLimiter, RateLimits
from coin_platform.serve.status_routes import status_routes
from coin_platform.settings import Settings

_DESCRIPTION = "Which pairs are collected, how the feeds are, what is missing. docs/api.md shows examples."


class Backends(NamedTuple):
    """What the server asks to answer requests."""

    broker: Broker
    lake: Lake
    fetch_markets: Fetch
    cluster: Cluster
    latest: Latest
    history: PremiumHistory


def create_app(
    settings: Settings,
    backends: Backends,
    keys: Keys,
    *,
    metrics: ServerMetrics | None = None,
    rates: RateLimits = RateLimits(),  # noqa: B008 - it cannot change
    wait_seconds: float = WAIT_SECONDS,
) -> ASGIApp:
    """Return the application. It holds no state that another server would need, and counts its answers in `metrics`.

    A change of pairs waits `wait_seconds` for the collectors before it is answered.
    """
    cluster = backends.cluster
    access = ApiAccess(keys, RateLimiter(rates), is_local=is_loopback(settings.serve_host))
    metrics = metrics or ServerMetrics()
    app = FastAPI(
        title="coin_platform",
        summary="The control API",
        description=_DESCRIPTION,
        version=__version__,
        docs_url=None,  # its page would load scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    markets = MarketLists(backends.fetch_markets)
    app.include_router(exchange_routes(access, markets))
    sets = PairSets(cluster, settings)
    app.include_router(pair_routes(access, PairChanges(cluster, sets, markets, wait_seconds)))
    app.include_router(status_routes(access, cluster))
    app.include_router(component_routes(access, cluster))
    app.include_router(feed_routes(access, cluster))
    app.include_router(gap_routes(access, GapReader(backends.lake, backends.broker)))
    app.include_router(feed_info_routes(access, cluster, open_machine(settings)))
    app.include_router(latest_routes(access, backends.latest, backends.history))
    app.include_router(health_routes(access, {"the cluster": partial(statuses, cluster, 0)}, metrics))
    app.include_router(docs_routes(access))
    app.include_router(monitor_routes(access, [settings.serve_host, *settings.serve_hosts]))
    guarded = OwnNames(SizeLimit(app), settings.serve_hosts, problems.refusal_of_foreign_names())
    return SecurityHeaders(Measured(guarded, metrics))
