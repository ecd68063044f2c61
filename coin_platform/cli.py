"""`coin`: the command line."""

import json
import random
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coin_platform.commands import dead_letters, feeds, lake, topics
from coin_platform.commands.capture import capture
from coin_platform.commands.exchanges import exchanges
from coin_platform.commands.replay import replay
from coin_platform.commands.signals import until_signal
from coin_platform.errors import BookError, CoinPlatformError, DecodeError, SettingsError
from coin_platform.exchanges import EXCHANGES
from coin_platform.exchanges.base import Exchange
from coin_platform.memory import give_back_memory
from coin_platform.model import Channel, Event, Pair, Region
from coin_platform.settings import PREFIX, Settings, load
from coin_platform.telemetry import set_up

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(lake.app, name="lake")
app.add_typer(topics.app, name="topics")
app.command()(capture)
app.command()(replay)
app.add_typer(dead_letters.app, name="dead-letters")
app.command()(exchanges)
app.add_typer(feeds.pairs, name="pairs")
app.command()(feeds.ticker)
console = Console()

BrokerKind: TypeAlias = Literal["local", "kafka"]
LakeKind: TypeAlias = Literal["folder", "s3"]


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2."""
    try:
        app()
    except CoinPlatformError as error:
        print(f"coin: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def collect(
    region: Annotated[Region, typer.Option(help="which exchanges: korea, asia or ne")],
    take_over: Annotated[bool, typer.Option(help="from the collector that runs here: no gap, no double")] = False,
) -> None:
    """Collect a region's exchanges into the raw topics until Ctrl-C."""
    give_back_memory()
    from coin_platform.broker import connect
    from coin_platform.collect.collector import Collector

    settings = load()
    set_up(settings.log_level)
    _refuse_idle(region, settings)
    broker = connect(settings, guest=take_over)
    try:
        until_signal(lambda stop: Collector(region, settings, broker).run(stop))
    finally:
        broker.close()


@app.command()
def preprocess(region: Annotated[Region, typer.Option(help="which exchanges: korea, asia or ne")]) -> None:
    """Turn a region's raw topics into processed records, dead letters and landing objects until Ctrl-C."""
    give_back_memory()
    from coin_platform.broker import connect
    from coin_platform.collect.collector import exchanges_of
    from coin_platform.lake import open_lake
    from coin_platform.preprocess.worker import preprocess as work

    settings = load()
    set_up(settings.log_level)
    _refuse_idle(region, settings)
    broker, lake = connect(settings), open_lake(settings)
    try:
        until_signal(lambda stop: work(region, exchanges_of(region, settings), settings, broker, lake, stop))
    finally:
        broker.close()


@app.command()
def simulate(
    seed: Annotated[int | None, typer.Option(help="same seed, same market; default: a new one")] = None,
    log: Annotated[Path, typer.Option(help="folder for sent.jsonl, the log of what was sent")] = Path("data/simulator"),
    rate: Annotated[float, typer.Option(min=0.1, max=100, help="steps of the market a second")] = 10.0,
) -> None:
    """Serve simulated exchanges on 127.0.0.1 until Ctrl-C."""
    from coin_platform.simulator.server import Simulator, open_log

    settings = load()
    set_up(settings.log_level)
    seed = random.randrange(1 << 32) if seed is None else seed
    console.print(f"seed {seed}")
    with open_log(settings.path(log)) as sent:
        until_signal(Simulator(settings, seed, sent, rate=rate).run)


@app.command()
def demo(
    seconds: Annotated[int, typer.Option(help="end with an error after this long")] = 900,
    broker: Annotated[BrokerKind, typer.Option(help="the embedded journal, or an Apache Kafka of its own")] = "local",
    lake: Annotated[LakeKind, typer.Option(help="a folder, or an S3 server of its own")] = "folder",
) -> None:
    """Simulated exchanges -> collectors -> Dagster windows -> checks -> a report whose numbers must add up."""
    from coin_platform.demo import run

    services = ["kafka"] * (broker == "kafka") + ["seaweedfs"] * (lake == "s3")
    sys.exit(run(seconds, services))


@app.command()
def up() -> None:
    """Keep `dagster dev` and, unless live, the simulated exchanges running until Ctrl-C."""
    from coin_platform.demo import stay_up

    sys.exit(stay_up())


@app.command()
def settings() -> None:
    """List every setting with its value and meaning; secrets are not shown."""
    table, values = Table("setting", "value", "meaning"), load()
    for name, field in Settings.model_fields.items():
        table.add_row(PREFIX + name.upper(), *map(Text, (str(getattr(values, name)), field.description or "")))
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


def _refuse_idle(region: Region, settings: Settings) -> None:
    """Raise `SettingsError` if the choice leaves nothing of a region: the process would wait for ever."""
    if not any(settings.collects(name) for name, kind in EXCHANGES.items() if kind.region is region):
        raise SettingsError(
            f"--region {region}: {PREFIX}EXCHANGES, {PREFIX}CHANNELS and {PREFIX}PAIRS leave nothing to collect there"
        )


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
