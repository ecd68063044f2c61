"""`coin status`: what every collector, feed and worker says of itself now."""

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any

import msgspec
import typer
from rich.live import Live
from rich.text import Text

from coin_platform.clock import wall
from coin_platform.cluster import Cluster, HealthState, open_cluster
from coin_platform.cluster.status import Status, statuses
from coin_platform.commands.output import Column, JsonOption, console, print_json, table
from coin_platform.model import SECOND, Microseconds
from coin_platform.settings import load
from coin_platform.times import datetime_of

WATCH_SECONDS = 1.0
_COLUMNS = (
    Column("name"),
    Column("state"),
    Column("for", is_number=True),
    Column("pairs", is_number=True),
    Column("age", "last data", is_number=True),
    Column("reason"),
    Column("host"),
)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="show it again every second, until Ctrl-C")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every collector, feed and worker: its state, since when, and why.

    A component without a report for 5 s is lost. Exit code 1: something is lost, or nothing runs.
    """
    with closing(open_cluster(load())) as cluster:
        if as_json:
            found = statuses(cluster, wall())
            print_json(msgspec.to_builtins(one) for one in found)
        elif watch:
            found = _watch(cluster)
        else:
            found = statuses(cluster, wall())
            console().print(_shown(cluster, found))
    if not found or any(one.state == "lost" for one in found):
        raise typer.Exit(1)


def _watch(cluster: Cluster) -> list[Status]:
    found: list[Status] = []
    with Live(console=console(), auto_refresh=False) as live:
        try:
            while True:
                found = statuses(cluster, wall())
                live.update(_shown(cluster, found), refresh=True)
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            return found


def _shown(cluster: Cluster, found: Sequence[Status]) -> Any:
    now = wall()
    if not found:
        return Text("nothing runs: start `coin up`, or `coin collect --region korea`")
    shown = table(_COLUMNS, [_row(one, now) for one in found])
    health = cluster.health
    if health.state is HealthState.DEGRADED:
        shown.caption = f"degraded since {datetime_of(health.since):%Y-%m-%d %H:%M:%S} UTC: {health.reason}"
    return shown


def _row(one: Status, now: Microseconds) -> dict[str, Any]:
    confirmed = sum(pair.state == "confirmed" for pair in one.pairs.values())
    age = one.numbers.get("age_seconds")
    return {
        "name": one.name,
        "state": one.state,
        "for": _length((now - one.since) / SECOND),
        "pairs": f"{confirmed} of {len(one.pairs)}" if one.pairs else "",
        "age": "" if age is None else f"{age:.1f} s",
        "reason": one.reason,
        "host": one.host,
    }


def _length(seconds: float) -> str:
    """Write a length of time in its largest whole unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
