"""`coin`: the command line."""

import asyncio
import json
import random
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from coin_platform.errors import BookError, CoinPlatformError, DecodeError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.model import Channel, Event, Pair, Region
from coin_platform.settings import PREFIX, Settings, load
from coin_platform.telemetry import set_up

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2."""
    try:
        app()
    except CoinPlatformError as error:
        print(f"coin: {error}", file=sys.stderr)
        sys.exit(2)


def _until_signal(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine that ends when its event is set; SIGINT and SIGTERM set it."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await work(stop)

    asyncio.run(run())


@app.command()
def collect(region: Annotated[Region, typer.Option(help="which exchanges: korea, asia or ne")]) -> None:
    """Collect a region's exchanges into the raw topics until Ctrl-C."""
    from coin_platform.broker import connect
    from coin_platform.collect.collector import Collector

    settings = load()
    set_up(settings.log_level)
    broker = connect(settings)
    try:
        _until_signal(lambda stop: Collector(region, settings, broker).run(stop))
    finally:
        broker.close()


@app.command()
def simulate(
    seed: Annotated[int | None, typer.Option(help="same seed, same market; default: a new one")] = None,
    log: Annotated[Path, typer.Option(help="folder for sent.jsonl, the log of what was sent")] = Path("data/simulator"),
) -> None:
    """Serve simulated exchanges on 127.0.0.1 until Ctrl-C."""
    from coin_platform.simulator.server import Simulator, open_log

    settings = load()
    set_up(settings.log_level)
    seed = random.randrange(1 << 32) if seed is None else seed
    console.print(f"seed {seed}")
    with open_log(settings.path(log)) as sent:
        _until_signal(Simulator(settings, seed, sent).run)


@app.command()
def demo(seconds: Annotated[int, typer.Option(help="end with an error after this long")] = 480) -> None:
    """Simulated exchanges -> collectors -> Dagster windows -> checks -> a report whose numbers must add up."""
    from coin_platform.demo import run

    sys.exit(run(seconds))


@app.command()
def up() -> None:
    """Keep `dagster dev` and, unless live, the simulated exchanges running until Ctrl-C."""
    from coin_platform.demo import stay_up

    sys.exit(stay_up())


@app.command()
def exchanges() -> None:
    """List the exchanges: what they offer, and what would reveal a missing book message."""
    table = Table("exchange", "region", "partition", "channels", "book proof", "limits")
    for name, kind in EXCHANGES.items():
        channels = " ".join(sorted(kind.channels))
        limits = (
            f"{kind.limits.pairs_per_connection} pairs a connection, {kind.limits.messages_per_second:g} messages/s"
        )
        table.add_row(name, kind.region, str(kind.partition), channels, kind.proof, limits)
    console.print(table)


@app.command()
def settings() -> None:
    """List every setting with its value and meaning; secrets are not shown."""
    table, values = Table("setting", "value", "meaning"), load()
    for name, field in Settings.model_fields.items():
        table.add_row(PREFIX + name.upper(), str(getattr(values, name)), field.description or "")
    console.print(table)


@app.command()
def decode(exchange: str, file: Path) -> None:
    """Print what recorded messages say, one JSON object a line per event."""
    from coin_platform.recording import read

    kind = _exchange(exchange)
    for line, frame in read(kind, file):
        try:
            events = kind.decode(frame)
        except DecodeError as error:
            print(json.dumps({"kind": "dead", "line": line, "reason": str(error)}, ensure_ascii=False))
            continue
        for event in events:
            print(json.dumps(_describe(line, event), ensure_ascii=False))


@app.command()
def book(exchange: str, file: Path, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Replay recorded book messages and say whether the books hold."""
    from coin_platform.recording import Replay, read

    kind = _exchange(exchange)
    replay = Replay(kind)
    for line, frame in read(kind, file, channel=Channel.ORDERBOOK):
        try:
            replay.feed(frame)
        except (BookError, DecodeError) as error:
            print(f"line {line}: {error}", file=sys.stderr)
    print(json.dumps(replay.result(), indent=None if as_json else 2))


def _exchange(name: str) -> Exchange:
    if name not in EXCHANGES:
        raise typer.BadParameter(f"{name!r} is no exchange; there are {', '.join(EXCHANGES)}")
    return EXCHANGES[name]


def _describe(line: int, event: Event) -> dict[str, Any]:
    import msgspec

    from coin_platform.recording import columns, kind_of

    body = columns(event)
    pair: Pair | None = getattr(event, "pair", None)
    return {"kind": kind_of(event), "line": line, **({"pair": str(pair)} if pair else {}), **msgspec.to_builtins(body)}
