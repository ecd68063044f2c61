"""`coin status`: what every collector, feed, worker and server says of itself now."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from coin_platform.clock import wall
from coin_platform.cluster import HealthState
from coin_platform.cluster.numbers import number_of
from coin_platform.cluster.status import LOST, Status
from coin_platform.commands.deployment import open_deployment
from coin_platform.commands.deployment_contract import DeploymentAccess
from coin_platform.commands.output import Column, JsonOption, console, plain, print_json, table
from coin_platform.errors import UnknownName
from coin_platform.model import SECOND, Microseconds
from coin_platform.times import datetime_of

WATCH_SECONDS = 1.0
_COLUMNS = (
    Column("name"),
    Column("state"),
    Column("for", is_number=True),
    Column("pairs", is_number=True),
    Column("rate", "per second", is_number=True),
    Column("age", "last data", is_number=True),
    Column("notes"),
    Column("reason"),
    Column("host"),
)
_NUMBER_COLUMNS = (Column("number"), Column("value", is_number=True), Column("meaning"))
_PAIR_COLUMNS = (Column("pair"), Column("state"), Column("age", "last data", is_number=True), Column("reason"))
_RATES = ("frames_per_second", "rows_per_second", "answers_per_second")
_NOTES = {  # what a row mentions if it is not 0: the number, and how it is written
    "spool_records": "{} in the spool",
    "given_up_records": "{} given up",
    "lag_records": "{} wait",
    "dead_letters": "{} dead",
    "undecodable_frames": "{} undecodable",
    "books_unproved": "{} books unproved",
    "book_resyncs": "{} resyncs",
    "reconnects": "{} reconnects",
    "gap_records": "{} gaps",
    "pairs_not_traded": "{} not traded",
    "banned_seconds": "banned for {} s",
    "failed_requests": "{} failed",
}


def status(
    name: Annotated[
        str, typer.Argument(help="show a component and those below it with all their numbers and pairs: feed/upbit")
    ] = "",
    watch: Annotated[bool, typer.Option("--watch", help="show it again every second, until Ctrl-C")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every collector, feed, worker and server: its state, since when, and why.

    A component without a report for 5 s is lost. Exit code 1: something is lost, or nothing runs.
    """
    with open_deployment() as deployment:
        if as_json:
            found = _found(deployment, name)
            print_json(msgspec.to_builtins(one) for one in found)
        elif watch:
            found = _watch(deployment, name)
        else:
            found = _found(deployment, name)
            console().print(_shown(deployment, found, name))
    if not found or any(one.state == LOST for one in found):
        raise typer.Exit(1)


def _found(deployment: DeploymentAccess, name: str) -> list[Status]:
    """Return the components of a name and below it. Raises `UnknownName` if others run and none has this name."""
    everything = deployment.statuses()
    found = [one for one in everything if one.is_within(name)]
    if everything and not found:
        raise UnknownName(f"{name}: no component has this name; `coin status` lists them")
    return found


def _watch(deployment: DeploymentAccess, name: str) -> list[Status]:
    found: list[Status] = []
    with Live(console=console(), auto_refresh=False) as live:
        try:
            while True:
                found = _found(deployment, name)
                live.update(_shown(deployment, found, name), refresh=True)
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            return found


def _shown(deployment: DeploymentAccess, found: Sequence[Status], name: str) -> Any:
    now = wall()
    if not found:
        return Text("nothing runs: start `coin up`, or `coin collect --region korea`")
    columns = _COLUMNS if len({one.host for one in found}) > 1 else _COLUMNS[:-1]
    shown = table(columns, [_row(one, now) for one in found])
    health = deployment.health
    if health.state is HealthState.DEGRADED:
        shown.caption = f"degraded since {datetime_of(health.since):%Y-%m-%d %H:%M:%S} UTC: {health.reason}"
    return Group(shown, *(part for one in found for part in _details(one, now))) if name else shown


def _row(one: Status, now: Microseconds) -> dict[str, Any]:
    confirmed = sum(pair.state == "confirmed" for pair in one.pairs.values())
    age = one.numbers.get("age_seconds")
    rate = next((one.numbers[number] for number in _RATES if number in one.numbers), None)
    return {
        "name": one.name,
        "state": one.state,
        "for": _length((now - one.since) / SECOND),
        "pairs": f"{confirmed} of {len(one.pairs)}" if one.pairs else "",
        "rate": "" if rate is None else f"{rate:.1f}",
        "age": "" if age is None else f"{age:.1f} s",
        "notes": ", ".join(_notes(one)),
        "reason": one.reason,
        "host": one.host,
    }


def _notes(one: Status) -> Iterator[str]:
    if one.texts.get("transport") == "rest":
        yield "over REST"
    if proved := one.numbers.get("books_proved"):
        yield f"{proved} books proved by {one.texts.get('proof', '')}"
    for number, text in _NOTES.items():
        if value := round(one.numbers.get(number, 0)):
            yield text.format(plain(value))


def _details(one: Status, now: Microseconds) -> Iterable[Any]:
    """Yield the numbers and the pairs of one component."""
    rows = [
        {
            "number": number,
            "value": value if isinstance(value, int) else f"{value:,.1f}",
            "meaning": number_of(number).text,
        }
        for number, value in one.numbers.items()
    ]
    rows += [{"number": number, "value": text, "meaning": ""} for number, text in one.texts.items()]
    numbers = table(_NUMBER_COLUMNS, rows)
    numbers.title = one.name
    yield numbers
    if one.pairs:
        yield table(
            _PAIR_COLUMNS,
            (
                {
                    "pair": pair,
                    "state": news.state,
                    "age": "" if news.last_time is None else _length((now - news.last_time) / SECOND),
                    "reason": news.reason,
                }
                for pair, news in one.pairs.items()
            ),
        )


def _length(seconds: float) -> str:
    """Write a length of time in its largest whole unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
