"""`coin up`, `demo`, `collect`, `preprocess` and `simulate`: run until Ctrl-C, or until done."""

import random
import sys
from contextlib import closing
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

BrokerName: TypeAlias = Literal["local", "kafka"]
LakeName: TypeAlias = Literal["folder", "s3"]
RegionOption: TypeAlias = Annotated[Region, typer.Option(help="collect or preprocess this region's exchanges")]


def up() -> None:
    """Run Dagster (UI, collectors, workers, windows) until Ctrl-C.

    With COIN_EXCHANGES_MODE=simulated the simulated exchanges run too.
    """
    from coin_platform.demo.run import stay_up

    sys.exit(stay_up())


def demo(
    seconds: Annotated[int, typer.Option(help="give up after this many seconds")] = 900,
    broker: Annotated[
        BrokerName, typer.Option(help="the local journal, or an Apache Kafka that the demo starts")
    ] = "local",
    lake: Annotated[LakeName, typer.Option(help="a folder, or an S3 server that the demo starts")] = "folder",
) -> None:
    """Run everything on simulated exchanges and write a report.

    Exit code 0: every message sent is stored once, and every check passed.
    """
    from coin_platform.demo.run import run

    services = ["kafka"] * (broker == "kafka") + ["seaweedfs"] * (lake == "s3")
    sys.exit(run(seconds, services))


def collect(
    region: RegionOption,
    take_over: Annotated[
        bool, typer.Option(help="replace the collector that runs on this machine, without a gap or a duplicate")
    ] = False,
) -> None:
    """Collect the exchanges of a region into the raw topics, until Ctrl-C."""
    give_back_memory()
    from coin_platform.broker import connect
    from coin_platform.cluster import open_cluster
    from coin_platform.cluster.leader import open_leadership
    from coin_platform.collect.candidate import Candidate
    from coin_platform.collect.gap_reports import loss_reporter

    settings = load()
    set_up(settings, f"collect {region}")
    _refuse_idle(region, settings)
    with (
        closing(open_leadership(settings, region.value, guest=take_over)) as leadership,
        closing(
            connect(settings, guest=take_over, on_loss=loss_reporter(settings), may_send=leadership.may_publish)
        ) as broker,
        closing(open_cluster(settings)) as cluster,
    ):
        until_signal(lambda stop: Candidate(region, settings, broker, cluster, leadership).run(stop))


def preprocess(region: RegionOption) -> None:
    """Turn the raw topics of a region into processed topics, dead letters and landing objects, until Ctrl-C."""
    give_back_memory()
    from coin_platform.broker import connect
    from coin_platform.cluster import open_cluster
    from coin_platform.lake import open_lake
    from coin_platform.preprocess.worker import preprocess as run_worker

    settings = load()
    set_up(settings, f"preprocess {region}")
    _refuse_idle(region, settings)
    broker, lake, cluster = connect(settings), open_lake(settings), open_cluster(settings)
    exchanges = exchanges_of(region, settings)
    try:
        until_signal(lambda stop: run_worker(region, exchanges, settings, broker, lake, stop, cluster))
    finally:
        broker.close()
        cluster.close()


def simulate(
    seed: Annotated[int | None, typer.Option(help="the same seed gives the same market; default: random")] = None,
    log: Annotated[Path, typer.Option(help="folder for sent.jsonl, the log of every message sent")] = Path(
        "data/simulator"
    ),
    rate: Annotated[float, typer.Option(min=0.1, max=100, help="market steps per second")] = 10.0,
    more_pairs: Annotated[
        int, typer.Option(min=0, max=1000, help="coins C01, C02 and so on that each exchange lists, too")
    ] = 0,
) -> None:
    """Serve simulated exchanges on 127.0.0.1, until Ctrl-C."""
    from coin_platform.simulator.sent_log import open_log
    from coin_platform.simulator.server import Simulator

    settings = load()
    set_up(settings, "simulate")
    seed = random.randrange(1 << 32) if seed is None else seed
    console.print(f"seed {seed}")
    with open_log(settings.path(log)) as sent:
        until_signal(Simulator(settings, seed, sent, rate=rate, more_pairs=more_pairs).run)


def _refuse_idle(region: Region, settings: Settings) -> None:
    """Raise `SettingsError` if the settings leave nothing to collect in a region. The process would wait for ever."""
    if not any(collects(exchange, settings) for exchange in exchanges_of(region, settings)):
        raise SettingsError(
            f"--region {region}: {PREFIX}EXCHANGES, {PREFIX}CHANNELS and {PREFIX}PAIRS leave nothing to collect"
        )
