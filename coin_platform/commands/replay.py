"""`coin replay`: recorded frames as a live feed."""

from pathlib import Path
from typing import Annotated

import typer

from coin_platform.runtime.logs import set_up
from coin_platform.runtime.stop import until_signal
from coin_platform.settings import load


def replay(
    folder: Annotated[Path, typer.Argument(help="folder of <exchange>/<channel>.jsonl, as `coin capture` writes it")],
    speed: Annotated[float, typer.Option(help="so many times as fast as it came")] = 1.0,
    loop: Annotated[bool, typer.Option(help="begin again at the end")] = False,
    log: Annotated[Path, typer.Option(help="folder for sent.jsonl, the log of what was sent")] = Path("data/replay"),
) -> None:
    """Serve recorded exchanges on 127.0.0.1 until everything is sent, or until Ctrl-C.

    They are where `coin simulate` has the simulated ones: what runs with COIN_EXCHANGES_MODE=simulated connects to
    them. A channel starts when somebody subscribes to it.
    """
    from coin_platform.simulator.replay import Replay
    from coin_platform.simulator.sent_log import open_log

    settings = load()
    set_up(settings.log_level)
    with open_log(settings.path(log)) as sent:
        until_signal(Replay(settings, folder, sent, speed=speed, loop=loop).run)
