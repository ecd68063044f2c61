"""`coin replay`: serve recorded frames as live exchanges, or what the lake holds as the live feed."""

from pathlib import Path
from typing import Annotated

import typer

from coin_platform.commands.arguments import chosen_exchanges, parse_range
from coin_platform.errors import BadArgument
from coin_platform.model import Window
from coin_platform.runtime.logs import set_up
from coin_platform.runtime.stop import until_signal
from coin_platform.settings import Settings, load


def replay(
    folder: Annotated[
        Path | None, typer.Argument(help="folder of <exchange>/<channel>.jsonl, as `coin capture` writes it")
    ] = None,
    speed: Annotated[float, typer.Option(help="times as fast as the frames were received")] = 1.0,
    loop: Annotated[bool, typer.Option(help="begin again after the last frame")] = False,
    log: Annotated[Path, typer.Option(help="folder for sent.jsonl, the log of every message sent")] = Path(
        "data/replay"
    ),
    serve: Annotated[bool, typer.Option("--serve", help="serve the lake's records as the live feed")] = False,
    start: Annotated[str | None, typer.Option("--from", help="with --serve: start in log time, UTC")] = None,
    end: Annotated[str | None, typer.Option("--to", help="with --serve: end in log time, UTC; default: now")] = None,
    exchange: Annotated[list[str] | None, typer.Option(help="with --serve: only these exchanges")] = None,
) -> None:
    """Serve what was collected once more, on 127.0.0.1, until all is sent, or until Ctrl-C.

    With a folder: the exchanges. Collectors with COIN_EXCHANGES_MODE=simulated connect to them, as they do to
    `coin simulate`. A channel starts when a collector subscribes to it.

    With --serve: the live feed, the control API and the monitor page, from the raw tables of the lake. Clients cannot
    tell the difference but by the times of the records. The deployment that runs here is not touched.
    """
    settings = load()
    if speed <= 0:
        raise BadArgument(f"--speed {speed:g}: write a number above 0, for example 10")
    if serve:
        if folder is not None or loop:
            raise BadArgument("--serve reads the lake: leave out the folder and --loop")
        if start is None:
            raise BadArgument("--serve needs --from, for example --from 2026-11-24T03:00")
        _serve(settings, parse_range(start, end), exchange, speed)
    elif folder is None:
        raise BadArgument("write the folder of the recordings, or --serve and --from for what the lake holds")
    elif start is not None or end is not None or exchange:
        raise BadArgument("--from, --to and --exchange belong to --serve; a folder is replayed whole")
    else:
        _replay(settings, folder, settings.path(log), speed, loop=loop)


def _replay(settings: Settings, folder: Path, log: Path, speed: float, *, loop: bool) -> None:
    from coin_platform.simulator.replay import Replay
    from coin_platform.simulator.sent_log import open_log

    set_up(settings, "replay")
    with open_log(log) as sent:
        until_signal(Replay(settings, folder, sent, speed=speed, loop=loop).run)


def _serve(settings: Settings, asked: Window, exchanges: list[str] | None, speed: float) -> None:
    from coin_platform.commands.replay_history import serve_history

    set_up(settings, "replay")
    names = [exchange.name for exchange in chosen_exchanges(exchanges, settings)]
    until_signal(lambda stop: serve_history(settings, names, asked, speed, stop))
