"""`coin collect`, `preprocess`, `simulate`, `demo` and `up`: what runs until Ctrl-C or until it is done."""

import random
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from rich.console import Console

from coin_platform.errors import SettingsError
from coin_platform.model import Region
from coin_platform.runtime.logs import set_up
from coin_platform.runtime.memory import give_back_memory
from coin_platform.runtime.stop import until_signal
from coin_platform.selection import collects, exchanges_of
from coin_platform.settings import PREFIX, Settings, load

console = Console()

BrokerKind: TypeAlias = Literal["local", "kafka"]
LakeKind: TypeAlias = Literal["folder", "s3"]


def collect(
    region: Annotated[Region, typer.Option(help="which exchanges: korea, asia or ne")],
    take_over: Annotated[bool, typer.Option(help="from the collector that runs here: no gap, no double")] = False,
) -> None:
    """Collect a region's exchanges into the raw topics until Ctrl-C."""
    give_back_memory()
    from coin_platform.broker import connect
    from coin_platform.collect.collector import Collector
    from coin_platform.collect.gap_reports import loss_reporter

    settings = load()
    set_up(settings.log_level)
    _refuse_idle(region, settings)
    broker = connect(settings, guest=take_over, on_loss=loss_reporter(settings))
    try:
        until_signal(lambda stop: Collector(region, settings, broker).run(stop))
    finally:
        broker.close()


def preprocess(region: Annotated[Region, typer.Option(help="which exchanges: korea, asia or ne")]) -> None:
    """Turn a region's raw topics into processed records, dead letters and landing objects until Ctrl-C."""
    give_back_memory()
    from coin_platform.broker import connect
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


def demo(
    seconds: Annotated[int, typer.Option(help="end with an error after this long")] = 900,
    broker: Annotated[BrokerKind, typer.Option(help="the embedded journal, or an Apache Kafka of its own")] = "local",
    lake: Annotated[LakeKind, typer.Option(help="a folder, or an S3 server of its own")] = "folder",
) -> None:
    """Simulated exchanges -> collectors -> Dagster windows -> checks -> a report whose numbers must add up."""
    from coin_platform.demo.run import run

    services = ["kafka"] * (broker == "kafka") + ["seaweedfs"] * (lake == "s3")
    sys.exit(run(seconds, services))


def up() -> None:
    """Keep `dagster dev` and, unless live, the simulated exchanges running until Ctrl-C."""
    from coin_platform.demo.run import stay_up

    sys.exit(stay_up())


def _refuse_idle(region: Region, settings: Settings) -> None:
    """Raise `SettingsError` if the choice leaves nothing of a region: the process would wait for ever."""
    if not any(collects(exchange, settings) for exchange in exchanges_of(region, settings)):
        raise SettingsError(
            f"--region {region}: {PREFIX}EXCHANGES, {PREFIX}CHANNELS and {PREFIX}PAIRS leave nothing to collect there"
        )
