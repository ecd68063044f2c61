"""`coin replay`: serve recorded frames as a live feed."""

from pathlib import Path
from typing import Annotated

import typer

from coin_platform.runtime.logs import set_up
from coin_platform.runtime.stop import until_signal
from coin_platform.settings import load


def replay(
    folder: Annotated[Path, typer.Argument(help="folder of <exchange>/<channel>.jsonl, as `coin capture` writes it")],
    speed: Annotated[float, typer.Option(help="times as fast as the frames were received")] = 1.0,
    loop: Annotated[bool, typer.Option(help="begin again after the last frame")] = False,
    log: Annotated[Path, typer.Option(help="folder for sent.jsonl, the log of every message sent")] = Path(
        "data/replay"
    ),
) -> None:
    """Serve recorded exchanges on 127.0.0.1 until every frame is sent, or until Ctrl-C.

    Collectors with COIN_EXCHANGES_MODE=simulated connect to them, as they do to `coin simulate`.
    A channel starts when a collector subscribes to it.
    """
    from coin_platform.simulator.replay import Replay
    from coin_platform.simulator.sent_log import open_log

    settings = load()
    set_up(settings, "replay")
    with open_log(settings.path(log)) as sent:
        until_signal(Replay(settings, folder, sent, speed=speed, loop=loop).run)
